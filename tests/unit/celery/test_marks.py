"""Marks in JSON: what kombu writes is read, and the other way round."""

import json
import sys
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest

from streamq.celery.kombu.utils.json import dumps, loads, register_type
from streamq.celery.marks import readers, with_marks, writers
from streamq.errors import DecodeError, EncodeError

MARKED = [
    (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))), "datetime",
     "2026-01-02T03:00:00+01:00"),
    (date(2026, 1, 2), "date", "2026-01-02"),
    (time(3, 4), "time", "03:04:00"),
    (Decimal("1.50"), "decimal", "1.50"),
    (UUID(int=1), "uuid", {"hex": "00000000000000000000000000000001"}),
    (b"text", "bytes", "text"),
    (b"\xff", "base64", "/w=="),
]  # fmt: skip


@pytest.mark.parametrize(("value", "name", "written"), MARKED, ids=[m[1] for m in MARKED])
def test_a_value_is_written_with_the_mark_of_kombu_and_read_back(value, name, written):
    data = dumps({"a": [value]})

    assert json.loads(data) == {"a": [{"__type__": name, "__value__": written}]}
    assert loads(data) == {"a": [value]}


def test_values_without_marks_are_not_copied():
    for value in ([1, "a", None], {"a": {"b": [1, [2]]}}, "text", (1.5, True)):
        assert with_marks(value) is value


def test_keys_that_are_no_text_become_text_as_with_celery():
    assert loads(dumps({1: {2.5: date(2026, 1, 2)}, None: 3, False: 4})) == {
        "1": {"2.5": date(2026, 1, 2)}, "null": 3, "false": 4,
    }  # fmt: skip
    with pytest.raises(EncodeError, match="key"):
        dumps({(1, 2): 3})


def test_a_type_of_ones_own_is_carried():
    class Money:
        def __init__(self, cents):
            self.cents = cents

    register_type(Money, "money", lambda value: value.cents, Money)
    try:
        assert loads(dumps([Money(7)]))[0].cents == 7
    finally:
        del writers[Money], readers["money"]


def test_an_object_with_its_own_json_is_written_so():
    class Point:
        def __json__(self):
            return {"x": Decimal(1)}

    assert loads(dumps([Point()])) == [{"x": Decimal(1)}]


def test_a_lazy_text_of_django_is_written_as_text(monkeypatch):
    class Promise:
        def __str__(self):
            return "Bonjour"

    names = SimpleNamespace(Promise=Promise)
    monkeypatch.setitem(sys.modules, "django.utils.functional", names)

    assert loads(dumps({"greeting": Promise()})) == {"greeting": "Bonjour"}


def test_only_json_is_written_with_marks(app):
    payloads, value = app.payloads, [date(2026, 1, 2), b"text"]

    assert b"__type__" in payloads.write(value, "json", None, "it")
    assert b"__type__" not in payloads.write(value, "pickle", None, "it")
    assert b"__type__" not in payloads.write(value, "msgpack", None, "it")


def test_unknown_marks_stay_as_they_are_and_broken_ones_are_refused():
    unknown = {"__type__": "colour", "__value__": "red"}

    assert loads(dumps([unknown])) == [unknown]
    with pytest.raises(DecodeError, match="marked value"):
        loads('[{"__type__": "uuid", "__value__": {"hex": "x"}}]')
    with pytest.raises(DecodeError, match="marked value"):
        loads('[{"__type__": ["a"], "__value__": 1}]')


def test_what_json_cannot_carry_is_still_an_encode_error():
    with pytest.raises(EncodeError):
        dumps([object()])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=str)
def test_a_value_that_contains_itself_is_an_encode_error(app, options):
    endless = []
    endless.append(endless)

    with pytest.raises(EncodeError):
        app.task(name="t")(lambda x: x).apply_async((endless,), **options)
