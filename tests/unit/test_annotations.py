"""A task's annotations turn JSON's text and lists back, and leave everything else alone."""

import functools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from typing import Any, NewType, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.serialization.annotations import Converter
from streamq.serialization.codec import decode, encode


class Colour(Enum):
    RED = "red"
    HALF = 0.5


class Size(IntEnum):
    SMALL = 1
    BIG = 3


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    when: datetime
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Line:
    points: tuple[Point, ...]
    price: Decimal | None = None


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise RuntimeError("negative")


UserId = NewType("UserId", UUID)
Deadline = NewType("Deadline", Optional[NewType("Day", date)])  # noqa: UP045


def taking(annotation: Any) -> Callable[..., Any]:
    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": annotation, "return": annotation}
    return function


def through_json(value: Any, annotation: Any) -> Any:
    """The value as a task with this annotation gets it."""
    converter = Converter.of(taking(annotation))
    assert converter is not None
    (got,), _ = converter.apply(decode(encode([value])), {})
    return got


ZONES = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
MOMENTS = st.datetimes(timezones=ZONES)
POINTS = st.builds(Point, st.integers(), MOMENTS, st.sets(st.text("abc")))
DECIMALS = st.decimals(allow_nan=False)


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (datetime, MOMENTS),
        (date, st.dates()),
        (time, st.times()),
        (UUID, st.uuids()),
        (Decimal, DECIMALS),
        (bytes, st.binary()),
        (Colour, st.sampled_from(Colour)),
        (Size, st.sampled_from(Size)),
        (timedelta, st.timedeltas()),
        (bytearray, st.binary().map(bytearray)),
        (frozenset, st.frozensets(st.integers())),
        (frozenset[timedelta], st.frozensets(st.timedeltas())),
        (Right, st.sampled_from([Right.READ, Right.WRITE, Right.READ | Right.WRITE])),
        (set, st.sets(st.integers() | st.text("ab"))),
        (set[int], st.sets(st.integers())),
        (set[UUID], st.sets(st.uuids())),
        (tuple, st.lists(st.integers() | st.booleans()).map(tuple)),
        (tuple[int, ...], st.lists(st.integers()).map(tuple)),
        (tuple[str, Decimal], st.tuples(st.text("ab"), DECIMALS)),
        (Point, POINTS),
        (UserId, st.uuids()),
        (Deadline, st.dates()),
        (set[UserId], st.sets(st.uuids())),
        (Line, st.builds(Line, st.lists(POINTS, max_size=3).map(tuple), st.none() | DECIMALS)),
    ],
)
@given(data=st.data())
def test_an_annotated_value_survives_json(annotation, values, data):
    value = data.draw(values)

    for form in (annotation, annotation | None, Optional[annotation]):  # noqa: UP045
        got = through_json(value, form)
        assert got == value
        assert type(got) is type(value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is new in Python 3.12")
def test_another_name_of_a_type_stands_for_it():
    names: dict[str, Any] = {"UUID": UUID}
    exec("type Id = UUID\ntype Ids = set[Id] | None", names)

    assert through_json(UUID(int=1), names["Id"]) == UUID(int=1)
    assert through_json({UUID(int=1)}, names["Ids"]) == {UUID(int=1)}


def test_none_stays_none():
    assert through_json(None, UUID | None) is None
    assert through_json(None, UUID) is None


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, "yesterday"),
        (datetime, 5),
        (date, "2026-01-02T03:04:05"),
        (UUID, "not a uuid"),
        (Decimal, "much"),
        (bytes, "no base64!"),
        (bytes | None, "no base64!"),
        (Colour, "blue"),
        (Size, 2),
        (Size, [1]),
        (set, "text"),
        (set, [[1], [2]]),
        (set[int], ["1"]),
        (tuple[int, int], [1, 2, 3]),
        (Point, {"x": 1}),
        (Point, {"x": "1", "when": "2026-01-02T03:04:05"}),
        (Point, [1, "2026-01-02T03:04:05"]),
        (Positive, {"number": -1}),
    ],
)
def test_a_value_that_does_not_fit_stays_what_it_was(annotation, value):
    got = through_json(value, annotation)

    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        (date, datetime(2026, 1, 2)),
        (set, frozenset({1})),
        (set[int], {1}),
        (tuple[str, ...], (1, 2)),
        (Colour, Colour.RED),
        (Point, Point(1, datetime(2026, 1, 2))),
        (bytes, bytearray(b"x")),
        (UUID, None),
    ],
)
def test_a_value_that_json_did_not_flatten_is_the_very_same_object(annotation, value):
    converter = Converter.of(taking(annotation))
    assert converter is not None

    assert converter.apply([value], {})[0][0] is value


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        float,
        str,
        bool,
        None,
        list,
        dict,
        list[UUID],
        dict[str, UUID],
        UUID | str,
        UUID | Decimal | None,
        Enum,
        Any,
        object,
        list[timedelta],
        "NoSuchName",
        Callable[[UUID], UUID],
    ],
)
def test_any_other_annotation_costs_nothing(annotation):
    assert Converter.of(taking(annotation)) is None
    assert Converter.result(taking(annotation)) is None


