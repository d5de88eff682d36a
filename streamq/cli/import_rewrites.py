"""Rewrites the imports of a Celery project for ``streamq.celery``: text in, text out, no files.

It works by the syntax tree, and changes nothing but the dotted names: what stands around them,
comments and line ends included, stays as it is.
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from streamq.cli.celery_modules import advice_for, foreign_package, internal

#: Package → the package that stands for it here; its modules have the same names below it.
COUNTERPARTS = {"celery": "streamq.celery", "kombu": "streamq.celery.kombu"}

#: ``(module, name)``: whether a module has a name; with None, whether there is such a module.
Has = Callable[[str, str | None], bool]

#: How Python parts lines: not as ``str.splitlines``, which also knows form feeds and others.
LINE_END = re.compile(r"\r\n|\r|\n")
#: What stands between ``from`` and the name of the module.
FROM = re.compile(r"from(?:[ \t\f]|\\(?:\r\n|\r|\n))+(?=(?:celery|kombu)\b)")
#: The beginning of a literal: prefix and quotes.
QUOTE = re.compile(r"[rRbBuU]{0,2}(?:'''|\"\"\"|'|\")")
#: A dotted name below one of the packages, perhaps with a colon before the last part.
NAME_IN_TEXT = re.compile(r"(celery|kombu)((?:\.[A-Za-z_]\w*)+)(:[A-Za-z_]\w*)?")
#: The name of a module or of something in it.
DOTTED = re.compile(r"[A-Za-z_]\w*(?:[.:][A-Za-z_]\w*)*")
#: Functions whose argument is the name of a module, ``"celery"`` alone included.
LOADERS = frozenset({"__import__", "find_spec", "import_module", "importorskip"})


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """Something in a line that a person has to look at, and what to do about it."""

    line: int
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A part of a text, by its offsets in characters, and what takes its place."""

    start: int
    end: int
    instead: str


@dataclass(slots=True)
class Rewriting:
    """A rewritten text: what was changed, and what is left to a person."""

    text: str
    #: Statements and names in text that were rewritten.
    imports: int = 0
    strings: int = 0
    #: What has no counterpart; not rewritten.
    by_hand: list[Remark] = field(default_factory=list)
    #: Names in text that have a counterpart, and were not rewritten.
    in_text: list[Remark] = field(default_factory=list)


def rewrite(text: str, *, has: Has, is_own: Has, strings: bool = False) -> Rewriting:
    """Rewrite the imports of a module.

    ``has`` knows what there is in streamq, ``is_own`` which modules named celery or kombu are
    the project's; ``strings`` also rewrites names in text.  Raises SyntaxError, ValueError or
    RecursionError if the text is no Python of this version.
    """
    tree = parsed(text)
    found = Rewriter(Positions(text), has=has, is_own=is_own, strings=strings)
    found.read(tree)
    result = found.result
    result.text = changed(text, found.changes)
    result.by_hand = sorted(set(result.by_hand))
    result.in_text = sorted(set(result.in_text))
    return result


