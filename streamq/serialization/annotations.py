"""Annotations: arguments that JSON carried as text and lists, converted back to their types.

Exactly these types are converted: datetime, date, time, timedelta, UUID, Decimal, Enums,
dataclasses, NamedTuples, bytes, bytearray, memoryview, set, frozenset and tuple (``set[int]``
and ``tuple[UUID, ...]`` too), each also as ``X | None`` and inside of each other.  Other
annotations are ignored, and a value that does not fit stays as it is: annotations convert
values, they do not validate them.
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
from streamq.serialization.strict_json import EnumNotRepresentable, dump_json, read_json

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Converter:
    """A converter of the arguments of one function to the types of its annotations."""

    positions: tuple[tuple[int, Convert], ...]
    names: Mapping[str, Convert | None]
    count: int
    more_args: Convert | None
    more_kwargs: Convert | None

    @classmethod
    def of(cls, function: Callable[..., Any], *, bound: bool = False) -> Self | None:
        """Make the converter of a function's arguments; None if none is needed.

        ``bound`` says that the first parameter is the task itself and not an argument.
        """
        parameters = parameters_of(function)
        if bound and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters = parameters[1:]
        hints = hints_of(function)
        converts = {name: convert for name in hints if (convert := conversion_for(hints[name]))}
        by_position = [each for each in parameters if each.kind in POSITIONAL]
        converter = cls(
            positions=tuple(
                (index, converts[each.name])
                for index, each in enumerate(by_position)
                if each.name in converts
            ),
            names={each.name: converts.get(each.name) for each in parameters if each.kind in NAMED},
            count=len(by_position),
            more_args=starred(parameters, inspect.Parameter.VAR_POSITIONAL, converts),
            more_kwargs=starred(parameters, inspect.Parameter.VAR_KEYWORD, converts),
        )
        return converter if converter.converts_anything else None

    @staticmethod
    def result(function: Callable[..., Any]) -> Convert | None:
        """The conversion of a function's result; None if none is needed."""
        return conversion_for(hints_of(function).get("return"))

    @property
    def converts_anything(self) -> bool:
        """Whether any argument is converted."""
        named = any(self.names.values())
        return bool(self.positions or named or self.more_args or self.more_kwargs)

    def conversion_of(self, place: int | str) -> Convert | None:
        """The conversion of the argument of this position or name; None if there is none."""
        if isinstance(place, str):
            return self.names.get(place, self.more_kwargs)
        return dict(self.positions).get(place, self.more_args if place >= self.count else None)

    def apply(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Convert the arguments of a call; returns new containers."""
        args, kwargs = list(args), dict(kwargs)
        for index, convert in self.positions:
            if index < len(args):
                args[index] = convert(args[index])
        if self.more_args and len(args) > self.count:
            args[self.count :] = map(self.more_args, args[self.count :])
        for name, value in kwargs.items():
            by_name = self.names.get(name, self.more_kwargs)
            if by_name:
                kwargs[name] = by_name(value)
        return args, kwargs


def json_form(value: Any, convert: Convert | None) -> Any:
    """Convert a value that JSON cannot represent to a form from which ``convert`` restores it.

    Any other value is returned as it is.  Raises EncodeError if it cannot be restored.
    """
    try:
        encode_json(value)
    except EncodeError as refused:
        if isinstance(refused.__cause__, EnumNotRepresentable):
            flat = read_json(dump_json(value))
            restored = convert(flat) if convert is not None else flat
            if type(restored) is not type(value) or restored != value:
                raise
            return flat
    return value


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def starred(
    parameters: Sequence[inspect.Parameter], kind: Any, converts: Mapping[str, Convert]
) -> Convert | None:
    """The conversion of the values of ``*args`` or ``**kwargs``."""
    return next((converts.get(each.name) for each in parameters if each.kind is kind), None)


# ── one annotation, one value ────────────────────────────────────────────────────────

#: Types that JSON writes as text or lists, and that msgspec reads back.
SIMPLE = frozenset(
    {datetime, date, time, timedelta, UUID, Decimal, bytes, bytearray, memoryview}
    | {set, frozenset, tuple}
)

#: Types that a decoder makes; a value of any other type has kept its type and is left as it is.
FLAT = frozenset({str, int, float, bool, list, dict})
#: The same for types made of others: MessagePack and YAML also have bytes and times.
FLAT_OR_KNOWN = FLAT | {bytes, datetime, date}


def conversion_for(annotation: Any) -> Convert | None:
    """The conversion of one value to this type; None for a type that is not converted."""
    target = without_none(annotation)
    if not is_converted(target):
        return None
    inside = target in (bytearray, memoryview) or issubclass(type(target), EnumType)
    return lenient(strict(target), FLAT_OR_KNOWN if inside else FLAT)


def is_converted(target: Any) -> bool:
    """Whether values of this type are converted."""
    if isinstance(target, type) and issubclass(target, Enum):
        return bool(target.__members__)
    origin = typing.get_origin(target) or target
    return isinstance(origin, type) and (
        origin in SIMPLE or is_dataclass(origin) or is_named_tuple(origin)
    )


def is_named_tuple(target: Any) -> bool:
    """Whether a type is a NamedTuple."""
    return isinstance(target, type) and issubclass(target, tuple) and hasattr(target, "_fields")


def lenient(convert: Convert, flat: Collection[type]) -> Convert:
    """Make a conversion that returns the value unchanged where it does not apply or fails."""

    def convert_or_keep(value: Any) -> Any:
        if type(value) not in flat:
            return value
        try:
            return convert(value)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # it does not fit, or a class of the task raised
            return value

    return convert_or_keep


def without_none(annotation: Any) -> Any:
    """The type behind ``X | None``, a NewType or a type alias."""
    while True:
        members = [annotation]
        if typing.get_origin(annotation) in (Union, types.UnionType):
            members = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        found = aliased_type(members[0]) if len(members) == 1 else annotation
        if found is annotation:
            return annotation
        annotation = found


def aliased_type(name: Any) -> Any:
    """The type behind a ``NewType`` or ``type Name = …``; anything else as it is."""
    if isinstance(name, typing.NewType):
        return name.__supertype__
    if type(name).__name__ == "TypeAliasType":  # new in Python 3.12
        return name.__value__
    return name


# ── what does not fit raises ─────────────────────────────────────────────────────────


def strict(target: Any, above: tuple[Any, ...] = ()) -> Convert:
    """Make a conversion to this type that raises.  ``above`` are the types that contain it."""
    if target in above:  # a recursive type: made when a value needs it
        return lambda value: strict(target)(value)
    if isinstance(target, type) and issubclass(target, Enum):
        return member_of(target)
    try:
        msgspec.convert(None, target)
    except msgspec.ValidationError:  # the usual case: msgspec supports the type
        pass
    except Exception:  # it contains an Enum that msgspec does not support
        with suppress(Exception):  # an undefined name, a class that contains itself
            return part_by_part(target, partial(strict, above=(*above, target)))
    return lambda value: msgspec.convert(value, target)


def member_of(target: type[Enum]) -> Convert:
    """Make a conversion from a value to its Enum member, also by the value's JSON form."""
    written: dict[bytes, list[Enum]] = {}
    for member in target:
        with suppress(Exception):
            written.setdefault(msgspec.json.encode(member.value), []).append(member)
    unique = {text: members[0] for text, members in written.items() if len(members) == 1}

    def find(value: Any) -> Enum:
        try:
            return target(value)
        except ValueError:
            return unique[msgspec.json.encode(value)]

    return find


def part_by_part(target: Any, make: Callable[[Any], Convert]) -> Convert:
    """Make a conversion to a container, part by part, for types that msgspec does not support."""
    inside = typing.get_args(target)
    origin: Any = typing.get_origin(target) or target
    if origin in (Union, types.UnionType):
        some = make(without_none(target))
        return lambda value: None if value is None else some(value)
    if is_dataclass(origin):
        hints = typing.get_type_hints(origin)
        return mapping_to(
            cast(Any, origin), {e.name: make(hints[e.name]) for e in fields(origin) if e.init}
        )
    if is_named_tuple(origin):
        hints = typing.get_type_hints(origin)
        return list_to(
            lambda parts: origin(*parts), [make(hints.get(e, Any)) for e in origin._fields]
        )
    if origin is tuple and inside[1:] != (...,):
        return list_to(tuple, [*map(make, inside)], least=len(inside))
    if origin in (list, set, frozenset, tuple):
        each = make(inside[0])
        return lambda value: origin(map(each, msgspec.convert(value, list)))
    if origin is dict:
        key, item = map(make, inside)
        return lambda value: {key(k): item(v) for k, v in msgspec.convert(value, dict).items()}
    raise TypeError(f"{target!r} is not converted")


def mapping_to(make: Callable[..., Any], converts: Mapping[str, Convert]) -> Convert:
    """Make a conversion from a mapping to an object, member by member."""

    def convert(value: Any) -> Any:
        known = msgspec.convert(value, dict)
        return make(**{name: each(known[name]) for name, each in converts.items() if name in known})

    return convert


def list_to(
    make: Callable[[list[Any]], Any], converts: Sequence[Convert], *, least: int = 0
) -> Convert:
    """Make a conversion from a list to an object, each item with its own conversion."""

    def convert(value: Any) -> Any:
        items = msgspec.convert(value, list)
        if not least <= len(items) <= len(converts):
            raise ValueError(f"{len(items)} items for {len(converts)}")
        return make([each(item) for each, item in zip(converts, items, strict=False)])

    return convert


# ── parameters and annotations of a function ───────────────────────────────────────────────────


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters in order; none if they cannot be determined."""
    with suppress(Exception):
        return list(likely(function).parameters.values())
    return []


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations, without those that cannot be resolved."""
    with suppress(Exception):
        return typing.get_type_hints(function)
    hints: dict[str, Any] = {}
    with suppress(Exception):
        names = getattr(inspect.unwrap(function), "__globals__", {})
        for name, annotation in annotations(function).items():
            with suppress(Exception):
                single = types.SimpleNamespace(__annotations__={name: annotation})
                hints |= typing.get_type_hints(single, names)
    return hints


if sys.version_info >= (3, 14):  # where asking for an unresolvable annotation raises
    import annotationlib

    def annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)

else:
    annotations = inspect.get_annotations
