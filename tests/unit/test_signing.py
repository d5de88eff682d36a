"""Signatures: everything that matters is covered, and nothing else fits."""

import hmac
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamq.serialization.signing as signing
from streamq.config.config import Config
from streamq.core.log_limit import LogLimit
from streamq.errors import ConfigError, DecodeError, SignatureInvalid
from streamq.serialization.signing import UNSIGNED_FIELDS, KeyRing, Signer, make_signer, read_keys

SECRET, OTHER = b"s" * 32, b"o" * 32
RING = KeyRing({"k1": SECRET, "k2": OTHER})

FIELDS = {
    b"task": b"tasks.add",
    b"args": b"[1,2]",
    b"kwargs": b"{}",
    b"expires": b"1700000000000",
    b"headers": b'{"a":1}',
    b"content_type": b"application/json",
    b"priority": b"3",
}


def signer(ring=RING, key="k1", namespace="streamq", *, required=True):
    return Signer(ring, key, namespace, required=required)


def signed(fields=FIELDS, *, id=b"ID", queue=b"mail", by=None):
    return {**fields, b"signature": (by or signer()).signature(id, queue, fields)}


def refused(fields, *, id=b"ID", queue=b"mail", by=None):
    """What is said of a message; None if it may run."""
    try:
        (by or signer()).check(id, queue, fields)
    except SignatureInvalid as error:
        return str(error)
    return None


def test_what_was_signed_may_run():
    assert refused(signed()) is None
    assert signer().check(b"ID", b"mail", signed()) is True


def test_the_signature_names_its_key_and_can_be_read():
    key, _, digest = signed()[b"signature"].partition(b":")

    assert key == b"k1"
    assert len(bytes.fromhex(digest.decode())) == 32


