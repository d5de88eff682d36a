"""Signatures of wrapped functions: the arguments that a wrapper accepts.

``functools.wraps`` gives a wrapper the signature of the wrapped function, though it may pass
more arguments on than it gets, such as a session.  Its real signature is that of its own
parameters; for ``*args`` and ``**kwargs`` the line is read in which it calls the wrapped
function.
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

from streamq.errors import ConfigError

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
STARS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

if sys.version_info >= (3, 14):  # where asking for an unresolvable annotation raises
    import annotationlib

    def own_signature(function: Callable[..., Any]) -> Signature:
        """The signature of a function's own parameters, without following ``__wrapped__``."""
        forward = annotationlib.Format.FORWARDREF
        return inspect.signature(function, follow_wrapped=False, annotation_format=forward)

else:

    def own_signature(function: Callable[..., Any]) -> Signature:
        """The signature of a function's own parameters, without following ``__wrapped__``."""
        return inspect.signature(function, follow_wrapped=False)


def accepted(function: Callable[..., Any]) -> Signature:
    """The arguments that a function certainly accepts.  Raises ValueError if unknown."""
    return signature_of(function, certain=True)


def likely(function: Callable[..., Any]) -> Signature:
    """The parameters that arguments most likely reach."""
    return signature_of(function, certain=False)


def signature_of(function: Callable[..., Any], *, certain: bool) -> Signature:
    """The signature of a function; if ``certain``, only a wrapper's own parameters in doubt."""
    inner = getattr(function, "__wrapped__", None)
    if inner is None or inner is function:
        return own_signature(function)
    try:
        own = own_signature(function)
    except (TypeError, ValueError):  # a cache, for instance
        return signature_of(inner, certain=certain)
    if not any(each.kind in STARS for each in own.parameters.values()):
        return own
    passing = passing_of(function, inner, own)
    if passing is not None and (passing.only or not certain):
        with suppress(ValueError):  # parameters in an order that no function can have
            return combined(own, signature_of(inner, certain=certain), passing)
    if certain or any(each.kind not in STARS for each in own.parameters.values()):
        return own
    return signature_of(inner, certain=certain)


@dataclass(frozen=True, slots=True)
class PassedArguments:
    """How a wrapper passes its ``*args`` and ``**kwargs`` on.

    ``before`` counts the arguments that it puts before them, ``names`` are those that it adds
    by name; ``only`` says that it uses them in no other way.
    """

    before: int
    names: frozenset[str]
    only: bool


def combined(own: Signature, inner: Signature, passing: PassedArguments) -> Signature:
    """Combine a wrapper's own parameters with those that its stars pass to the inner function."""
    outer = [each for each in own.parameters.values() if each.kind not in STARS]
    stars = {each.kind for each in own.parameters.values()} & {*STARS}
    taken = {each.name for each in outer} | passing.names
    passed_on = list(inner.parameters.values())
    passed_on = passed_on[min(passing.before, sum(each.kind in POSITIONAL for each in passed_on)) :]
    found = [passed(each, stars) for each in passed_on if each.name not in taken]
    reached = [each for each in found if each is not None]
    if any(each.kind is Parameter.POSITIONAL_OR_KEYWORD for each in outer):  # they come after it
        reached = [named(each) for each in reached]
    return Signature(sorted([*outer, *reached], key=lambda each: each.kind))


def named(parameter: Parameter) -> Parameter:
    """Make a positional-only parameter accept its name too."""
    if parameter.kind is not Parameter.POSITIONAL_ONLY:
        return parameter
    return parameter.replace(kind=Parameter.POSITIONAL_OR_KEYWORD)


def passed(parameter: Parameter, stars: set[Any]) -> Parameter | None:
    """A parameter of the inner function as reachable through these stars; None if it is not."""
    by_place, by_name = (kind in stars for kind in STARS)
    if parameter.kind in STARS:
        return parameter if parameter.kind in stars else None
    if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and not (by_place and by_name):
        kind = Parameter.POSITIONAL_ONLY if by_place else Parameter.KEYWORD_ONLY
        return parameter.replace(kind=kind)
    reached = by_place if parameter.kind in POSITIONAL else by_name
    return parameter if reached else None


def returns_result(function: Any) -> bool:
    """Whether all wrappers of a function surely return what it returns, as it is.

    False if the source of one cannot be read, or uses the result in any other way, as a wrapper
    does that runs a coroutine.
    """
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        if not isinstance(function, FunctionType) or not passes_on(function, inner):
            return False
        function = inner
    return True


def passes_on(function: FunctionType, inner: Any) -> bool:
    """Whether a wrapper returns the result of each call of the inner function, and does no more."""
    names = names_of(function, inner)
    tree = tree_of(function.__code__)
    if tree is None or not isinstance(tree.body[0], ast.FunctionDef):
        return False
    nodes = [node for each in tree.body[0].body for node in ast.walk(each)]
    used = [node for node in nodes if isinstance(node, ast.Name)]
    values = [node.value for node in nodes if isinstance(node, ast.Return)]
    for each in nodes:  # result = function(…), and below it: return result
        if isinstance(each, ast.Assign) and isinstance(name := each.targets[0], ast.Name):
            same = [node for node in used if node.id == name.id and node is not name]
            if same and all(node in values for node in same):
                values.append(each.value)
    called = [each.func for each in values if isinstance(each, ast.Call)]
    uses = [node for node in used if node.id in names]
    return bool(uses) and all(use in called for use in uses)