def test_each_parameter_is_turned_by_its_own_annotation():
    def task(plain, /, when: date, count: int, *rest: UUID, size: Size, **more: Decimal): ...

    one, two = UUID(int=1), UUID(int=2)
    converter = Converter.of(task)
    assert converter is not None

    args, kwargs = converter.apply(
        ["2026-01-02", "2026-01-02", 3, str(one), str(two)],
        {"size": 3, "plain": "1.5", "count": "4"},
    )

    assert args == ["2026-01-02", date(2026, 1, 2), 3, one, two]
    assert kwargs == {"size": Size.BIG, "plain": Decimal("1.5"), "count": "4"}
    assert type(kwargs["plain"]) is Decimal


def test_parameters_may_come_by_name_or_not_at_all():
    def task(first: date, second: UUID | None = None): ...

    converter = Converter.of(task)
    assert converter is not None

    assert converter.apply([], {"first": "2026-01-02"}) == ([], {"first": date(2026, 1, 2)})
    assert converter.apply(["2026-01-02"], {}) == ([date(2026, 1, 2)], {})
    assert converter.apply([], {}) == ([], {})


def test_arguments_the_function_does_not_know_are_left_for_the_call_to_refuse():
    def task(first: date): ...

    converter = Converter.of(task)
    assert converter is not None

    assert converter.apply(["2026-01-02", "2026-01-03"], {"odd": "2026-01-04"}) == (
        [date(2026, 1, 2), "2026-01-03"],
        {"odd": "2026-01-04"},
    )


def test_what_was_passed_in_is_not_changed():
    def task(first: date, second: date): ...

    args, kwargs = ["2026-01-02"], {"second": "2026-01-03"}
    converter = Converter.of(task)
    assert converter is not None

    converter.apply(args, kwargs)

    assert (args, kwargs) == (["2026-01-02"], {"second": "2026-01-03"})


def test_the_task_itself_is_not_an_argument():
    def task(self, when: date): ...

    converter = Converter.of(task, bound=True)
    assert converter is not None

    assert converter.apply(["2026-01-02"], {}) == ([date(2026, 1, 2)], {})


def test_a_result_is_turned_back_by_the_return_annotation():
    def when() -> date: ...

    async def later() -> set[int]: ...

    def nothing(): ...

    turn, turn_set = Converter.result(when), Converter.result(later)

    assert turn is not None
    assert turn("2026-01-02") == date(2026, 1, 2)
    assert turn("soon") == "soon"
    assert turn_set is not None
    assert turn_set([1, 2]) == {1, 2}
    assert Converter.result(nothing) is None


def module_of(source: str) -> types.ModuleType:
    """A module whose annotations are text that is resolved later."""
    module = types.ModuleType("written_elsewhere")
    exec(compile("from __future__ import annotations\n" + source, "<source>", "exec"), vars(module))
    return module


def test_annotations_written_as_text_are_resolved_where_the_function_lives():
    module = module_of("from uuid import UUID as Id\ndef task(one: Id, n: int): ...")

    converter = Converter.of(module.task)
    assert converter is not None

    assert converter.apply([str(UUID(int=1)), 1], {}) == ([UUID(int=1), 1], {})


def test_a_name_that_cannot_be_resolved_does_not_spoil_the_others():
    module = module_of("from uuid import UUID\ndef task(one: Missing, two: UUID) -> UUID: ...")

    converter = Converter.of(module.task)
    assert converter is not None

    assert converter.apply(["1", str(UUID(int=1))], {}) == (["1", UUID(int=1)], {})
    assert Converter.result(module.task) is not None


def test_a_decorated_function_keeps_its_annotations():
    module = module_of("from uuid import UUID\ndef task(one: UUID): ...")

    @functools.wraps(module.task)
    def wrapped(*args: Any, **kwargs: Any) -> Any: ...

    converter = Converter.of(wrapped)
    assert converter is not None

    assert converter.apply([str(UUID(int=1))], {})[0] == [UUID(int=1)]


@pytest.mark.parametrize(
    "function", [print, dict, int, functools.partial(print, 1), type("C", (), {})]
)
def test_a_function_that_python_knows_nothing_about_is_not_converted(function):
    assert Converter.of(function) is None
    assert Converter.result(function) is None
