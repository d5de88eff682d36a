"""The line that gives a user the rights of a role."""

import hashlib
from typing import Any

import pytest

from streamq.acl.footprint import Access
from streamq.acl.roles import ROLES, ROOT, rule
from streamq.errors import ConfigError
from streamq.transport.keys import Keys


def line_of(*needs: tuple[str, str], **options: Any) -> str:
    """The rule for some rights; kinds are parted by spaces."""
    accesses = [Access(command, frozenset(kinds.split())) for command, kinds in needs]
    return rule(accesses, Keys(), **{"user": "me", "channels": False, **options})


def test_a_rule_begins_with_nothing_and_gives_what_is_needed():
    said = line_of(("EVALSHA", ROOT), ("TIME", ""), ("XADD", "queue:*"), channels=True)

    assert said == (
        "ACL SETUSER me reset on >PASSWORD resetchannels &{streamq}:* ~{streamq} +evalsha +time "
        "(~{streamq}:queue:* +xadd)"
    )


def test_keys_that_are_only_read_are_given_for_reading():
    said = line_of(("XLEN", "queue:*"), ("HGET", "queues"), ("HSET", "queues"))

    assert "(%R~{streamq}:queue:* +xlen)" in said
    assert "(~{streamq}:queues +hget +hset)" in said


def test_keys_that_one_command_names_together_are_given_together():
    said = line_of(("DEL", "routes:* bindings:*"), ("DEL", "routes:*"), ("DEL", "bindings:*"))

    assert "(~{streamq}:bindings:* ~{streamq}:routes:* +del)" in said


def test_what_redis_7_0_does_not_know_is_given_only_where_it_is_known():
    need = ("CLIENT|SETINFO", "")

    assert "setinfo" not in line_of(need)
    assert "+client|setinfo" in line_of(need, newer=["CLIENT|SETINFO"])


def test_only_the_hash_of_a_password_is_shown():
    said = line_of(password="s3cret")

    assert "s3cret" not in said
    assert f" #{hashlib.sha256(b's3cret').hexdigest()} " in said


def test_a_namespace_is_no_pattern():
    needs = [Access("GET", frozenset({"publisher:*"}))]

    assert r"(%R~{a\*\[b]}:publisher:* +get)" in rule(needs, Keys("a*[b]"), user="me")


@pytest.mark.parametrize("name", ["a b", "a)", "(a", 'a"b', "a'b", ""])
def test_a_name_that_redis_cli_would_read_otherwise_is_refused(name):
    with pytest.raises(ConfigError, match="no rule can be written"):
        rule([Access("PING")], Keys(), user=name)
    if name:
        with pytest.raises(ConfigError, match="no rule can be written"):
            rule([Access("PING")], Keys(name), user="me", channels=True)


def test_no_role_may_read_what_it_need_not():
    may = {
        name: {(n.command, k) for n in role.needs for k in n.kinds} for name, role in ROLES.items()
    }

    assert ("XRANGE", "queue:*") in may["worker"]
    assert ("XRANGE", "queue:*") not in may["producer"]
    assert not {kind for _, kind in may["monitor"]} & {"task:*", "reply:*", "publisher:*", ROOT}
    assert {command for command, kind in may["monitor"] if kind == "queue:*"} == {
        "XLEN", "XPENDING", "XINFO|GROUPS", "XINFO|CONSUMERS", "TYPE"
    }  # fmt: skip
    everything = {command for pairs in may.values() for command, _ in pairs}
    assert not everything & {"KEYS", "SCAN", "FLUSHALL", "FLUSHDB", "EVAL", "XTRIM", "RENAME"}
