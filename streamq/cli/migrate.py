"""``streamq migrate``: changes the imports of a Celery project, and shows what is left to do."""

import ast
import difflib
import io
import os
import shutil
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

from streamq.cli.command import FAILED, Command, Group
from streamq.cli.import_rewrites import Remark, Rewriting, parsed, rewrite
from streamq.cli.shared import say
from streamq.core.text import count
from streamq.errors import StreamqError

#: Suffixes of Python's files.
SUFFIXES = (".py", ".pyi")
#: Folders that hold other people's code, beside hidden ones and virtual environments.
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
#: One of these is in every name that is looked for; a file without them is not parsed.
WORDS = (b"celery", b"kombu", b"billiard", b"redbeat")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read."""

    path: Path
    encoding: str
    before: str
    rewriting: Rewriting

    @property
    def changed(self) -> bool:
        return self.before != self.rewriting.text


class Unreadable(Exception):
    """A file could not be read, understood or written; the text says why."""


@click.group(cls=Group)
def migrate() -> None:
    """Move a project from Celery to streamq."""


@migrate.command(cls=Command)
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(exists=True, path_type=Path)
)
@click.option("--write", is_flag=True, help="Write the files; else only the diff is shown.")
@click.option("--strings", is_flag=True, help='Also rewrite names in text: mock.patch("celery…").')
@click.pass_context
def imports(ctx: click.Context, /, paths: tuple[Path, ...], write: bool, strings: bool) -> None:
    """Let Python files import streamq.celery where they import celery and kombu.

    A PATH is a file or a folder. The diff goes to standard output; what is left to do by hand
    goes to standard error. The exit code is 1 if something has no counterpart, or if a file
    could not be read or written.

    \b
    streamq migrate imports .                      shows what would change
    streamq migrate imports --write --strings .    changes it
    """
    found, failures = [], []
    for path, root in files_in(paths):
        try:
            if mentions_celery(path):
                found.append(read(path, root, strings=strings))
        except Unreadable as error:
            failures.append(f"{path}: {error}")
    changed = []
    for file in found:  # all have been read: what is the project's own depends on other files
        try:
            if file.changed and write:
                save(file)
            if file.changed:
                show_diff(file)
                changed.append(file)
        except Unreadable as error:
            failures.append(f"{file.path}: {error}")
    report("no counterpart, not rewritten:", found, "by_hand")
    report("names in text; --strings rewrites those with plain quotes:", found, "in_text")
    for failure in failures:
        say(f"cannot go on with {failure}", err=True)
    say(summary([file.rewriting for file in changed], written=write), err=True)
    left = any(file.rewriting.by_hand for file in found)
    ctx.exit(FAILED if left or failures else 0)


def files_in(paths: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """The files to read, each once, with the folder of the project: in order of their names."""
    seen = set()
    for path in paths:
        root = path if path.is_dir() else path.parent
        for file in python_files(path) if path.is_dir() else [path]:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, root


def python_files(folder: Path) -> Iterator[Path]:
    """The Python files below a folder, without those of environments and installed packages."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in SKIPPED
            and not Path(place, name, "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            if name.endswith(SUFFIXES):
                yield Path(place, name)


def mentions_celery(path: Path) -> bool:
    """Whether a file has a word of Celery; the others need not be ones that Python can parse."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    return any(word in data for word in WORDS)


def read(path: Path, root: Path, *, strings: bool) -> SourceFile:
    """Read a file and rewrite its text.  Raises Unreadable."""
    text, encoding = text_of(path)

    def is_own(module: str, name: str | None) -> bool:
        return is_own_module(path, root, module, name)

    try:
        rewriting = rewrite(text, has=has, is_own=is_own, strings=strings)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise Unreadable(f"{where}{error.msg}: this Python cannot parse it") from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise Unreadable(f"this Python cannot parse it: {error}") from error
    return SourceFile(path, encoding, text, rewriting)


def text_of(path: Path) -> tuple[str, str]:
    """The text of a file, with its line ends as they are, and its encoding.  Raises Unreadable."""
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding), encoding
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except SyntaxError as error:  # an unknown encoding, or a first line that is not UTF-8
        raise Unreadable(error.msg) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Unreadable(f"line {line} is not {error.encoding.upper()}") from error


def save(file: SourceFile) -> None:
    """Write a file anew; it is the old one or the new one at any time.  Raises Unreadable."""
    real = file.path.resolve()  # a link stays a link
    unfinished = real.with_name(f".streamq-{os.getpid()}")
    try:
        if not os.access(real, os.W_OK):
            raise PermissionError(None, "it may not be written")
        try:
            unfinished.write_bytes(file.rewriting.text.encode(file.encoding))
            shutil.copymode(real, unfinished)
            unfinished.replace(real)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unreadable(f"not written: {error.strerror or error}") from error


@cache
def has(module: str, name: str | None) -> bool:
    """Whether there is such a module in streamq, and a name in it."""
    try:
        if find_spec(module) is None:
            return False
    except ModuleNotFoundError:  # its package is none
        return False
    if name is None:
        return True
    try:
        return hasattr(import_module(module), name)
    except (
        ImportError,
        StreamqError,
    ):  # it needs a library that is not installed here, such as Django
        return True


def is_own_module(path: Path, root: Path, module: str, name: str | None) -> bool:
    """Whether ``module`` is the project's own, though it is named celery or kombu.

    A ``celery.py`` beside the file, or in a folder above it, is meant where it has ``name``.  A
    plain ``import celery`` means it only if it is in no package, and does not itself need Celery:
    where it can be imported as ``celery``, it stands in the way of Celery.
    """
    above = [path.parent, *path.parent.parents]
    if root in above:
        above = above[: above.index(root) + 1]
    return any(has_own(folder, path, module, name) for folder in above)


def has_own(folder: Path, path: Path, module: str, name: str | None) -> bool:
    """Whether a folder has a module that is meant by an import in the file ``path``."""
    top, _, rest = module.partition(".")
    if rest:
        return file_of(folder, *module.split(".")) is not None
    own = file_of(folder, top)
    if own is None or own == path:
        return False
    names, needs_celery = contents_of(own.resolve(), top)
    if name is not None:
        return name in names
    return not needs_celery and not (folder / "__init__.py").exists()


def file_of(folder: Path, *parts: str) -> Path | None:
    """The file of a module or a package below a folder; None if there is none."""
    place = folder.joinpath(*parts)
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if file.exists()), None)


@cache
def contents_of(path: Path, top: str) -> tuple[frozenset[str], bool]:
    """The names that a module has of its own, and whether it imports Celery, or streamq by now."""
    try:
        tree = parsed(text_of(path)[0])
    except (Unreadable, SyntaxError, ValueError, RecursionError):
        return frozenset(), False
    packages = (top, "streamq")
    return frozenset(names_in(tree, packages)), imports_any(tree, packages)


def names_in(tree: ast.Module, packages: tuple[str, ...]) -> Iterator[str]:
    """The names that a module defines, or imports from elsewhere than these packages."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name))
        elif isinstance(node, ast.ImportFrom) and (node.level or not below(node.module, packages)):
            yield from (alias.asname or alias.name for alias in node.names)


def imports_any(tree: ast.Module, packages: tuple[str, ...]) -> bool:
    """Whether a module imports one of these packages, at any place."""
    return any(
        (isinstance(node, ast.Import) and any(below(each.name, packages) for each in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and below(node.module, packages))
        for node in ast.walk(tree)
    )


def below(module: str | None, packages: tuple[str, ...]) -> bool:
    """Whether a module belongs to one of these packages."""
    return module is not None and module.partition(".")[0] in packages


def show_diff(file: SourceFile) -> None:
    """Print the diff of a file; in a pipe it is in the file's encoding, for `patch` and git."""
    mark = "\ufeff" if file.encoding == "utf-8-sig" else ""
    before, after = (lines_of(mark + text) for text in (file.before, file.rewriting.text))
    name = file.path.as_posix().lstrip("/").removeprefix("./")
    for line in difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"):
        whole = line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        if sys.stdout.isatty():
            say(whole.rstrip("\r\n"), lines=True)
        else:
            sys.stdout.buffer.write(whole.encode("utf-8" if mark else file.encoding))
    sys.stdout.flush()


def lines_of(text: str) -> list[str]:
    """The lines of a text as `diff` parts them, with their ends."""
    return [*io.StringIO(text, newline="\n")]


def report(title: str, found: Iterable[SourceFile], kind: str) -> None:
    """Print the remarks of all files, of one kind."""
    lines = [(file.path, remark) for file in found for remark in remarks_of(file, kind)]
    if not lines:
        return
    say(title, err=True)
    for path, remark in lines:
        say(f"  {path}:{remark.line}: {remark.what}", err=True)
        if remark.advice:
            say(f"    → {remark.advice}", err=True)


def remarks_of(file: SourceFile, kind: str) -> list[Remark]:
    return file.rewriting.by_hand if kind == "by_hand" else file.rewriting.in_text


def summary(changed: list[Rewriting], *, written: bool) -> str:
    """The last line: how much was changed, or would be."""
    parts = [
        count(len(changed), "file"),
        count(sum(each.imports for each in changed), "import"),
    ]
    if strings := sum(each.strings for each in changed):
        parts.append(count(strings, "name") + " in text")
    end = "written" if written else "nothing written: --write writes it"
    return f"{', '.join(parts)}; {end if changed else 'nothing to write'}"