def names_of(function: FunctionType, inner: Any) -> tuple[str, ...]:
    """The names by which a wrapper knows the wrapped function."""
    closed = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return tuple(name for name, cell in closed if holds(cell, inner))


# ── reading the wrapper ──────────────────────────────────────────────────────────────


def passing_of(function: Any, inner: Any, own: Signature) -> PassedArguments | None:
    """How a wrapper calls the wrapped function; None if that is not clear."""
    stars = {each.kind: each.name for each in own.parameters.values() if each.kind in STARS}
    if isinstance(function, FunctionType):
        return read(function.__code__, names_of(function, inner), *map(stars.get, STARS))
    call = inspect.getattr_static(type(function), "__call__", None)  # of an object
    if not isinstance(call, FunctionType) or not call.__code__.co_argcount:
        return None
    itself, held = call.__code__.co_varnames[0], getattr(function, "__dict__", {})
    names = tuple(f"{itself}.{name}" for name, value in held.items() if value is inner)
    return read(call.__code__, names, *map(stars.get, STARS))


def holds(cell: Any, value: Any) -> bool:
    """Whether a closure's cell contains this value."""
    try:
        return cell.cell_contents is value
    except ValueError:  # not filled yet
        return False


@lru_cache(maxsize=256)
def read(
    code: CodeType, names: Sequence[str], args: str | None, kwargs: str | None
) -> PassedArguments | None:
    """Read from the source how the function of these names is called with these stars."""
    tree = tree_of(code)
    if tree is None:
        return None
    nodes = list(ast.walk(tree))
    used = [node for node in nodes if isinstance(node, ast.Name)]
    found = [each for each in nodes if isinstance(each, ast.Call) and name_of(each.func) in names]
    lists = lists_of(tree.body, used, args, min([each.lineno for each in found], default=0))
    calls = [passing_in(each, lists, kwargs) for each in found]
    if not calls or calls[0] is None or any(each != calls[0] for each in calls):
        return None
    only = sum(node.id == kwargs for node in used) == (len(calls) if kwargs else 0)
    return PassedArguments(*calls[0], only=only)


def tree_of(code: CodeType) -> ast.Module | None:
    """The syntax tree of a function's source; None if it cannot be read."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


def lists_of(
    body: Sequence[ast.stmt], used: Sequence[ast.Name], args: str | None, line: int
) -> dict[str, int] | None:
    """The variables that are tuples ending with ``*args``, with the number of items before it.

    None if there is no ``*args``.
    """
    if args is None:
        return None
    lists, stored = {args: 0}, [node.id for node in used if not isinstance(node.ctx, ast.Load)]
    for each in body[0].body if body and isinstance(body[0], ast.FunctionDef) else ():
        if isinstance(each, ast.Assign) and each.lineno < line and len(each.targets) == 1:
            name, count = name_of(each.targets[0]), before(each.value, lists)
            changes = isinstance(each.value, ast.List)  # a list may be changed
            if name is not None and count is not None and not changes and stored.count(name) == 1:
                lists[name] = count
                stored.remove(name)
    return {name: count for name, count in lists.items() if name not in stored}


def before(node: ast.expr, lists: Mapping[str, int]) -> int | None:
    """The number of items before ``*args`` in a list ending with it; None for other values."""
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
    """The arguments that a call adds before ``*args`` and by name; None for any other call."""
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
    """The source text of a name or of an attribute of a name; None for anything else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def arguments_of(function: Callable[..., Any], *, bind: bool) -> Signature | None:
    """The parameters for callers: a wrapper's own, without the first one if ``bind``."""
    try:
        signature = accepted(function)
    except (TypeError, ValueError):
        return None
    if not bind:
        return signature
    parameters = list(signature.parameters.values())
    positional = (
        Parameter.POSITIONAL_ONLY,
        Parameter.POSITIONAL_OR_KEYWORD,
        Parameter.VAR_POSITIONAL,
    )
    if not parameters or parameters[0].kind not in positional:
        raise ConfigError(
            f"{function!r} is declared with bind=True but takes no first argument",
            advice=["def task(self, …)"],
        )
    if parameters[0].kind is not Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    return signature.replace(parameters=parameters)


def simple_arity(signature: Signature | None) -> tuple[int, int]:
    """The least and most positional arguments that fit alone; (1, 0) if no number does.

    This check decides most calls; it is ten times faster than ``Signature.bind``.
    """
    least = most = 0
    for parameter in signature.parameters.values() if signature else ():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            most = 1 << 30
        elif parameter.kind is Parameter.KEYWORD_ONLY:
            if parameter.default is Parameter.empty:
                return 1, 0
        elif parameter.kind is not Parameter.VAR_KEYWORD:
            most += 1
            least += parameter.default is Parameter.empty
    return least, most
