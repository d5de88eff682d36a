"""The Lua scripts: who may put a message into a stream, write a state, or end a task."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LUA = Path(__file__).resolve().parents[2] / "scripts" / "lua"
FILES = {str(path.relative_to(LUA)): path.read_text() for path in sorted(LUA.rglob("*.lua"))}

#: A call of Redis with all its arguments, up to the parenthesis that closes it.
CALL = re.compile(r"redis\.p?call\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)")

#: Who adds entries to streams, and why.
ADDERS = {
    "includes/emit.lua": "the one door into the streams of queues",
    "publish_plain.lua": "plain messages, for speed",
    "repair.lua": "it rebuilds a stream, and entries keep their ids",
    "includes/ids.lua": "it asks whether a stream has ids left",
    "tick.lua": "it notes the runs of a schedule, in a stream of its own",
    "includes/finish.lua": "waiters are notified in their own streams",
}
#: Who writes which states.
WRITERS = {
    "includes/emit.lua": {"'QUEUED'", "'SCHEDULED'"},
    "includes/requeue.lua": {"'QUEUED'"},
    "publish_plain.lua": {"'QUEUED'"},
    "mark_started.lua": {"'STARTED'"},
    "includes/run_again.lua": {"state"},
    "update_state.lua": {"ARGV[3]"},
    "includes/finish.lua": {"state"},
}
LONGEST = {"publish.lua": 220, "settle.lua": 130, "follow.lua": 220}


def calls(text: str, command: str) -> Iterator[list[str]]:
    """The arguments of each call of a command, comments left out."""
    for found in CALL.finditer(re.sub(r"--[^\n]*", "", text)):
        words = [word.strip() for word in found[1].split(",")]
        if words[0] == f"'{command}'":
            yield words[1:]


def states(text: str) -> set[str]:
    """The states that a script writes into records, as they stand in its text."""
    return {
        words[words.index("'state'") + 1] for words in calls(text, "HSET") if "'state'" in words
    }


def test_messages_enter_streams_through_emit():
    assert {name for name, text in FILES.items() if any(calls(text, "XADD"))} == set(ADDERS)


def test_each_state_is_written_in_one_place():
    assert {name: found for name, text in FILES.items() if (found := states(text))} == WRITERS


def test_every_end_goes_through_finish():
    writers = {
        name
        for name, text in FILES.items()
        if any("'finished'" in words for words in calls(text, "HSET"))
    }

    assert writers == {"includes/finish.lua"}


@pytest.mark.parametrize("name", LONGEST)
def test_the_large_scripts_stay_readable(name):
    assert len(FILES[name].splitlines()) <= LONGEST[name]


def test_a_script_that_goes_past_a_door_is_seen():
    text = """
redis.call(
  'HSET', key_of('task', id), 'state', 'SUCCESS',
  'finished', clock()
)
-- redis.call('XADD', key) only in a comment
redis.pcall('XADD', key_of('queue', name_of(id, '1')), '*', unpack(fields))
"""

    assert states(text) == {"'SUCCESS'"}
    assert len(list(calls(text, "XADD"))) == 1
    assert any("'finished'" in words for words in calls(text, "HSET"))
