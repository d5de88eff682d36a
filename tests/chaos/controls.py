"""The controls of chaos: runs in which one guard is missing, which the checker must detect.

``python -m tests.chaos.run --control NAME``.  Where random faults would need too long
to reach the guard, the faults of the run are directed at it: ``weights`` says which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.edits import Edit

LUA = "scripts/lua/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The missing guard, the faults and calls that need it, and the rules that must notice."""

    edits: tuple[Edit, ...]
    seen_by: frozenset[str]
    weights: Mapping[str, float] = field(default_factory=dict)
    kinds: str = ""
    seconds: float = 15.0


LEASE_CHECK = "if not redis.call('ZRANK', key_of('leases'), consumer) then\n"

NEVER = "  if false then\n"

CONTROLS: Mapping[str, Control] = {
    # A consumer settles without a lease: its supervisor was frozen for longer than a lease.
    "no-fence": Control(
        edits=((LUA + "includes/consumer_calls.lua", LEASE_CHECK, "if false then\n"),),
        weights={"freeze_supervisor": 3, "freeze_family": 1},
        seen_by=frozenset({"posthumous"}),
    ),
    # Directed: after its lease came back, a consumer passes the lease check with a lost message.
    "any-ack": Control(
        edits=(
            (
                LUA + "settle.lua",
                "      settled = redis.call('XACK', key, 'workers', entry)\n",
                "      redis.call('XACK', key, 'workers', entry)\n      settled = 1\n",
            ),
            (
                LUA + "follow.lua",
                "  return redis.call('XPENDING', key, 'workers', entry, entry, 1)[1], ",
                "  return true, ",
            ),
            (
                LUA + "follow.lua",
                "  return ack_and_delete(message.stream, message.entry)\n",
                "  ack_and_delete(message.stream, message.entry)\n  return true\n",
            ),
        ),
        weights={"recover_living": 1},
        kinds="late slow again",
        seen_by=frozenset({"double"}),
    ),
    "dropping-recovery": Control(
        edits=(
            (
                LUA + "recover.lua",
                "    hand_back(stream, entry, fields)\n    moved = moved + 1\n  elseif ran_alone",
                "    ack_and_delete(stream, entry)\n    moved = moved + 1\n  elseif ran_alone",
            ),
        ),
        weights={"kill_runner": 3, "kill_family": 1},
        seen_by=frozenset({"lost"}),
    ),
    # Directed: a producer sends the same call again only after a lost answer.
    "no-channel-memory": Control(
        edits=(
            (LUA + "publish_plain.lua", "  if last == mark then\n", "  if false then\n"),
            (
                LUA + "includes/publisher_calls.lua",
                "  if last == mark_of(number) then\n",
                "  if false then\n",
            ),
            (
                LUA + "publish_plain.lua",
                "if newest and tonumber(newest) >= tonumber(number) then\n",
                NEVER,
            ),
            (
                LUA + "includes/publisher_calls.lua",
                "  if tonumber(newest) >= tonumber(number) then\n",
                NEVER,
            ),
        ),
        weights={"drop_answers": 1},
        kinds="late early delayed again",
        seen_by=frozenset({"double", "unexplained", "twice"}),
    ),
    # Directed: leases expire while Redis is away, and supervisors declare deaths at once.
    "no-view-rule": Control(
        edits=(
            (
                "streamq/worker/lease_view.py",
                "return self.since is not None and now - self.since >= JUDGE_AFTER * self.lease",
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
                "  drop_scheduled(name)\n",
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
                LUA + "settle.lua",
                "        redis.call('HSET', marks, stream .. ' ' .. entry, ARGV[at + 1])\n",
                "",
            ),
            (
                LUA + "settle.lua",
                "      settled = redis.call('HDEL', marks, stream .. ' ' .. entry)\n",
                "      settled = 1\n",
            ),
        ),
        weights={"kill_runner": 3, "kill_family": 1},
        kinds="early early_slow slow",
        seen_by=frozenset({"lost"}),
    ),
}