def parsed(text: str) -> ast.Module:
    """The tree of a module, without the warnings of Python about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def changed(text: str, changes: Iterable[Change]) -> str:
    """Apply changes to a text."""
    parts, done = [], 0
    for change in sorted(changes, key=lambda change: change.start):
        parts += [text[done : change.start], change.instead]
        done = change.end
    return "".join([*parts, text[done:]])


class Positions:
    """A text in which the positions of the syntax tree are looked up."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(end.end() for end in LINE_END.finditer(text))]

    def offset(self, line: int, column: int) -> int:
        """The offset in characters of a line, from 1, and a column in bytes of UTF-8."""
        start = self.starts[line - 1]
        # A character has a byte at least, so that no more characters are needed.
        before = self.text[start : start + column].encode()[:column]
        return start + len(before.decode())

    def span(self, node: ast.expr | ast.alias) -> tuple[int, int]:
        """The offsets of a part of the tree."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.offset(node.lineno, node.col_offset),
            self.offset(node.end_lineno, node.end_col_offset),
        )


class Rewriter:
    """Collects the changes of a module."""

    def __init__(self, positions: Positions, *, has: Has, is_own: Has, strings: bool) -> None:
        self.positions = positions
        self.has, self.is_own = has, is_own
        self.strings = strings
        self.changes: list[Change] = []
        self.result = Rewriting(positions.text)
        #: Name in the module → the module of Celery that it was bound to by ``import``.
        self.bound: dict[str, str] = {}

    def read(self, tree: ast.Module) -> None:
        """Look at every statement and every text of a module."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self.read_from(node, node.module)
            elif isinstance(node, ast.Import):
                self.read_import(node)
        for chain in chains_below(tree, self.bound):
            self.check_use(*chain)
        loaded = arguments_of_loaders(tree)
        for node, text in texts_of(tree):
            self.read_text(node, text, is_module=node in loaded)

    def remark(self, line: int, module: str) -> None:
        """Say that something has no counterpart."""
        self.result.by_hand.append(Remark(line, f"{module} has no counterpart", advice_for(module)))

    def read_from(self, node: ast.ImportFrom, module: str) -> None:
        """Rewrite ``from MODULE import …``, if all of its names have counterparts."""
        target = counterpart(module)
        if target is None:
            self.note_foreign(node.lineno, module)
            return
        names = [alias.name for alias in node.names]
        if any(self.is_own(module, name) for name in names):
            return
        if not self.has(target, None):
            self.remark(node.lineno, module)
            return
        missing = [name for name in names if name != "*" and not self.offers(target, name)]
        for name in missing:
            self.remark(node.lineno, f"{module}.{name}")
        if missing:
            if len(missing) < len(names):
                rest = ", ".join(name for name in names if name not in missing)
                self.result.by_hand.append(
                    Remark(
                        node.lineno,
                        f"left as it is, with {rest}",
                        f"write a line of its own: from {module} import {rest}",
                    )
                )
            return
        begin = self.positions.offset(node.lineno, node.col_offset)
        before = FROM.match(self.positions.text, begin)
        assert before is not None
        start = before.end()
        top = module.partition(".")[0]
        self.changes.append(Change(start, start + len(top), COUNTERPARTS[top]))
        self.result.imports += 1

    def read_import(self, node: ast.Import) -> None:
        """Rewrite the modules of ``import MODULE, …`` that have counterparts."""
        rewritten = False
        for alias in node.names:
            target = counterpart(alias.name)
            if target is None:
                self.note_foreign(node.lineno, alias.name)
            elif self.is_own(alias.name, None):
                continue
            elif not self.has(target, None):
                self.remark(node.lineno, alias.name)
            else:
                top = alias.name.partition(".")[0]
                self.bound[alias.asname or top] = alias.name if alias.asname else top
                instead = self.imported(alias, target)
                self.changes.append(Change(*self.positions.span(alias), instead))
                rewritten = True
        self.result.imports += rewritten

    def imported(self, alias: ast.alias, target: str) -> str:
        """What is imported in place of a module, so that the same name is bound."""
        if alias.asname:
            return f"{target} as {alias.asname}"
        top = alias.name.partition(".")[0]
        package = f"{COUNTERPARTS[top]} as {top}"
        # ``import celery.x.y`` also loads y, which is then an attribute of x.
        return package if target == COUNTERPARTS[top] else f"{package}, {target}"

    def offers(self, target: str, name: str) -> bool:
        """Whether a module has a name, or a module of that name below it."""
        return self.has(target, name) or self.has(f"{target}.{name}", None)

    def note_foreign(self, line: int, module: str) -> None:
        """Say what is to be done about a package that works with Celery alone."""
        if foreign_package(module):
            self.remark(line, module)

    def check_use(self, line: int, name: str, attributes: list[str]) -> None:
        """Say it if ``celery.x.y``, after ``import celery``, has no counterpart."""
        module = self.bound[name]
        if (missing := self.missing_of(module, attributes)) is not None:
            self.remark(line, missing)

    def missing_of(self, module: str, attributes: list[str]) -> str | None:
        """The first of the attributes of a module that is not there; None if all are."""
        target = counterpart(module)
        for attribute in attributes:
            if target is None or not self.has(target, None):
                return module
            module = f"{module}.{attribute}"
            if self.has(target, attribute) and not self.has(f"{target}.{attribute}", None):
                return None  # a function or a class: its attributes are not looked at
            target = f"{target}.{attribute}"
        return None if target is not None and self.has(target, None) else module

    def read_text(self, node: ast.Constant, text: str, *, is_module: bool) -> None:
        """Rewrite or list a text that names something of Celery, as in ``mock.patch("…")``."""
        if foreign_package(text) and DOTTED.fullmatch(text):
            self.remark(node.lineno, text)
            return
        named = NAME_IN_TEXT.fullmatch(text)
        if named is None and not (is_module and text in COUNTERPARTS):
            return
        top, *attributes = re.split(r"[.:]", text)
        if self.is_own(text.partition(":")[0], None):
            return
        if self.missing_of(top, attributes) is not None:
            if internal(text):
                self.remark(node.lineno, text)
            return
        start, _ = self.positions.span(node)
        quote = QUOTE.match(self.positions.text, start)
        plain = quote is not None and self.positions.text.startswith(text, quote.end())
        if self.strings and plain:
            assert quote is not None
            self.changes.append(Change(quote.end(), quote.end() + len(top), COUNTERPARTS[top]))
            self.result.strings += 1
        else:
            self.result.in_text.append(Remark(node.lineno, f'"{text}"'))


def counterpart(module: str) -> str | None:
    """The module that stands for one of Celery or kombu; None for any other."""
    top, dot, rest = module.partition(".")
    return f"{COUNTERPARTS[top]}{dot}{rest}" if top in COUNTERPARTS else None


def chains_below(tree: ast.Module, bound: dict[str, str]) -> Iterator[tuple[int, str, list[str]]]:
    """The uses of modules that were imported: line, name and attributes of ``celery.x.y``.

    A name that is also assigned, as in ``celery = Celery()``, may be anything: it is left out.
    """
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        attributes: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            attributes.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name) and value.id in bound and value.id not in assigned:
            yield node.lineno, value.id, attributes


def texts_of(tree: ast.Module) -> Iterator[tuple[ast.Constant, str]]:
    """The texts of a module, without annotations and parts of f-strings."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        outer: list[ast.expr | None] = []
        if isinstance(node, ast.JoinedStr):
            outer = [node]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            outer = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            outer = [node.returns]
        for part in filter(None, outer):
            left_out.update(id(inner) for inner in ast.walk(part))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in left_out:
            continue
        if isinstance(node.value, str):
            yield node, node.value


def arguments_of_loaders(tree: ast.Module) -> set[ast.expr]:
    """The first arguments of functions such as ``importlib.import_module``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in LOADERS:
                found.add(node.args[0])
    return found
