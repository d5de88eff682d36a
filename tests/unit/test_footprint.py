"""What a script asks of Redis, read from its text: never too little."""

import pytest

from scripts import footprint as table
from scripts.footprint import TYPES, ScriptReader
from streamq.acl.footprint import Access, footprint
from streamq.acl.roles import FOR_PEOPLE, ROLES
from streamq.errors import StreamqError
from streamq.transport import scripts

KEYS = """
local root = KEYS[1]
local function key_of(kind, name)
  return root
end
"""


def asked(text: str) -> set[tuple[str, str]]:
    """Command and kinds of each call of a made-up script."""
    found = ScriptReader("made-up", KEYS + text).accesses()
    return {(each.command, " ".join(sorted(each.kinds))) for each in found}


def test_a_key_is_one_of_its_kind():
    assert asked("redis.call('ZADD', key_of('leases'), 1, 'x')") == {("ZADD", "leases")}
    assert asked("redis.call('HSET', key_of('task', id), 'a', 1)") == {("HSET", "task:*")}
    assert asked("redis.pcall('GET', root .. ':publisher:' .. channel)") == {("GET", "publisher:*")}


def test_the_second_word_of_a_command_counts():
    text = "redis.pcall('XGROUP', 'CREATE', key_of('queue', name), 'workers', '0')"

    assert asked(text) == {("XGROUP|CREATE", "queue:*")}


def test_a_call_over_several_lines_is_read():
    assert asked("redis.call(\n  'HSET', key_of('task', id),\n  'a', 1\n)") == {("HSET", "task:*")}


def test_a_command_that_names_no_key_has_no_kind():
    assert asked("redis.call('TIME')") == {("TIME", "")}
    assert asked("redis.call('PUBLISH', key_of('notices'), '')") == {("PUBLISH", "")}


def test_several_keys_of_one_call_are_needed_together():
    found = asked("redis.call('DEL', key_of('routes', a), key_of('bindings', a))")

    assert found == {("DEL", "routes:*"), ("DEL", "bindings:*"), ("DEL", "bindings:* routes:*")}


def test_a_variable_is_followed_to_where_it_was_made():
    text = "local a, record = 1, key_of('task', id)\nredis.call('DEL', record)\nkey_of('dead', x)"

    assert asked(text) == {("DEL", "task:*")}


def test_a_parameter_is_followed_to_its_callers():
    text = """
local function drop(key)
  redis.call('DEL', key)
end
drop(key_of('publisher', x))
drop(key_of('dedup', x))
key_of('task', x)
"""

    assert asked(text) == {("DEL", "publisher:*"), ("DEL", "dedup:*")}


def test_a_key_from_a_function_is_what_it_returns():
    text = """
local function letter(queue)
  return key_of('dead', queue)
end
redis.call('DEL', letter(x), 1)
key_of('task', x)
"""

    assert ("DEL", "dead:*") in asked(text)


@pytest.mark.parametrize(
    "text",
    [
        "for _, key in ipairs(keys) do redis.call('DEL', key) end",
        "redis.call('DEL', ARGV[1])",
        "redis.call('DEL', queue.stream)",
        "local key = key_of('publisher', x)\nkey = ARGV[1]\nredis.call('DEL', key)",
        "local key = x and key_of('publisher', x)\n  or ARGV[1]\nredis.call('DEL', key)",
        "local key = key_of('publisher', x)\n  or ARGV[1]\nredis.call('DEL', key)",
        "local function drop(key)\n  redis.call('DEL', key)\nend\nlocal acts = { drop }",
    ],
)
def test_a_key_that_cannot_be_followed_may_be_of_any_kind(text):
    found = asked(f"{text}\nkey_of('task', x)\nkey_of('publisher', x)")

    assert found >= {("DEL", "task:*"), ("DEL", "publisher:*")}


def test_a_command_of_one_type_asks_for_keys_of_that_type_only():
    text = "redis.call('XACK', ARGV[1])\nkey_of('task', x)\nkey_of('queue', x)\nkey_of('new', x)"

    assert asked(text) == {("XACK", "queue:*"), ("XACK", "new:*")}


def test_a_function_that_is_never_called_asks_for_nothing():
    unused = "local function drop(key)\n  redis.call('DEL', key_of('task', 1))\nend\n"

    assert asked(unused) == set()
    assert asked(f"{unused}drop()") == {("DEL", "task:*")}


@pytest.mark.parametrize(
    "text",
    [
        "redis.call(command, key_of('task', x))",
        "local call = redis.call\ncall('DEL')",
        "local function note(kind)\n  redis.call('DEL', key_of(kind))\nend\nnote('revoked')",
    ],
)
def test_a_call_that_cannot_be_read_is_refused(text):
    with pytest.raises(StreamqError, match=r"made-up\.lua asks Redis in a way"):
        asked(text)


def test_two_functions_of_one_name_are_refused():
    twice = "local function drop(key)\n  redis.call('DEL', key)\nend\n" * 2

    with pytest.raises(StreamqError, match="two functions of one name"):
        asked(twice)


@pytest.mark.parametrize("name", scripts.names())
def test_every_script_can_be_read_and_its_kinds_have_types(name):
    kinds = {kind for access in footprint(name) for kind in access.kinds}

    assert {kind.removesuffix(":*") for kind in kinds} <= set(TYPES)


def test_the_table_says_what_the_scripts_ask():
    written = table.TABLE.read_text(encoding="utf-8")

    assert written == table.render(), "run: python scripts/footprint.py"


@pytest.mark.parametrize("name", scripts.names())
def test_the_table_keeps_what_was_read(name):
    assert footprint(name) == table.read(name)


def test_every_script_belongs_to_a_role_or_to_people():
    run = {name for role in ROLES.values() for name in role.scripts}

    assert not run & set(FOR_PEOPLE)
    assert sorted({*run, *FOR_PEOPLE}) == scripts.names()


def test_settling_touches_what_it_is_for_and_nothing_else():
    kinds = {kind for access in footprint("settle") for kind in access.kinds}

    assert Access("XACK", frozenset({"queue:*"})) in footprint("settle")
    assert not kinds & {"queues", "exchanges", "routes:*", "bindings:*", "script:*"}
