"""What JSON carried as text and lists, turned back by a task's annotations.

Exactly these are turned back: datetime, date, time, timedelta, UUID, Decimal, Enums,
dataclasses, NamedTuples, bytes, bytearray, memoryview, set, frozenset and tuple (``set[int]``
and ``tuple[UUID, ...]`` too), each also as ``X | None`` and inside of each other.  Every other
annotation says nothing here, and a value that does not fit stays what it was: annotations
help, they do not judge.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, EnumType
from functools import partial
from typing import Any, Self, Union, cast
from uuid import UUID

import msgspec

from streamq.core.wrappers import likely
from streamq.errors import EncodeError, SoftTimeLimitExceeded
from streamq.serialization.codec import encode_json
from streamq.serialization.strict_json import Wordless, dump_json, read_json

Turn = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Converter:
    """Turns the arguments of one function back into what its annotations promise."""

    positions: tuple[tuple[int, Turn], ...]
    names: Mapping[str, Turn | None]
    count: int
    more_args: Turn | None
    more_kwargs: Turn | None

    @classmethod
    def of(cls, function: Callable[..., Any], *, bound: bool = False) -> Self | None:
        """The converter for this function's arguments, or None where none is needed.

        ``bound`` says that the first parameter is the task itself and not an argument.
        """
        parameters = parameters_of(function)
        if bound and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters = parameters[1:]
        hints = hints_of(function)
        turns = {name: turn for name in hints if (turn := turn_for(hints[name]))}
        by_position = [each for each in parameters if each.kind in POSITIONAL]
        converter = cls(
            positions=tuple(
                (index, turns[each.name])
                for index, each in enumerate(by_position)
                if each.name in turns
            ),
            names={each.name: turns.get(each.name) for each in parameters if each.kind in NAMED},
            count=len(by_position),
            more_args=starred(parameters, inspect.Parameter.VAR_POSITIONAL, turns),
            more_kwargs=starred(parameters, inspect.Parameter.VAR_KEYWORD, turns),
        )
        return converter if converter.turns_something else None

    @staticmethod
    def result(function: Callable[..., Any]) -> Turn | None:
        """What turns this function's result back, or None where none is needed."""
        return turn_for(hints_of(function).get("return"))

    @property
    def turns_something(self) -> bool:
        named = any(self.names.values())
        return bool(self.positions or named or self.more_args or self.more_kwargs)

    def turn_of(self, place: int | str) -> Turn | None:
        """What turns the argument of this position or name."""
        if isinstance(place, str):
            return self.names.get(place, self.more_kwargs)
        return dict(self.positions).get(place, self.more_args if place >= self.count else None)

    def apply(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as the function expects them; what was passed is not touched."""
        args, kwargs = list(args), dict(kwargs)
        for index, turn in self.positions:
            if index < len(args):
                args[index] = turn(args[index])
        if self.more_args and len(args) > self.count:
            args[self.count :] = map(self.more_args, args[self.count :])
        for name, value in kwargs.items():
            by_name = self.names.get(name, self.more_kwargs)
            if by_name:
                kwargs[name] = by_name(value)
        return args, kwargs


def turned_back(value: Any, turn: Turn | None) -> Any:
    """What JSON has for a value that it has no word for, where an annotation turns it back.

    Any other value as it is.  Raises EncodeError where none does.
    """
    try:
        encode_json(value)
    except EncodeError as refused:
        if isinstance(refused.__cause__, Wordless):
            flat = read_json(dump_json(value))
            turned = turn(flat) if turn is not None else flat
            if type(turned) is not type(value) or turned != value:
                raise
            return flat
    return value


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def starred(
    parameters: Sequence[inspect.Parameter], kind: Any, turns: Mapping[str, Turn]
) -> Turn | None:
    """What turns the values of ``*args`` or ``**kwargs``."""
    return next((turns.get(each.name) for each in parameters if each.kind is kind), None)


# ── one annotation, one value ────────────────────────────────────────────────────────

#: The types whose values JSON writes as something else and msgspec reads back.
SIMPLE = frozenset(
    {datetime, date, time, timedelta, UUID, Decimal, bytes, bytearray, memoryview}
    | {set, frozenset, tuple}
)

#: What a decoder makes; a value of any other type was not flattened and is left alone.
FLAT = frozenset({str, int, float, bool, list, dict})
#: The same of what has other types inside: MessagePack and YAML know bytes and times.
FLAT_OR_KNOWN = FLAT | {bytes, datetime, date}


def turn_for(annotation: Any) -> Turn | None:
    """What turns one value into this type, or None for a type that is not turned."""
    target = without_none(annotation)
    if not is_turned(target):
        return None
    inside = target in (bytearray, memoryview) or issubclass(type(target), EnumType)
    return turning(strict(target), FLAT_OR_KNOWN if inside else FLAT)


def is_turned(target: Any) -> bool:
    """Whether values of this type are turned back."""
    if isinstance(target, type) and issubclass(target, Enum):
        return bool(target.__members__)
    origin = typing.get_origin(target) or target
    return isinstance(origin, type) and (
        origin in SIMPLE or is_dataclass(origin) or is_named_tuple(origin)
    )


def is_named_tuple(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, tuple) and hasattr(target, "_fields")


def turning(convert: Turn, flat: Collection[type]) -> Turn:
    def turn(value: Any) -> Any:
        if type(value) not in flat:
            return value
        try:
            return convert(value)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # it does not fit, or a class of the task's refused it
            return value

    return turn


def without_none(annotation: Any) -> Any:
    """X of ``X | None``, and what a NewType or another name of a type stands for."""
    while True:
        members = [annotation]
        if typing.get_origin(annotation) in (Union, types.UnionType):
            members = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        found = meant(members[0]) if len(members) == 1 else annotation
        if found is annotation:
            return annotation
        annotation = found


def meant(name: Any) -> Any:
    """The type of a ``NewType`` or of ``type Name = …``; anything else as it is."""
    if isinstance(name, typing.NewType):
        return name.__supertype__
    if type(name).__name__ == "TypeAliasType":  # new in Python 3.12
        return name.__value__
    return name


# ── what does not fit raises ─────────────────────────────────────────────────────────


def strict(target: Any, above: tuple[Any, ...] = ()) -> Turn:
    """What makes a value of this type, or raises.  ``above`` are the types that it is part of."""
    if target in above:  # made when a value is so deep
        return lambda value: strict(target)(value)
    if isinstance(target, type) and issubclass(target, Enum):
        return member_of(target)
    try:
        msgspec.convert(None, target)
    except msgspec.ValidationError:  # the usual case: it knows the type
        pass
    except Exception:  # there is an Enum in it that it does not know
        with suppress(Exception):  # a name that is not there yet, a class that holds itself
            return part_by_part(target, partial(strict, above=(*above, target)))
    return lambda value: msgspec.convert(value, target)


def member_of(target: type[Enum]) -> Turn:
    """What finds the member of an Enum by its value, also where JSON wrote that otherwise."""
    written: dict[bytes, list[Enum]] = {}
    for member in target:
        with suppress(Exception):
            written.setdefault(msgspec.json.encode(member.value), []).append(member)
    alone = {text: members[0] for text, members in written.items() if len(members) == 1}

    def find(value: Any) -> Enum:
        try:
            return target(value)
        except ValueError:
            return alone[msgspec.json.encode(value)]

    return find


def part_by_part(target: Any, turn_of: Callable[[Any], Turn]) -> Turn:
    """What makes a container, each part for itself: for those that msgspec does not know."""
    inside = typing.get_args(target)
    origin: Any = typing.get_origin(target) or target
    if origin in (Union, types.UnionType):
        some = turn_of(without_none(target))
        return lambda value: None if value is None else some(value)
    if is_dataclass(origin):
        hints = typing.get_type_hints(origin)
        return mapping_to(
            cast(Any, origin), {e.name: turn_of(hints[e.name]) for e in fields(origin) if e.init}
        )
    if is_named_tuple(origin):
        hints = typing.get_type_hints(origin)
        return list_to(
            lambda parts: origin(*parts), [turn_of(hints.get(e, Any)) for e in origin._fields]
        )
    if origin is tuple and inside[1:] != (...,):
        return list_to(tuple, [*map(turn_of, inside)], least=len(inside))
    if origin in (list, set, frozenset, tuple):
        each = turn_of(inside[0])
        return lambda value: origin(map(each, msgspec.convert(value, list)))
    if origin is dict:
        key, item = map(turn_of, inside)
        return lambda value: {key(k): item(v) for k, v in msgspec.convert(value, dict).items()}
    raise TypeError(f"{target!r} is not turned")


def mapping_to(make: Callable[..., Any], turns: Mapping[str, Turn]) -> Turn:
    """What makes an object of the members of a mapping."""

    def turn(value: Any) -> Any:
        known = msgspec.convert(value, dict)
        return make(**{name: turn(known[name]) for name, turn in turns.items() if name in known})

    return turn


def list_to(make: Callable[[list[Any]], Any], turns: Sequence[Turn], *, least: int = 0) -> Turn:
    """What makes an object of the items of a list, each in its own way."""

    def turn(value: Any) -> Any:
        items = msgspec.convert(value, list)
        if not least <= len(items) <= len(turns):
            raise ValueError(f"{len(items)} items for {len(turns)}")
        return make([turn(item) for turn, item in zip(turns, items, strict=False)])

    return turn


# ── what a function says of itself ───────────────────────────────────────────────────


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters in their order; none where Python cannot tell."""
    with suppress(Exception):
        return list(likely(function).parameters.values())
    return []


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations, resolved; one that cannot be resolved does not spoil the others."""
    with suppress(Exception):
        return typing.get_type_hints(function)
    hints: dict[str, Any] = {}
    with suppress(Exception):
        names = getattr(inspect.unwrap(function), "__globals__", {})
        for name, annotation in annotations(function).items():
            with suppress(Exception):
                alone = types.SimpleNamespace(__annotations__={name: annotation})
                hints |= typing.get_type_hints(alone, names)
    return hints


if sys.version_info >= (3, 14):  # where asking for an unresolvable annotation raises
    import annotationlib

    def annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)

else:
    annotations = inspect.get_annotations
