"""A process that was forked, by whatever means, has nothing in common with its parent."""

import asyncio
import ctypes
import json
import os
import signal
import socket

import pytest

import streamq
from streamq.host.forks import FORKS, ForkMarkByPid
from streamq.transport.connection import Connection
from tests.processes import until


def fork_in_c():
    """What a server in C does, or a library: Python's hooks do not hear of it."""
    return ctypes.PyDLL(None).fork()


FORK = pytest.mark.parametrize("fork", [fork_in_c, os.fork], ids=["in_c", "in_python"])


def child(fork, act):
    """Run ``act`` in a child; the number of the child."""
    pid = fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(30)
        act()
        code = 0
    finally:
        os._exit(code)


def ended_well(pid):
    return os.waitpid(pid, 0)[1] == 0


def one_by_one(note, n):
    note.enqueue(n)


def many_at_once(note, n):
    note.sender.enqueue_many([note.s(n)])


def from_asyncio(note, n):
    async def main():
        await note.aenqueue(n)
        await note.sender.aclose()

    asyncio.run(main())


def the_long_way(note, n):
    note.options(priority=3).enqueue(n)


def in_a_loop_that_stays(note, n):
    LOOP.run_until_complete(note.aenqueue(n))


LOOP = asyncio.new_event_loop()
WAYS = pytest.mark.parametrize(
    "send",
    [one_by_one, the_long_way, many_at_once, from_asyncio, in_a_loop_that_stays],
    ids=lambda send: send.__name__,
)


@pytest.fixture
def note(app):
    yield app.task(name="note")(lambda n: n)
    LOOP.run_until_complete(app.aclose())


@pytest.fixture
def sent(redis, app):
    """The first argument of all that was sent, sorted; each of them has an id of its own."""

    def look():
        entries = [fields for _, fields in redis.xrange(app.broker.keys.queue("default"))]
        assert len({fields["id"] for fields in entries}) == len(entries)
        return sorted(json.loads(fields["args"])[0] for fields in entries)

    return look


@FORK
@WAYS
def test_children_one_after_the_other_send_what_they_send(note, sent, fork, send):
    send(note, 0)
    for n in (1, 2, 3):
        assert ended_well(child(fork, lambda n=n: send(note, n)))
    send(note, 4)

    assert sent() == [0, 1, 2, 3, 4]


@WAYS
def test_the_fork_of_a_fork_sends_as_well(note, sent, send):
    def first():
        second = child(fork_in_c, lambda: (send(note, 2), send(note, 3)))
        send(note, 1)
        assert ended_well(second)

    send(note, 0)
    assert ended_well(child(fork_in_c, first))

    assert sent() == [0, 1, 2, 3]


def test_a_child_that_has_its_parents_number_is_noticed_too(note, sent, monkeypatch):
    """As in a PID namespace of its own."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    for send in (one_by_one, many_at_once):
        send(note, 0)
        assert ended_well(child(fork_in_c, lambda send=send: send(note, 1)))
        send(note, 2)

    assert sent() == [0, 0, 1, 1, 2, 2]


def test_parent_and_children_send_at_the_same_time(note, sent, clients):
    note.enqueue(0)
    before = [client["id"] for client in clients("streamq:producer")]
    pids = [child(fork_in_c, lambda: [note.enqueue(1) for _ in range(100)]) for _ in range(3)]
    for _ in range(100):
        note.enqueue(2)

    assert all(map(ended_well, pids))
    numbers = sent()
    assert (numbers.count(1), numbers.count(2)) == (300, 100)
    after = [client["id"] for client in clients("streamq:producer")]
    assert after == before, "that of the parent has lived on"


@FORK
@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_fork_amid_enqueue_many_goes_on_on_both_sides(note, sent, fork, first, clients):
    """What was on its way is the parent's; what came after is sent by both, under other ids."""
    note.enqueue(-1)
    before = [client["id"] for client in clients("streamq:producer")]
    pids, (hold, go) = [], os.pipe()

    def calls():
        for n in range(1200):
            if n == 700:
                pids.append(fork())
                signal.alarm(0 if pids[0] else 30)
                if pids[0] and first == "child":
                    assert ended_well(pids[0])
                elif not pids[0] and first == "parent":
                    os.read(hold, 1)
            yield note.s(n)

    code = 1
    try:
        results = note.sender.enqueue_many(calls())
        code = int(len({result.id for result in results}) != 1200)
    finally:
        if pids == [0]:
            os._exit(code)

    assert code == 0
    assert [client["id"] for client in clients("streamq:producer")] == before
    os.write(go, b".")
    assert first == "child" or ended_well(pids[0])
    assert sent() == sorted([-1, *range(1200), *range(500, 1200)])
    os.close(hold)
    os.close(go)


