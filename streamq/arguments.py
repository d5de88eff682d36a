"""Checks of the arguments of a call: a list of values, and a mapping by name."""

from collections.abc import Iterable, Mapping
from inspect import Signature
from typing import Any

#: Iterables that are no list of arguments: single values, mappings, sets without an order.
NO_LISTS = (str, bytes, bytearray, memoryview, Mapping, set, frozenset)


def positional(args: Any) -> tuple[Any, ...]:
    """Return the positional arguments of a call; None means none.  Raises TypeError for no list."""
    if type(args) is tuple:
        return args
    if args is None:
        return ()
    if isinstance(args, NO_LISTS) or not isinstance(args, Iterable):
        raise TypeError(
            f"args must be a list or tuple of arguments, not {type(args).__name__}"
            f"\n  → args=(value,) gives one"
        )
    return tuple(args)


def mapping(kwargs: Any) -> Mapping[str, Any]:
    """Return the named arguments of a call; None means none.  Raises TypeError for no mapping."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be a mapping from names, not {type(kwargs).__name__}")
    for name in kwargs:
        if not isinstance(name, str):
            raise TypeError(f"the names in kwargs must be text, not {type(name).__name__}")
    return kwargs if isinstance(kwargs, dict) else dict(kwargs)  # serializers take no other mapping


def take_using(kwargs: dict[str, Any], parameters: Signature | None) -> str | None:
    """Take ``using``, the alias of a database, out of the arguments of a call.

    It stays among them, and None is returned, where a function with these parameters has one of
    that name.
    """
    if parameters is not None and "using" in parameters.parameters:
        return None
    using: str | None = kwargs.pop("using", None)
    return using
