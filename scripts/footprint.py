"""Write streamq/acl/footprint_table.py: what each Lua script asks of Redis, read from its text.

python scripts/footprint.py            write the table
python scripts/footprint.py --check    fail if the table is not up to date

Where the kind of a key cannot be read from the text, every kind of the script counts that the
command works on: then too much is granted, never too little, because a command that is refused
half-way leaves a script half done.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.generated import write_or_check  # noqa: E402 - found beside this script
from streamq.acl.footprint import Access  # noqa: E402
from streamq.errors import StreamqError  # noqa: E402
from streamq.transport.scripts import load  # noqa: E402
from streamq.transport.scripts import names as all_scripts  # noqa: E402

TABLE = ROOT / "streamq" / "acl" / "footprint_table.py"

#: So that no line is too long.
COMMANDS_A_LINE = 9

HEADER = '''\
"""The footprints of the Lua scripts.  Written by scripts/footprint.py from scripts/lua.

A line: kinds of keys, then the commands on each of them; "a+b" are keys of one call.
"""

FOOTPRINTS: dict[str, tuple[str, ...]] = {
'''

#: The types of each kind of key.  A kind that is not listed may have any type.
TYPES = {
    "exchanges": "hash",
    "alternates": "hash",
    "queues": "hash",
    "bindings": "hash",
    "routes": "hash",
    "queue": "stream",
    "task": "hash",
    "dedup": "string",
    "publisher": "string",
    "dead": "zset hash",
    "scheduled": "zset hash",
    "schedules": "zset",
    "schedule": "hash stream",
    "revoked": "zset",
    "terminating": "zset",
    "quarantine": "set",
    "orphans": "zset",
    "group_scan": "string",
    "leases": "zset",
    "lease_ms": "hash",
    "started": "hash",
    "settled": "string",
    "reply": "stream",
    "waiters": "string",
    "generation": "string",
    "workers": "zset",
    "worker": "hash",
    "script": "hash",
}

#: The first letters of commands that work on one type; others work on keys of any.
PREFIXES = {"X": "stream", "H": "hash", "Z": "zset", "S": "set"}
STRINGS = frozenset({"GET", "SET", "GETDEL", "GETEX", "SETEX", "PSETEX", "SETNX", "INCR", "INCRBY"})

#: Commands whose second word is a part of their name.
CONTAINERS = frozenset({"ACL", "CLIENT", "CONFIG", "OBJECT", "SCRIPT", "XGROUP", "XINFO"})
#: Commands that name no key.
KEYLESS = frozenset({"TIME", "PUBLISH", "PING"})
#: Commands whose arguments are keys, all of them.
ALL_KEYS = frozenset({"DEL", "UNLINK", "EXISTS", "TOUCH", "RENAME"})

CALL = re.compile(r"\bredis\.p?call\b")
KEY_OF = re.compile(r"key_of\('(\w+)'(,?)")
#: A key whose kind is not a literal: its kind cannot be read.
NAMELESS = re.compile(r"(?<!function )\bkey_of\((?!')")
BY_ROOT = re.compile(r"root \.\. '(:\w+(:?))")
COMMENT = re.compile(r"--[^\n]*")
STRING = re.compile(r"'[^'\n]*'")
#: Top-level functions: they begin and end at the margin.
FUNCTION = re.compile(r"^(?:local )?function (\w+)\(([^)]*)\)\n(.*?)^end\b", re.M | re.S)
#: A line that continues the expression above; and a text that names no key.
CONTINUED = re.compile(r"\n\s*(?:and\b|or\b|\.\.)")
UNCLEAR = "?"
INNER_PARAMETERS = re.compile(r"\bfunction\b[^(\n]*\(([^)]*)\)|\bfor ([^=\n]+?) in\b")


def render() -> str:
    """The text of the table."""
    return HEADER + "".join(map(entry, all_scripts())) + "}\n"


def entry(name: str) -> str:
    """The lines of one script."""
    lines = [f'"{line}",' for line in lines_of(read(name))]
    if len(lines) < 2:
        return f'    "{name}": ({"".join(lines)}),\n'
    return f'    "{name}": (\n' + "".join(f"        {line}\n" for line in lines) + "    ),\n"


def read(name: str) -> frozenset[Access]:
    """Every access of a script, whatever its arguments."""
    return frozenset(ScriptReader(name, load(name).text).accesses())


def lines_of(accesses: frozenset[Access]) -> list[str]:
    """Accesses as ``footprint.accesses`` reads them: a line for each kind of key."""
    by_kind: dict[str, list[str]] = {}
    for access in sorted(accesses, key=lambda each: each.command):
        by_kind.setdefault("+".join(sorted(access.kinds)), []).append(access.command)
    return [
        f"{kind}: {' '.join(commands)}".removeprefix(": ")
        for kind in sorted(by_kind)
        for commands in batched(by_kind[kind], COMMANDS_A_LINE)
    ]


def batched(values: list[str], most: int) -> Iterator[list[str]]:
    """Parts of a list with at most so many values each."""
    for start in range(0, len(values), most):
        yield values[start : start + most]


class ScriptReader:
    """The reader of one script, with its includes."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text = COMMENT.sub("", text)
        self.functions = {found[1]: found[3] for found in FUNCTION.finditer(text)}
        self.parameters = {found[1]: names(found[2]) for found in FUNCTION.finditer(text)}
        self.main = FUNCTION.sub("", text)
        if len(self.functions) < len(FUNCTION.findall(text)):
            raise StreamqError(f"{name}.lua has two functions of one name, which cannot be read")
        self.bare = STRING.sub("''", text)
        self.kinds = mentioned(text) - channels(text)

    def accesses(self) -> Iterator[Access]:
        """Every access of the script: a command with the kinds of its keys."""
        for found in NAMELESS.finditer(self.text):
            raise self.unreadable(self.text[found.start() :])
        for block in self.reached():
            for arguments in self.calls(self.body(block)):
                yield from self.access(arguments, block)

    def reached(self) -> set[str]:
        """The functions that can be called: includes define more than a script needs."""
        found, todo = {""}, [""]
        while todo:
            words = set(re.findall(r"\w+", self.body(todo.pop())))
            new = [name for name in self.functions if name in words and name not in found]
            found.update(new)
            todo += new
        return found

    def calls(self, body: str) -> Iterator[list[str]]:
        """The arguments of each call of Redis in a part of the script."""
        for found in CALL.finditer(body):
            if body[found.end() : found.end() + 1] != "(":
                raise self.unreadable(body[found.start() :])
            arguments = split(body, found.end() + 1)
            if not re.fullmatch(r"'[A-Z]+'", arguments[0]):
                raise self.unreadable(body[found.start() :])
            yield arguments

    def access(self, arguments: list[str], block: str) -> Iterator[Access]:
        """The accesses of one call."""
        command, keys = arguments[0].strip("'"), arguments[1:]
        if command in KEYLESS:
            yield Access(command)
            return
        if command in CONTAINERS:
            command, keys = f"{command}|{keys[0].strip(chr(39)).upper()}", keys[1:]
        keys = keys if command in ALL_KEYS else keys[:1]
        resolved = [self.kinds_of(key, block, ()) for key in keys]
        if len(keys) > 1 and all(resolved):
            yield Access(command, frozenset(kind for found in resolved for kind in found or ()))
        for found in resolved:
            for kind in found or fitting(command, self.kinds):
                yield Access(command, frozenset({kind}))

    def kinds_of(self, text: str, block: str, seen: tuple[str, ...]) -> frozenset[str] | None:
        """The kinds that a key may be of; None if they cannot be read from the text."""
        if KEY_OF.match(text) or BY_ROOT.match(text):
            return mentioned(text)
        if found := re.match(r"(\w+)\(", text):
            return self.kinds_of_answer(found[1], seen)
        if re.fullmatch(r"[A-Za-z_]\w*", text):
            return self.kinds_of_name(text, block, seen)
        return None

    def kinds_of_answer(self, function: str, seen: tuple[str, ...]) -> frozenset[str] | None:
        """The kinds of the keys that a function returns."""
        if function in seen or function not in self.functions:
            return None
        returned = re.findall(r"\breturn ([^\n]+)", self.functions[function])
        return self.all_of([(each, function) for each in returned], (*seen, function))

    def kinds_of_name(self, name: str, block: str, seen: tuple[str, ...]) -> frozenset[str] | None:
        """The kinds of the values of a variable, assigned in its function or passed by callers."""
        place = f"{block}.{name}"
        body = self.body(block)
        inner = [part for pair in INNER_PARAMETERS.findall(body) for part in pair]
        if place in seen or name in names(",".join(inner)):
            return None
        given = [(value, block) for value in values_of(name, body)]
        if block and name in self.parameters[block]:
            at = self.parameters[block].index(name)
            given += self.passed_values(block, at)
            if not given:
                return None
        elif not given and block:
            return self.kinds_of_name(name, "", (*seen, place))
        return self.all_of(given, (*seen, place))

    def passed_values(self, function: str, at: int) -> list[tuple[str, str]]:
        """The values that callers pass for a parameter; none if one of them is unclear."""
        direct = re.compile(rf"(?<!function )\b{function}\(")
        mentions = len(re.findall(rf"\b{function}\b", self.bare)) - 1
        given = []
        for block in ("", *self.functions):
            body = self.body(block)
            for call in direct.finditer(body):
                arguments = split(body, call.end())
                given.append((arguments[at] if at < len(arguments) else "nil", block))
        return given if len(given) == mentions else []

    def all_of(self, given: list[tuple[str, str]], seen: tuple[str, ...]) -> frozenset[str] | None:
        """The kinds of several values together; None if those of one cannot be read."""
        found = [self.kinds_of(text, block, seen) for text, block in given]
        known = [kinds for kinds in found if kinds is not None]
        return frozenset().union(*known) if known and len(known) == len(found) else None

    def body(self, block: str) -> str:
        """The text of a function, or the text outside of all functions."""
        return self.functions[block] if block else self.main

    def unreadable(self, text: str) -> StreamqError:
        """The error for a call that cannot be read."""
        return StreamqError(
            f"{self.name}.lua asks Redis in a way that cannot be read: {text[:60]!r}",
            advice=[
                "write redis.call('COMMAND', key, …) and key_of('kind', …), so that rights can "
                "be derived from it"
            ],
        )