def test_every_bit_of_every_field_counts():
    genuine = signed()
    for name, value in genuine.items():
        for bit in range(8 * len(value)):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            assert refused({**genuine, name: bytes(changed)}), (name, bit)
        for bit in range(8 * len(name)):
            changed = bytearray(name)
            changed[bit // 8] ^= 1 << bit % 8
            others = {each: genuine[each] for each in genuine if each != name}
            assert refused({**others, bytes(changed): value}), (name, bit)


def test_control_a_field_that_is_not_covered_can_be_changed(monkeypatch):
    monkeypatch.setattr(signing, "UNSIGNED_FIELDS", UNSIGNED_FIELDS | {b"args"})
    genuine = signed()

    assert refused({**genuine, b"args": b"[6,6]"}) is None


@given(
    st.dictionaries(st.binary(max_size=20), st.binary(max_size=50), max_size=8),
    st.randoms(use_true_random=False),
)
def test_whatever_is_sent_is_covered_to_the_bit(fields, chance: random.Random):
    fields = {name: value for name, value in fields.items() if name not in UNSIGNED_FIELDS}
    genuine = signed(fields)
    assert refused(genuine) is None

    name = chance.choice(sorted(genuine))
    value = genuine[name]
    if value:
        changed = bytearray(value)
        changed[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
        assert refused({**genuine, name: bytes(changed)})
    assert refused({**genuine, b"more": b""}) or b"more" in fields
    if fields:
        assert refused({each: genuine[each] for each in genuine if each != sorted(fields)[0]})


@given(st.lists(st.binary(max_size=4), min_size=2, max_size=6), st.integers(0, 20))
def test_bytes_that_move_from_one_field_to_the_next_do_not_go_unseen(parts, cut):
    whole = b"".join(parts)
    first = {b"a": whole[:cut], b"b": whole[cut:]}
    second = {b"a": whole[: cut + 1], b"b": whole[cut + 1 :]}

    one, two = signed(first), signed(second)

    assert first == second or one[b"signature"] != two[b"signature"]


def test_what_changes_on_the_way_leaves_the_signature_good():
    moved = {**signed(), **dict.fromkeys(UNSIGNED_FIELDS - {b"signature"}, b"7")}

    assert refused(moved) is None


def test_a_message_is_bound_to_its_queue_its_id_and_its_namespace():
    genuine = signed()

    assert "moved here" in refused(genuine, queue=b"other")
    assert "does not fit" in refused(genuine, id=b"another")
    assert "does not fit" in refused(genuine, by=signer(namespace="elsewhere"))


def test_a_message_of_an_exchange_is_bound_to_that_and_its_key():
    fields = {**FIELDS, b"exchange": b"ex", b"routing_key": b"a.b"}
    genuine = signed(fields, queue=b"a.b")

    assert refused(genuine, queue=b"mail") is None
    assert refused({**genuine, b"exchange": b"other"})
    assert refused({**genuine, b"routing_key": b"a.c"})
    without = {name: value for name, value in genuine.items() if name != b"exchange"}
    assert refused(without, queue=b"mail")
    assert refused(without, queue=b"a.b")


def test_a_message_for_a_queue_cannot_be_passed_off_as_one_of_an_exchange():
    genuine = signed()

    assert refused({**genuine, b"exchange": b"ex"}, queue=b"other")
    assert refused({**genuine, b"exchange": b""}, queue=b"mail")


def test_a_copy_runs_in_the_queue_that_its_id_names_and_nowhere_else():
    genuine = signed({**FIELDS, b"exchange": b"ex", b"routing_key": b""}, queue=b"")

    assert refused(genuine, id=b"ID@mail", queue=b"mail") is None
    assert refused(genuine, id=b"ID@mail", queue=b"other")
    assert refused(genuine, id=b"ID@mail@mail", queue=b"mail")


def test_a_message_without_an_exchange_has_no_copies():
    assert refused(signed(), id=b"ID@mail", queue=b"mail")


def test_an_unsigned_message_is_refused_where_signing_is_required():
    said = refused(FIELDS)

    assert "not signed" in said
    assert "XADD" in said


def test_a_signature_that_was_taken_off_does_not_help():
    assert "not signed" in refused({n: v for n, v in signed().items() if n != b"signature"})


def test_permissive_lets_unsigned_messages_run_and_no_others():
    lenient = signer(required=False)

    assert lenient.check(b"ID", b"mail", FIELDS) is False
    assert refused({**signed(), b"args": b"[6]"}, by=lenient)
    assert refused({**FIELDS, b"signature": b""}, by=lenient)


@pytest.mark.parametrize(
    "signature", [b"", b":", b"k1", b"k1:", b"k1:00", b":" + b"0" * 64, b"\xff\x00", b"k1:\xff" * 9]
)
def test_what_is_no_signature_is_refused(signature):
    assert refused({**FIELDS, b"signature": signature})


def test_an_unknown_key_is_named_and_made_harmless():
    said = refused({**FIELDS, b"signature": b"k9\x1b[31m:" + b"0" * 64})

    assert "not known here: 'k9\\x1b[31m'" in said
    assert "k1, k2" in said


def test_a_signature_belongs_to_its_key_even_if_two_have_one_secret():
    twins = signer(KeyRing({"k1": SECRET, "k2": SECRET}))
    genuine = signed(by=twins)
    relabelled = genuine[b"signature"].replace(b"k1", b"k2")

    assert refused(genuine, by=twins) is None
    assert refused({**genuine, b"signature": relabelled}, by=twins)


def test_upper_case_digits_do_not_fit():
    genuine = signed()
    key, _, digest = genuine[b"signature"].partition(b":")

    assert refused({**genuine, b"signature": key + b":" + digest.upper()})


def test_any_key_of_the_ring_verifies_and_one_signs():
    old, new = signer(key="k1"), signer(key="k2")

    assert refused(signed(by=old), by=new) is None
    assert refused(signed(by=new), by=old) is None
    assert signed(by=new)[b"signature"].startswith(b"k2:")
    assert "not known here" in refused(signed(by=new), by=signer(KeyRing({"k1": SECRET})))


def test_a_worker_signs_anew_what_it_changes():
    worker = signer(key="k2")
    first = signed({**FIELDS, b"exchange": b"ex", b"routing_key": b""}, queue=b"")
    changed = {**first, b"id": b"ID@mail", b"args": b"[9]", b"retries": b"1"}
    assert refused(changed, id=b"ID@mail")

    changed[b"signature"] = worker.signature(b"ID@mail", b"mail", changed)

    assert refused(changed, id=b"ID@mail") is None


def test_signatures_are_compared_in_constant_time(monkeypatch):
    asked = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: asked.append((a, b)) or compare(a, b))

    assert refused(signed()) is None

    assert len(asked) == 1


def test_control_without_the_comparison_anything_runs(monkeypatch):
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: True)

    assert refused({**signed(), b"args": b"[6]"}) is None