@FORK
def test_a_wait_goes_on_on_both_sides(note, working, drain, fork, app, clients):
    first = note.enqueue(3)
    drain(app)
    result, other = note.enqueue(4), note.enqueue(5)
    race = streamq.as_completed([first, result, other], timeout=20)
    assert next(race) == first
    with pytest.raises(streamq.ResultTimeout):
        result.get(timeout=0.2)

    def go_on():
        assert sorted(each.get(timeout=20) for each in race) == [4, 5]
        assert result.get(timeout=20) == 4

    pid = child(fork, go_on)
    until(lambda: len(clients("streamq:waiting")) == 2, "each has its own", seconds=8)
    with working(app):
        go_on()
        assert ended_well(pid)


def test_a_child_waits_in_an_event_loop_of_its_own(note, working, app):
    async def main(n):
        value = await (await note.aenqueue(n)).aget(timeout=20)
        await app.aclose()
        return value

    def wait():
        assert asyncio.run(main(2)) == 2

    with working(app):
        assert asyncio.run(main(1)) == 1
    # No other thread runs now: it could hold what Python itself would wait for in the child.
    pid = child(fork_in_c, wait)
    with working(app):
        assert asyncio.run(main(3)) == 3
        assert ended_well(pid)


def go_on_as_a_copy(connection):
    """What the copy of a machine finds: everything as it was, but for a peer that is gone."""
    FORKS.mark[0] = FORKS.last
    dead, other = socket.socketpair()
    other.close()
    os.dup2(dead.fileno(), connection.fileno())
    Connection.is_ours = lambda *_: True


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("send", [one_by_one, the_long_way], ids=lambda send: send.__name__)
def test_the_copy_of_a_machine_sends_what_it_sends(note, sent, ahead, send):
    """Its channel has the name and number of the original's, which has gone on."""
    send(note, 0)
    (channel,) = note.sender.broker.publisher.channels.idle
    hold, go = os.pipe()

    def copy():
        os.read(hold, 1)
        go_on_as_a_copy(channel.connection)
        send(note, -1)
        send(note, -2)

    pid = child(fork_in_c, copy)
    for n in range(ahead):
        send(note, n + 1)
    os.write(go, b".")

    assert ended_well(pid)
    os.close(hold)
    os.close(go)
    assert sent() == [-2, -1, *range(ahead + 1)]


def test_each_connection_has_a_session_of_its_own(note, sent):
    names = []
    for n in range(3):
        note.enqueue(n)
        (channel,) = note.sender.broker.publisher.channels.idle
        names.append(channel.name)
        channel.connection.drop()

    assert len(set(names)) == 3
    assert sent() == [0, 1, 2]


def test_where_no_memory_is_wiped_the_process_number_tells():
    mark = ForkMarkByPid()
    mark[0] = 7
    read, write = os.pipe()
    pid = child(fork_in_c, lambda: os.write(write, b"%d" % mark[0]))

    assert ended_well(pid)
    assert (mark[0], os.read(read, 1)) == (7, b"0")
    os.close(read)
    os.close(write)
