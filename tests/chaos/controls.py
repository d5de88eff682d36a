"""Runs in which one guard is missing: each must be found out, or the checks are worth nothing.

``python -m tests.chaos.run --control NAME``.  Where chance would need too long to meet what
the guard is for, the faults of the run are directed at it: ``weights`` says which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.edits import Edit

LUA = "scripts/lua/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What is missing, which faults and calls meet it, and the rules that must see it."""

    edits: tuple[Edit, ...]
    seen_by: frozenset[str]
    weights: Mapping[str, float] = field(default_factory=dict)
    kinds: str = ""
    seconds: float = 15.0


LEASE_CHECK = "if not redis.call('ZRANK', key_of('leases'), consumer) then\n"

NEVER = "  if false then\n"

CONTROLS: Mapping[str, Control] = {
    # The dead settle: what a runner does whose supervisor is frozen for longer than a lease.
    "no-fence": Control(
        edits=((LUA + "includes/numbered.lua", LEASE_CHECK, "if false then\n"),),
        weights={"freeze_supervisor": 3, "freeze_family": 1},
        seen_by=frozenset({"posthumous"}),
    ),
    # Directed: a lease that is there again hides from the first guard that a message is not.
    "any-ack": Control(
        edits=(
            (
                LUA + "complete.lua",
                "      mine = redis.call('XACK', key, 'workers', entry)\n",
                "      redis.call('XACK', key, 'workers', entry)\n      mine = 1\n",
            ),
            (
                LUA + "settle.lua",
                "  return redis.call('XPENDING', key, 'workers', entry, entry, 1)[1], ",
                "  return true, ",
            ),
            (
                LUA + "settle.lua",
                "  return take(message.stream, message.entry)\n",
                "  take(message.stream, message.entry)\n  return true\n",
            ),
        ),
        weights={"raise_the_dead": 1},
        kinds="late slow again",
        seen_by=frozenset({"double"}),
    ),
    "dropping-recovery": Control(
        edits=(
            (
                LUA + "recover.lua",
                "    give_back(stream, entry, fields)\n    moved = moved + 1\n  elseif certain",
                "    take(stream, entry)\n    moved = moved + 1\n  elseif certain",
            ),
        ),
        weights={"kill_runner": 3, "kill_family": 1},
        seen_by=frozenset({"lost"}),
    ),
    # Directed: only a lost answer makes a producer send the same call again.
    "no-lane-memory": Control(
        edits=(
            (LUA + "push.lua", "  if last == mark then\n", "  if false then\n"),
            (LUA + "publish.lua", "  if last == mark_of(number) then\n", "  if false then\n"),
            (LUA + "push.lua", "if newest and tonumber(newest) >= tonumber(number) then\n", NEVER),
            (LUA + "publish.lua", "  if tonumber(newest) >= tonumber(number) then\n", NEVER),
        ),
        weights={"drop_answers": 1},
        kinds="late early delayed again",
        seen_by=frozenset({"double", "unexplained", "twice"}),
    ),
    # Directed: leases run out while Redis is away, and nobody waits before judging.
    "no-view-rule": Control(
        edits=(
            (
                "streamq/worker/lease_view.py",
                "return self.since is not None and now - self.since >= ENOUGH * self.lease",
                "return True",
            ),
        ),
        weights={"kill_server": 1},
        kinds="late slow long",
        seconds=20.0,
        seen_by=frozenset({"unexplained", "wrong", "double"}),
    ),
    "promoted-and-kept": Control(
        edits=(
            (
                LUA + "promote.lua",
                "  drop_later(name)\n",
                "  redis.call('ZADD', scheduled, now + 500, name)\n",
            ),
        ),
        weights={"kill_runner": 1, "flush_scripts": 1},
        seen_by=frozenset({"unexplained", "twice", "double"}),
        seconds=10.0,
    ),
    "no-early-mark": Control(
        edits=(
            (
                LUA + "complete.lua",
                "        redis.call('HSET', marks, stream .. ' ' .. entry, ARGV[at + 1])\n",
                "",
            ),
            (
                LUA + "complete.lua",
                "      mine = redis.call('HDEL', marks, stream .. ' ' .. entry)\n",
                "      mine = 1\n",
            ),
        ),
        weights={"kill_runner": 3, "kill_family": 1},
        kinds="early early_slow slow",
        seen_by=frozenset({"lost"}),
    ),
}