# Keys


def test_keys_are_read_from_a_mapping_or_a_text():
    text = f"k1:{'s' * 32}, k2:{'o' * 31}:x"

    assert dict(read_keys(text, "it")) == {"k1": b"s" * 32, "k2": b"o" * 31 + b":x"}
    assert dict(read_keys({"k1": "ü" * 16, "k2": OTHER}, "it")) == {
        "k1": ("ü" * 16).encode(),
        "k2": OTHER,
    }


@pytest.mark.parametrize(
    "value",
    [
        "canary" * 6,
        "k1:canary",
        {"k1": "canary"},
        {"k1": b"canary"},
        {"canary!" * 9: SECRET},
        {"k1": 10**40},
        f"k1:{'canary' * 6},k1:{'canary' * 6}",
        f"k1:{'canary' * 6},{'canary' * 6}",
        "",
        {},
        ["canary"],
        7,
    ],
)
def test_keys_that_are_none_are_refused_without_being_shown(value):
    with pytest.raises(ConfigError) as refusal:
        read_keys(value, "signing_keys")

    assert "canary" not in str(refusal.value)
    assert "signing_keys" in str(refusal.value)


def test_a_ring_and_a_seal_show_no_secret():
    assert repr(RING) == str(RING) == "k1:***, k2:***"
    assert "sss" not in f"{signer()!r}{RING!r}{RING}"


def test_nothing_signs_where_signing_is_off():
    assert make_signer("off", RING, None, "streamq") is None


def test_signing_needs_keys_and_a_key_of_the_ring():
    with pytest.raises(ConfigError, match="no signing_keys"):
        make_signer("required", None, None, "streamq")
    with pytest.raises(ConfigError, match="id of none") as refusal:
        make_signer("required", RING, "canary", "streamq")
    assert "canary" not in str(refusal.value)
    assert make_signer("required", RING, None, "streamq").key == "k1"
    assert make_signer("permissive", RING, "k2", "streamq").key == "k2"


def test_settings_come_from_code_environment_and_file(tmp_path):
    (tmp_path / "streamq.toml").write_text(
        f'signing = "required"\n[signing_keys]\nk1 = "{"s" * 32}"\n'
    )

    filed = Config.load(environ={}, folder=tmp_path)
    environ = {"STREAMQ_SIGNING_KEYS": f"e1:{'s' * 32}", "STREAMQ_SIGNING_KEY": "e1"}
    both = Config.load(environ=environ, folder=tmp_path)

    assert (filed.signing, dict(filed.signing_keys)) == ("required", {"k1": SECRET})
    assert (list(both.signing_keys), both.signing_key) == (["e1"], "e1")


def test_settings_are_shown_without_secrets():
    conf = Config()
    conf.update(signing_keys={"k1": "canary" * 6}, signing_key="canary" * 6)

    told = repr(conf) + repr(conf.shown()) + repr(conf.items())

    assert "canary" not in told
    assert "k1:***" in told


def test_a_refusal_is_a_decode_error():
    assert issubclass(SignatureInvalid, DecodeError)
    assert issubclass(SignatureInvalid, ValueError)


def test_what_happens_often_is_said_seldom_and_counted():
    limit = LogLimit(60)

    said = [limit.due(now) for now in (0.0, 1.0, 59.9, 60.0)]

    assert said == [True, False, False, True]
    assert limit.take_skipped() == 2
    assert limit.take_skipped() == 0
