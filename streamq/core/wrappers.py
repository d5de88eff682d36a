"""What a function takes that is wrapped around others.

``functools.wraps`` makes a wrapper look like what it wraps, though it may pass on more than it
is given, a session for instance.  What it takes is read from its own parameters; for its
``*args`` and ``**kwargs`` from the line in which it calls what it wraps.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter, Signature
from types import CodeType, FunctionType
from typing import Any

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
STARS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

if sys.version_info >= (3, 14):  # where asking for an unresolvable annotation raises
    import annotationlib

    def own_signature(function: Callable[..., Any]) -> Signature:
        """What a function takes by its own parameters, whatever it is wrapped around."""
        forward = annotationlib.Format.FORWARDREF
        return inspect.signature(function, follow_wrapped=False, annotation_format=forward)

else:

    def own_signature(function: Callable[..., Any]) -> Signature:
        """What a function takes by its own parameters, whatever it is wrapped around."""
        return inspect.signature(function, follow_wrapped=False)


def accepted(function: Callable[..., Any]) -> Signature:
    """What a function surely takes and nothing else.  ValueError where Python cannot tell."""
    return signature_of(function, surely=True)


def likely(function: Callable[..., Any]) -> Signature:
    """The parameters at which arguments arrive, as far as can be told."""
    return signature_of(function, surely=False)


def signature_of(function: Callable[..., Any], *, surely: bool) -> Signature:
    """What a function takes; of a wrapper that is not understood its own parameters, if surely."""
    inner = getattr(function, "__wrapped__", None)
    if inner is None or inner is function:
        return own_signature(function)
    try:
        own = own_signature(function)
    except (TypeError, ValueError):  # a cache, for instance
        return signature_of(inner, surely=surely)
    if not any(each.kind in STARS for each in own.parameters.values()):
        return own
    passing = passing_of(function, inner, own)
    if passing is not None and (passing.sure or not surely):
        with suppress(ValueError):  # parameters in an order that no function can have
            return combined(own, signature_of(inner, surely=surely), passing)
    if surely or any(each.kind not in STARS for each in own.parameters.values()):
        return own
    return signature_of(inner, surely=surely)


@dataclass(frozen=True, slots=True)
class Passing:
    """How a wrapper passes its ``*args`` and ``**kwargs`` on.

    ``before`` counts the arguments that it puts before them, ``names`` are those that it adds
    by name; ``sure`` says that it does nothing else with them.
    """

    before: int
    names: frozenset[str]
    sure: bool


def combined(own: Signature, inner: Signature, passing: Passing) -> Signature:
    """What a wrapper takes: its own parameters, and what its stars reach of the inner function."""
    mine = [each for each in own.parameters.values() if each.kind not in STARS]
    stars = {each.kind for each in own.parameters.values()} & {*STARS}
    taken = {each.name for each in mine} | passing.names
    theirs = list(inner.parameters.values())
    theirs = theirs[min(passing.before, sum(each.kind in POSITIONAL for each in theirs)) :]
    found = [passed(each, stars) for each in theirs if each.name not in taken]
    reached = [each for each in found if each is not None]
    if any(each.kind is Parameter.POSITIONAL_OR_KEYWORD for each in mine):  # they come behind it
        reached = [named(each) for each in reached]
    return Signature(sorted([*mine, *reached], key=lambda each: each.kind))


def named(parameter: Parameter) -> Parameter:
    """A parameter with a name too, if it has only a place."""
    if parameter.kind is not Parameter.POSITIONAL_ONLY:
        return parameter
    return parameter.replace(kind=Parameter.POSITIONAL_OR_KEYWORD)


def passed(parameter: Parameter, stars: set[Any]) -> Parameter | None:
    """A parameter of the inner function as it is reached through these stars; None if it is not."""
    by_place, by_name = (kind in stars for kind in STARS)
    if parameter.kind in STARS:
        return parameter if parameter.kind in stars else None
    if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and not (by_place and by_name):
        kind = Parameter.POSITIONAL_ONLY if by_place else Parameter.KEYWORD_ONLY
        return parameter.replace(kind=kind)
    reached = by_place if parameter.kind in POSITIONAL else by_name
    return parameter if reached else None


# ── reading the wrapper ──────────────────────────────────────────────────────────────


def passing_of(function: Any, inner: Any, own: Signature) -> Passing | None:
    """How a wrapper calls what it wraps; None if that cannot be told."""
    stars = {each.kind: each.name for each in own.parameters.values() if each.kind in STARS}
    if isinstance(function, FunctionType):
        closed = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        names = tuple(name for name, cell in closed if holds(cell, inner))
        return read(function.__code__, names, *map(stars.get, STARS))
    call = inspect.getattr_static(type(function), "__call__", None)  # of an object
    if not isinstance(call, FunctionType) or not call.__code__.co_argcount:
        return None
    itself, held = call.__code__.co_varnames[0], getattr(function, "__dict__", {})
    names = tuple(f"{itself}.{name}" for name, value in held.items() if value is inner)
    return read(call.__code__, names, *map(stars.get, STARS))


def holds(cell: Any, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # not filled yet
        return False


@lru_cache(maxsize=256)
def read(
    code: CodeType, names: Sequence[str], args: str | None, kwargs: str | None
) -> Passing | None:
    """Read from the source how what has these names is called with these stars."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    nodes = list(ast.walk(tree))
    used = [node for node in nodes if isinstance(node, ast.Name)]
    found = [each for each in nodes if isinstance(each, ast.Call) and name_of(each.func) in names]
    lists = lists_of(tree.body, used, args, min([each.lineno for each in found], default=0))
    calls = [passing_in(each, lists, kwargs) for each in found]
    if not calls or calls[0] is None or any(each != calls[0] for each in calls):
        return None
    sure = sum(node.id == kwargs for node in used) == (len(calls) if kwargs else 0)
    return Passing(*calls[0], sure=sure)


