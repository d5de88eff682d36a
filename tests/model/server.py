"""The real broker: the scripts, unchanged or with one edit, and the contents of Redis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis as redis_py

from streamq.transport.keys import GROUP, Keys
from streamq.transport.scripts import Argument, Script, expand, read

#: A clock that a test sets.
CLOCK = "local function clock() return tonumber(redis.call('GET', 'time')) end"

#: Lists all keys of the namespace: for each its name, its life and its contents.
LOOK = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind, holds = redis.call('TYPE', key).ok, nil
  if kind == 'hash' then
    holds = redis.call('HGETALL', key)
  elseif kind == 'zset' then
    holds = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then
    holds = redis.call('SMEMBERS', key)
  elseif kind == 'string' then
    holds = redis.call('GET', key)
  else
    local groups, held, consumers = redis.call('XINFO', 'GROUPS', key), {}, {}
    if groups[1] then
      held = redis.call('XPENDING', key, ARGV[2], '-', '+', 1000)
      consumers = redis.call('XINFO', 'CONSUMERS', key, ARGV[2])
    end
    holds = { #groups, redis.call('XRANGE', key, '-', '+'), held, consumers }
  end
  found[#found + 1] = { key, kind, redis.call('PTTL', key), holds }
end
return found
"""


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of one line of a file under scripts/lua."""

    file: str
    old: str
    new: str

    def text(self) -> str:
        """The text of the file without the edit."""
        return read(f"{self.file}.lua")


@dataclass(frozen=True, slots=True)
class Held:
    """The contents of a stream: whether it has a group, entries with their owners, consumers."""

    group: bool
    entries: tuple[tuple[str, dict[str, str], str], ...] = ()
    consumers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """A key: milliseconds that it lives (-1 for ever), and its contents."""

    life: int
    holds: Any


@dataclass
class Server:
    """A server that runs scripts by name, at the time that the test sets."""

    client: Any
    edit: Edit | None = None
    keys: Keys = field(default_factory=Keys)
    scripts: dict[str, Script] = field(default_factory=dict)

    def empty(self) -> None:
        self.client.flushdb()

    def set_time(self, now: int) -> None:
        self.client.set("time", now)

    def run(self, name: str, *argv: Argument) -> Any:
        """The answer of a script; a refusal is answered as its text.

        An error in the script itself is raised: an edit must still be valid Lua.
        """
        if name not in self.scripts:
            self.scripts[name] = self.script(name)
            self.client.script_load(self.scripts[name].text)
        try:
            return self.client.execute_command(*self.scripts[name].command(self.keys.root, *argv))
        except redis_py.ResponseError as error:
            if "user_script" in str(error):
                raise
            return str(error)

    def script(self, name: str) -> Script:
        """A script with the clock of the test, and with the edit if it is in this script."""
        replaced = {"clock": CLOCK}
        text = read(f"{name}.lua")
        if self.edit is not None:
            folder, _, file = self.edit.file.rpartition("/")
            if folder:
                replaced[file] = edited(self.edit.text(), self.edit)
            elif file == name:
                text = edited(text, self.edit)
        return Script(name, expand(text, replaced))

    def read(self, consumer: str, stream: str, count: int) -> list[tuple[str, dict[str, str]]]:
        where = {self.keys.queue(stream): ">"}
        found = self.client.xreadgroup(GROUP, consumer, where, count=count)
        return [(entry, fields) for _, entries in found for entry, fields in entries]

    def look(self) -> dict[str, Seen]:
        """The contents of the namespace, by the names of keys without the root."""
        found = self.client.eval(LOOK, 0, f"{self.keys.root}:*", GROUP)
        skip = len(self.keys.root) + 1
        return {key[skip:]: Seen(life, shaped(kind, holds)) for key, kind, life, holds in found}


def edited(text: str, edit: Edit) -> str:
    assert text.count(edit.old) == 1, f"this edit of {edit.file}.lua fits no more: {edit.old!r}"
    return text.replace(edit.old, edit.new)


def shaped(kind: str, holds: Any) -> Any:
    """The contents of a key as Python values."""
    if kind == "stream":
        groups, entries, pending, consumers = holds
        owners: Mapping[str, str] = {entry: owner for entry, owner, _, _ in pending}
        listed = [(entry, mapping(flat), owners.get(entry, "")) for entry, flat in entries]
        gone = [(entry, {}, owner) for entry, owner in owners.items() if entry not in dict(entries)]
        return Held(bool(groups), (*listed, *gone), frozenset(each[1] for each in consumers))
    if kind in ("hash", "zset"):
        return mapping(holds)
    return set(holds) if kind == "set" else holds


def mapping(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
