"""Values on their way to a task: they arrive as they were, or are refused where they are sent."""

import asyncio
from collections import ChainMap, UserDict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import NamedTuple, Optional

import pytest

from streamq.errors import ConfigError, EncodeError, PartlyPublished, Retry


class Point(NamedTuple):
    x: int
    wait: timedelta = timedelta(0)


Plain = namedtuple("Plain", "a b")


class Pair(Enum):
    ONE = (1, 2)
    TWO = (3, 4)


class Mixed(Enum):
    TEXT = "a"
    HALF = 0.5


class Size(IntEnum):
    BIG = 2


class Day(Enum):
    FIRST = date(2026, 1, 1)


class Raw(Enum):
    SHORT = b"\x00"


class Moment(Enum):
    START = datetime(2026, 1, 1, tzinfo=UTC)


class Odd(Enum):
    NOTHING = None
    MAP = {"a": 1}  # noqa: RUF012
    LISTS = ([1], 2)


@dataclass
class Order:
    wait: timedelta
    tags: frozenset[str]
    raw: bytearray
    at: Point
    size: Size = Size.BIG
    kind: Mixed = Mixed.HALF
    again: timedelta | None = None
    parts: list[Mixed] = field(default_factory=list)


@dataclass
class Bag:
    pair: Pair
    inside: "list[Bag]" = field(default_factory=list)


ORDER = Order(timedelta(1), frozenset("ab"), bytearray(b"x"), Point(1, timedelta(2)))

CARRIED = [
    (timedelta, timedelta(days=1, seconds=5)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (timedelta, timedelta.max),
    (frozenset, frozenset({1, 2})),
    (frozenset[timedelta], frozenset({timedelta(1)})),
    (bytearray, bytearray(b"\x00\xff")),
    (Point, Point(1, timedelta(2))),
    (Plain, Plain("a", 1)),
    (Pair, Pair.TWO),
    (Mixed, Mixed.HALF),
    (Day, Day.FIRST),
    (Raw, Raw.SHORT),
    (Moment, Moment.START),
    (tuple[timedelta, ...], (timedelta(1), timedelta(2))),
    (tuple[Point, Mixed], (Point(1), Mixed.TEXT)),
    (set[timedelta], {timedelta(1)}),
    (Order, ORDER),
    (Bag, Bag(Pair.ONE, [Bag(Pair.TWO)])),
]


@pytest.fixture
def offline(make_app):
    """An app that has no Redis."""
    return make_app(url="redis://localhost:1", accept_content=["json", "pickle", "msgpack", "yaml"])


def same(one, other):
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize(("annotation", "value"), CARRIED)
def test_an_annotated_value_arrives_as_it_was(offline, annotation, value, serializer):
    seen = []

    for form in (annotation, Optional[annotation]):  # noqa: UP045

        def keep(value, *, named=None):
            seen.append((value, named))

        keep.__annotations__ = {"value": form, "named": form}
        task = offline.task(name=f"keep{len(seen)}", serializer=serializer)(keep)
        task.apply((value,), {"named": value}).get()

    assert all(same(one, value) and same(other, value) for one, other in seen)
    assert len(seen) == 2


@pytest.mark.parametrize("annotation", [timedelta, Point, Pair, Mixed, Bag])
def test_an_annotated_result_arrives_as_it_was(offline, annotation):
    value = dict(CARRIED)[annotation]

    def give():
        return value

    give.__annotations__ = {"return": annotation}

    assert same(offline.task(give).apply().get(), value)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (timedelta(days=1, seconds=5), "P1DT5S"),
        (frozenset({1}), [1]),
        (bytearray(b"x"), "eA=="),
        (Point(1), [1, "P0D"]),
        (Day.FIRST, "2026-01-01"),
        (Mixed.HALF, 0.5),
    ],
)
def test_without_an_annotation_it_is_text_or_a_list(offline, value, got):
    seen = []
    offline.task(name="t")(lambda value: seen.append(value)).apply((value,)).get()

    assert seen == [got]


REFUSED = [
    Pair.ONE,
    Odd.NOTHING,
    Odd.MAP,
    Odd.LISTS,
    {Point(1)},
    frozenset({Plain(1, 2)}),
    [Pair.ONE],
    {"a": {"b": (Pair.ONE,)}},
    Bag(Pair.ONE),
    [{Point(1)}],
]


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_no_annotation_turns_back_is_refused_where_it_is_sent(offline, value, serializer):
    task = offline.task(name="t", serializer=serializer)(lambda value, *, named=None: None)
    calls = {
        "enqueue": lambda: task.enqueue(value),
        "by name": lambda: task.enqueue(1, named=value),
        "apply": lambda: task.apply((value,)),
        "apply_async": lambda: task.apply_async((value,)),
        "a signature": lambda: offline.enqueue(task.s(value)),
        "asyncio": lambda: asyncio.run(task.aenqueue(value)),
    }

    for how, call in calls.items():
        with pytest.raises(EncodeError) as refused:
            call()
        assert (
            "Pair" in str(refused.value)
            or "Odd" in str(refused.value)
            or "set" in str(refused.value)
        ), how
    with pytest.raises(PartlyPublished, match="0 messages were accepted") as partly:
        offline.enqueue_many([task.s(value)])
    assert isinstance(partly.value.__cause__, EncodeError)


def test_a_refusal_says_which_value_and_what_to_send(offline):
    task = offline.task(name="t")(lambda *args: None)

    with pytest.raises(EncodeError) as refused:
        task.enqueue(1, {"pairs": [Pair.ONE]})

    assert "Pair.ONE, whose value is no text and no number, at $[1].pairs[0]" in str(refused.value)
    assert "Pair[name]" in str(refused.value)