def lists_of(
    body: Sequence[ast.stmt], used: Sequence[ast.Name], args: str | None, line: int
) -> dict[str, int] | None:
    """The names of tuples that end with ``*args`` in this line, with how much is before it.

    None if there is no ``*args``.
    """
    if args is None:
        return None
    lists, stored = {args: 0}, [node.id for node in used if not isinstance(node.ctx, ast.Load)]
    for each in body[0].body if body and isinstance(body[0], ast.FunctionDef) else ():
        if isinstance(each, ast.Assign) and each.lineno < line and len(each.targets) == 1:
            name, count = name_of(each.targets[0]), before(each.value, lists)
            changes = isinstance(each.value, ast.List)  # or may
            if name is not None and count is not None and not changes and stored.count(name) == 1:
                lists[name] = count
                stored.remove(name)
    return {name: count for name, count in lists.items() if name not in stored}


def before(node: ast.expr, lists: Mapping[str, int]) -> int | None:
    """How much is before ``*args`` in a list that ends with it; None for any other value."""
    if isinstance(node, ast.Name):
        return lists.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):  # (session,) + args
        first, rest = node.left, before(node.right, lists)
    elif isinstance(node, ast.Tuple | ast.List) and node.elts:  # (session, *args)
        *parts, last = node.elts
        first = ast.Tuple(parts)
        rest = before(last.value, lists) if isinstance(last, ast.Starred) else None
    else:
        return None
    if rest is None or not isinstance(first, ast.Tuple | ast.List):
        return None
    return None if any(isinstance(e, ast.Starred) for e in first.elts) else rest + len(first.elts)


def passing_in(
    call: ast.Call, lists: Mapping[str, int] | None, kwargs: str | None
) -> tuple[int, frozenset[str]] | None:
    """What a call puts before ``*args``, and adds by name; None if it passes not just these on."""
    spread = [each.value for each in call.keywords if each.arg is None]
    if [name_of(each) for each in spread] != ([kwargs] if kwargs else []):
        return None
    named = frozenset(each.arg for each in call.keywords if each.arg is not None)
    if lists is None:
        stars = any(isinstance(each, ast.Starred) for each in call.args)
        return None if stars else (len(call.args), named)
    count = before(ast.Tuple(call.args), lists)
    return None if count is None else (count, named)


def name_of(node: ast.expr) -> str | None:
    """A name, or one of its attributes, as it is written."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None
