"""The Lua scripts: loading them, expanding their includes, and calling them by hash."""

import hashlib
import importlib.resources
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import unquote

from streamq.errors import StreamqError

Argument = str | bytes | int

INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script: one Lua file with its includes, as Redis loads it."""

    name: str
    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode()).hexdigest())

    @property
    def header(self) -> str:
        """The first comment: purpose, KEYS, ARGV and answer of the script."""
        lines = self.text.splitlines()
        lines = lines[lines[0].startswith("#!") :]
        end = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
        return "\n".join(line[2:].removeprefix(" ") for line in lines[:end]).strip()

    def command(self, root: str, *argv: Argument) -> tuple[Argument, ...]:
        """The command that runs this script in the namespace with this root."""
        return ("EVALSHA", self.sha, "1", root, *argv)


@cache
def load(name: str, clock: str | None = None) -> Script:
    """Read ``scripts/lua/NAME.lua``; ``clock`` replaces the text of its include ``clock``."""
    replaced = {} if clock is None else {"clock": clock}
    return Script(name, expand(read(f"{name}.lua"), replaced))


def expand(text: str, replaced: dict[str, str]) -> str:
    """Insert each include once, before the first part that needs it.

    The first line stays first, because Redis reads flags from it, and the header
    comment stays above the code.  No line end at the end: a shell's ``$(…)`` would drop
    it, and with it the hash.
    """
    done: list[str] = []
    parts: list[str] = []

    def take(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise StreamqError(f"the Lua includes form a cycle: {' → '.join([*above, name])}")
        if name in done:
            return
        source = replaced.get(name) or read(f"includes/{name}.lua")
        for inner in INCLUDE.findall(source):
            take(inner, (*above, name))
        done.append(name)
        parts.append(INCLUDE.sub("", source).strip())

    for name in INCLUDE.findall(text):
        take(name, ())
    header, *rest = INCLUDE.split(text)[::2]
    header = header.rstrip().removesuffix("--").rstrip()
    return "\n\n".join([header, *parts, "".join(rest).strip()]).strip()


def names() -> list[str]:
    """The names of all scripts there are."""
    files = (item.name for item in folder().iterdir())
    return sorted(name.removesuffix(".lua") for name in files if name.endswith(".lua"))


def read(path: str) -> str:
    """The text of a file in ``scripts/lua``."""
    item = folder().joinpath(*path.split("/"))
    if not item.is_file():
        raise StreamqError(f"there is no Lua script {path!r}", known={"folder": folder()})
    return item.read_text(encoding="utf-8")


@cache
def folder() -> Traversable:
    """The folder of the scripts: in the package when installed, else in the checkout."""
    packaged = importlib.resources.files("streamq").joinpath("lua")
    checkout = Path(__file__).resolve().parents[2] / "scripts" / "lua"
    for place in (packaged, checkout):
        if place.joinpath("publish.lua").is_file():
            return place
    raise StreamqError(
        "streamq is installed without its Lua scripts",
        known={"looked in": f"{packaged} and {checkout}"},
        advice=["install it again: pip install --force-reinstall streamq"],
    )


def refusal(error: str) -> list[str]:
    """The words of a refusal: its code, then the details.

    >>> refusal("UNROUTABLE 0 orders a%20key")
    ['UNROUTABLE', '0', 'orders', 'a key']
    """
    return [unquote(word, errors="surrogateescape") for word in error.split(" ")]