def test_a_wrong_annotation_helps_nothing(offline):
    def task(value: Mixed, other: Pair = Pair.ONE): ...

    with pytest.raises(EncodeError):
        offline.task(task).enqueue(Pair.ONE)


def test_a_result_that_nothing_turns_back_fails_its_task(offline):
    result = offline.task(name="t")(lambda: Pair.ONE).apply()

    with pytest.raises(EncodeError, match=r"Pair\.ONE"):
        result.get()


@pytest.mark.parametrize(
    "value",
    [timedelta(1), frozenset({1}), bytearray(b"x"), Point(1), Pair.ONE, {(1, 2)}, [{(1, 2): 3}]],
    ids=repr,
)
def test_yaml_refuses_what_it_has_no_word_for(offline, value):
    with pytest.raises(EncodeError, match="yaml"):
        offline.task(name="t", serializer="yaml")(lambda value: None).enqueue(value)


@pytest.mark.parametrize(
    "key", [Point(1), Pair.ONE, Size.BIG, timedelta(1), date(2026, 1, 1), frozenset({1})], ids=repr
)
def test_a_key_that_would_become_another_is_refused(offline, key):
    for serializer in ("json", "msgpack"):
        with pytest.raises(EncodeError):
            offline.task(name=serializer, serializer=serializer)(lambda value: None).enqueue(
                {key: 1}
            )


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), [float("inf")], {1: 2}, {"a": {Decimal(1): 2}}, object, Pair.ONE, "\ud800"),
        *(b"red", {"red"}, date(2026, 1, 1), [timedelta(1)], {"a": [Decimal(1)]}, Point(1)),
    ],
    ids=repr,
)
def test_a_header_that_cannot_be_sent_is_named(offline, value):
    task = offline.task(name="t")(lambda: None)

    for call in (
        lambda: task.options(headers={"fine": 1, "colour": value}).enqueue(),
        lambda: task.apply_async(headers={"colour": value}),
        lambda: task.options(headers={"colour": value}, exchange="x").enqueue(),
    ):
        with pytest.raises(EncodeError, match="the header 'colour' cannot be sent"):
            call()


@pytest.mark.parametrize("args", ["ab", "", b"ab", bytearray(b"ab"), {"a": 1}, {1, 2}, 5, 0])
def test_what_is_no_list_of_arguments_is_refused(offline, args):
    task = offline.task(name="t")(lambda *args: args)

    for call in (
        lambda: task.apply_async(args),
        lambda: task.apply(args),
        lambda: offline.signature("shop.add", args),
        lambda: Retry(args=args),
    ):
        with pytest.raises(TypeError, match="args must be a list or tuple of arguments, not"):
            call()


@pytest.mark.parametrize("kwargs", ["ab", "", [("a", 1)], {1: 2}, 5])
def test_what_is_no_mapping_from_names_is_refused(offline, kwargs):
    task = offline.task(name="t")(lambda **kwargs: kwargs)

    for call in (
        lambda: task.apply_async((), kwargs),
        lambda: task.apply((), kwargs),
        lambda: offline.signature("shop.add", (), kwargs),
        lambda: Retry(kwargs=kwargs),
    ):
        with pytest.raises(TypeError, match="kwargs"):
            call()


@pytest.mark.parametrize(
    "kwargs", [MappingProxyType({"a": 1}), ChainMap({"a": 1}), UserDict(a=1)], ids=repr
)
def test_any_mapping_from_names_will_do(offline, kwargs):
    task = offline.task(name="t")(lambda a: a)

    assert task.apply((), kwargs).get() == 1


@pytest.mark.parametrize("changes", [{"args": [Pair.TWO]}, {"kwargs": {"pair": Pair.TWO}}])
def test_what_a_retry_changes_is_carried_as_what_is_sent(offline, changes):
    @offline.task(bind=True)
    def task(self, pair: Pair = Pair.ONE, plain=None):
        if not self.request.retries:
            raise Retry(countdown=0, **changes)
        return repr(pair)

    assert task.apply().get() == repr(Pair.TWO)


def test_what_nothing_turns_back_is_refused_of_a_retry_too(offline):
    @offline.task(max_retries=1)
    def task(plain=None):
        raise Retry(args=[Pair.TWO], countdown=0)

    with pytest.raises(EncodeError, match=r"Pair\.TWO"):
        task.apply().get()


@pytest.mark.parametrize("args", [None, (), [], iter(())])
def test_none_is_no_arguments(offline, args):
    task = offline.task(name="t")(lambda *args, **kwargs: [args, kwargs])

    assert task.apply(args, None).get() == [[], {}]


def test_arguments_may_come_in_any_order_that_is_one(offline):
    task = offline.task(name="t")(lambda *args: list(args))

    assert task.apply(range(3)).get() == [0, 1, 2]
    assert task.apply(each for each in "ab").get() == ["a", "b"]
    assert task.apply(Plain(1, 2)).get() == [1, 2]


@pytest.mark.parametrize("lasts", [0, 0.0, "0s", timedelta(0), 0.0001])
def test_a_result_that_would_never_expire_is_refused(offline, lasts):
    with pytest.raises(ConfigError, match="result_expires must be at least a millisecond"):
        offline.task(name="t", result_expires=lasts)(lambda: None)

    with pytest.raises(ConfigError, match="result_expires"):
        offline.task(name="t")(lambda: None).options(result_expires=lasts)
