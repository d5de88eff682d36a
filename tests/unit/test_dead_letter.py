"""Dead letters chosen, read, and written as lines."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.admin.dead_letter import (
    DeadLetterFilter,
    enqueued_at,
    from_line,
    letter_of,
    parse_history,
    to_line,
)
from streamq.errors import DecodeError
from streamq.host.ids import new_id

DIED = {b"id": b"a", b"task": b"shop.mail", b"dead_reason": b"odd", b"dead_at": b"1700000000123"}


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        ({}, True),
        ({"task": "shop.mail"}, True),
        ({"task": "shop.*"}, True),
        ({"task": "*mail"}, True),
        ({"task": "shop"}, False),
        ({"task": "Shop.mail"}, False),
        ({"reason": "task"}, True),
        ({"reason": "UNKNOWN"}, True),
        ({"reason": "unk*"}, True),
        ({"reason": "task*"}, False),
        ({"reason": "crashed"}, False),
        ({"task": "shop.*", "reason": "crashed"}, False),
        ({"task": "other.*", "reason": "task"}, False),
    ],
)
def test_letters_are_chosen_by_name_and_reason(which, fits):
    assert DeadLetterFilter(**which).matches("shop.mail", "unknown task") is fits


def test_ages_become_times_of_death():
    assert DeadLetterFilter().score_range(100_000) == ("-inf", "100000")
    assert DeadLetterFilter(older=1.5).score_range(100_000) == ("-inf", "98500")
    assert DeadLetterFilter(newer=60).score_range(100_000) == ("40000", "100000")


def test_a_letter_parts_the_message_from_what_was_written_when_it_died():
    raw = {**DIED, b"args": b"\xff[1]", b"dead_worker": b"w:1:x", b"dead_first_at": b"1"}

    letter = letter_of("mail", b"a#2", raw)

    assert letter.fields == {"id": "a", "task": "shop.mail", "args": "\\xff[1]"}
    assert (letter.letter, letter.id, letter.reason, letter.worker) == ("a#2", "a", "odd", "w:1:x")
    assert letter.at == 1700000000.123
    assert letter.notes == {"first_at": "1"}


def test_a_letter_of_which_nothing_is_known_is_a_letter_all_the_same():
    letter = letter_of("mail", b"\xff", {b"word": b"no task", b"dead_at": b"x", b"history": b"{"})

    assert (letter.letter, letter.task, letter.at, letter.history) == ("\\xff", "", 0.0, [])


def test_a_history_is_a_death_a_line():
    history = (
        '{"at":1500,"reason":"odd","error":"e","worker":"w","enqueued":1000}\n'
        "what somebody typed\n"
        '{"at":2500,"reason":"again\u2028","error":"","worker":"","enqueued":null}'
    )

    first, second = parse_history(history)

    assert first == {"at": 1.5, "reason": "odd", "error": "e", "worker": "w", "enqueued": 1.0}
    assert (second["at"], second["reason"], second["enqueued"]) == (2.5, "again\u2028", None)


def test_ids_tell_when_a_message_was_sent_unless_they_were_chosen():
    assert enqueued_at("mail", "mail-1700000000123-0") == 1700000000.123
    assert enqueued_at("mail", "post-1700000000123-0") is None
    assert enqueued_at("mail", "order-17") is None
    id = new_id()
    assert enqueued_at("mail", id) == int(id[:11], 16) / 1000


# Lines

anything = st.one_of(st.binary(), st.text().map(lambda text: text.encode(errors="replace")))


@given(letter=anything, fields=st.dictionaries(anything, anything))
def test_a_line_brings_back_every_byte(letter, fields):
    fields = {**fields, **DIED}
    line = to_line("mail", letter, fields)

    exported = from_line(line)

    assert b"\n" not in line
    assert (exported.queue, exported.letter, exported.at) == ("mail", letter, 1700000000123)
    assert exported.fields == fields


def test_a_line_is_text_where_text_will_do():
    fields = {**DIED, b"args": b'["\xc3\xa9"]', b"kwargs": b"\xff", b"\xfe": b"odd"}

    told = json.loads(to_line("mail", b"a", fields))

    assert told == {
        "queue": "mail",
        "letter": "a",
        "fields": {
            **{name.decode(): value.decode() for name, value in DIED.items()},
            "args": '["é"]',
            "kwargs": {"base64": base64.b64encode(b"\xff").decode()},
        },
        "odd": [[{"base64": base64.b64encode(b"\xfe").decode()}, "odd"]],
    }


def test_a_letter_is_the_same_line_in_whatever_order_redis_gives_its_fields():
    fields = {b"task": b"t", b"id": b"a", b"\xff": b"odd", b"dead_at": b"1"}

    assert to_line("mail", b"a", fields) == to_line("mail", b"a", dict(reversed(fields.items())))


def line(**changes):
    fields = {name.decode(): value.decode() for name, value in DIED.items()}
    told = {"queue": "mail", "letter": "a", "fields": {**fields, **changes.pop("fields", {})}}
    return json.dumps({**told, **changes}).encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `queue`"),
        (line(queue="a:b"), "cannot be used"),
        (line(queue=5), "Expected `str`"),
        (line(more=1), "unknown field `more`"),
        (line(letter={"base64": "?"}), "base64"),
        (line(fields={"args": [1]}), "`$.fields[...]`"),
        (line(fields={"dead_at": "soon"}), "dead_at is no time"),
        (line(fields={"dead_at": "9" * 16}), "dead_at is no time"),
        (line().replace(b"dead_reason", b"reason"), "no field 'dead_reason'"),
        (line().replace(b'"id"', b'"ID"'), "no field 'id'"),
        (line(fields={"args": "\ud800"}), ""),
    ],
)
def test_a_line_that_is_none_is_refused_with_the_reason(text, said):
    with pytest.raises(DecodeError) as caught:
        from_line(text)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