def spelled(found: re.Match[str]) -> str:
    """The kind that a text names: ``leases``, or ``task:*``."""
    return found[1].strip(":") + (":*" if found[2] else "")


def mentioned(text: str) -> frozenset[str]:
    """Every kind of key that a script names."""
    places = [*KEY_OF.finditer(text), *BY_ROOT.finditer(text)]
    return frozenset(spelled(found) for found in places)


def channels(text: str) -> frozenset[str]:
    """The names that are used as channels: they need no right to a key."""
    found = re.findall(r"'PUBLISH',\s*key_of\('(\w+)'(?:\)|(,))", text)
    return frozenset(f"{name}:*" if many else name for name, many in found)


def fitting(command: str, kinds: frozenset[str]) -> frozenset[str]:
    """Those of the kinds that a command can work on."""
    wanted = "string" if command in STRINGS else PREFIXES.get(command[0])
    return frozenset(
        kind
        for kind in kinds
        if wanted is None or wanted in TYPES.get(kind.removesuffix(":*"), wanted).split()
    )


def values_of(name: str, body: str) -> Iterator[str]:
    """The values that are assigned to a variable: ``a = x``, ``local a, b = x, y``."""
    for found in re.finditer(r"^\s*(?:local )?([\w, ]+?) = ", body, re.M):
        left = names(found[1])
        if name in left:
            values = split(body, found.end(), ends="\n")
            at = left.index(name)
            whole = not CONTINUED.match(body, body.find("\n", found.end()))
            yield (values[at] if at < len(values) else values[-1]) if whole else UNCLEAR


def names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def split(text: str, start: int, ends: str = ")") -> list[str]:
    """The arguments from here to the closing parenthesis, or to the end of the line."""
    parts, depth, part, quoted = [], 0, "", False
    for char in text[start:]:
        if char == "'":
            quoted = not quoted
        if not quoted:
            if depth <= 0 and char in ends:
                break
            depth += (char in "({[") - (char in ")}]")
            if depth == 0 and char == ",":
                parts.append(part.strip())
                part = ""
                continue
        part += char
    return [*parts, part.strip()]


if __name__ == "__main__":
    sys.exit(write_or_check(TABLE, render()))
