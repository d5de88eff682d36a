"""What JSON carried as text and lists, turned back by a task's annotations.

Exactly these are turned back: datetime, date, time, UUID, Decimal, Enums, dataclasses,
bytes, set and tuple (``set[int]`` and ``tuple[UUID, ...]`` too), each also as ``X | None``.
Every other annotation says nothing here, and a value that does not fit stays what it was:
annotations help, they do not judge.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Self, Union
from uuid import UUID

import msgspec

from streamq.errors import SoftTimeLimitExceeded

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
        parameters = parameters_of(function)[1 if bound else 0 :]
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


POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def starred(
    parameters: Sequence[inspect.Parameter], kind: Any, turns: Mapping[str, Turn]
) -> Turn | None:
    """What turns the values of ``*args`` or ``**kwargs``."""
    return next((turns.get(each.name) for each in parameters if each.kind is kind), None)


# ── one annotation, one value ────────────────────────────────────────────────────────

#: The types whose values JSON writes as something else and msgspec reads back.
TURNED = frozenset({datetime, date, time, UUID, Decimal, bytes, set, tuple})

#: What a decoder makes; a value of any other type was not flattened and is left alone.
FLAT = frozenset({str, int, float, bool, list, dict})


def turn_for(annotation: Any) -> Turn | None:
    """What turns one value into this type, or None for a type that is not turned."""
    target = without_none(annotation)
    if isinstance(target, type) and issubclass(target, Enum) and target.__members__:
        return turning(target)
    if (
        (isinstance(target, type) and (target in TURNED or is_dataclass(target)))
        or typing.get_origin(target) in (set, tuple)
        or is_dataclass(typing.get_origin(target))
    ):
        return turning(lambda value: msgspec.convert(value, target))
    return None


def turning(convert: Turn) -> Turn:
    def turn(value: Any) -> Any:
        if type(value) not in FLAT:
            return value
        try:
            return convert(value)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # it does not fit, or a class of the task's refused it
            return value

    return turn


def without_none(annotation: Any) -> Any:
    """X of ``X | None``; anything else as it is."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        members = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        if len(members) == 1:
            return members[0]
    return annotation


# ── what a function says of itself ───────────────────────────────────────────────────


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters in their order; none where Python cannot tell."""
    with suppress(Exception):
        return list(signature(function).parameters.values())
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

    def signature(function: Callable[..., Any]) -> inspect.Signature:
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)

    def annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)

else:
    signature = inspect.signature
    annotations = inspect.get_annotations
