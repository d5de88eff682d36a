"""Waiting for results without polling: one reply stream and one connection a process.

Whoever waits writes the name of the process's reply stream into the record of the task;
the script that ends the task adds the outcome to that stream.  The stream is a hint: after
a broken connection, and every half minute, all open waits look at their records again.
The stream is named after the session of the connection that reads it: a new connection reads
another one, which nobody else has ever read.

No thread of its own reads the stream.  One of the waiting threads leads: it reads for all,
and when its own answer has come, another one takes the lead.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.host.forks import FORKS
from streamq.states import FINAL
from streamq.transport.client import Client
from streamq.transport.connection import BLOCK_MARGIN, Connection
from streamq.transport.keys import Keys
from streamq.transport.replies import Disconnected, Passing
from streamq.transport.scripts import load

AWAIT = load("await")

#: Seconds after which open waits look at their records even if nothing was heard.
RECHECK = 30.0
#: Seconds for which a read blocks at most: a broken connection is noticed by then.
LONGEST_BLOCK = 5.0
#: Seconds after which one who does not lead looks whether somebody does.
LONGEST_SLEEP = 5.0
#: Seconds between attempts to reach Redis again: the first, and the longest.
PAUSES = (0.05, 1.0)

#: The states that end a task, as a record says them.
ENDED = frozenset(state.encode() for state in FINAL)

#: The fields of a record as they came; values are bytes.
Record = dict[str, bytes]


def as_record(flat: Any) -> Record:
    """Turn Redis's flat list of names and values into a record."""
    pairs = iter(flat or ())
    return {name.decode(errors="replace"): value for name, value in zip(pairs, pairs, strict=True)}


def is_final(record: Record) -> bool:
    """Whether the record tells the end of its task, which may end without a word (Ignore)."""
    return record.get("state") in ENDED or "finished" in record


def is_answer(record: Record) -> bool:
    """Whether the record ends a wait: its task has ended, or went to several queues."""
    return is_final(record) or "copies" in record


def news_in(reply: Any) -> Iterator[tuple[bytes, str, Record]]:
    """What a read of a reply stream brought: its entries, each with the id and record of a task."""
    for _, entries in reply or ():
        for entry, flat in entries:
            record = as_record(flat)
            yield entry, record.pop("id", b"").decode(errors="replace"), record


class Wait:
    """One wait for any of some tasks; answers arrive in ``answers`` as they come."""

    def __init__(self) -> None:
        self.forks = FORKS.count
        self.open: set[str] = set()
        self.known: set[str] = set()
        self.began = clock.monotonic()
        #: When to look once more for ids of which there was no record at the beginning.
        self.patience = self.began + RECHECK
        self.answers: deque[tuple[str, Record]] = deque()
        self.woken: threading.Event | None = None

    def answer(self, id: str, record: Record) -> None:
        """Take what is known of a task; an empty record says that there is none."""
        if id in self.open:
            self.open.discard(id)
            self.answers.append((id, record))
            self.wake()

    def wake(self) -> None:
        """Make whoever waits look again."""
        if self.woken is not None:
            self.woken.set()

    def sleep(self, seconds: float) -> None:
        """Wait to be woken.  The first call only gets ready: what was said before that was
        not heard, so the caller must look again."""
        if self.woken is None:
            self.woken = threading.Event()
            return
        self.woken.wait(seconds)
        self.woken.clear()


class Waits:
    """All the waits of this process."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.reset()

    def reset(self) -> None:
        """Start afresh: at the beginning, and in a forked child."""
        self.forks = FORKS.count
        #: The session of the connection that is listened to, and its reply stream; '' for none.
        self.session = self.reply = ""
        self.last: bytes | str = "0"
        self.waiting: dict[str, list[Wait]] = {}
        self.sleepers: set[Wait] = set()
        self.table = threading.Lock()
        #: Who reads for all.  A name, not a lock: whoever is interrupted by a time limit gives
        #: it back when its wait is closed, wherever that was.
        self.leader: Wait | None = None
        self.connection = Connection(self.client.url, name="streamq:waiting")
        self.checked = clock.monotonic()
        self.broken = 0

    def begin(self, ids: Iterable[str]) -> Wait:
        """Open a wait.  Tasks that have ended already are answered at once."""
        if self.forks != FORKS.mark[0]:
            self.stay_apart()
        wait = Wait()
        try:
            absent = self.extend(wait, ids)
        except BaseException:
            self.end(wait)
            raise
        if absent == []:
            wait.patience = float("inf")
        return wait

    def stay_apart(self, wait: Wait | None = None) -> None:
        """Leave to our parent what is its own, if we were forked; take over an inherited wait."""
        if self.forks != FORKS.count:
            self.reset()
        if wait is not None and wait.forks != self.forks:
            wait.forks, wait.woken = self.forks, None
            for id in wait.open:
                self.waiting.setdefault(id, []).append(wait)
            self.broken += 1

    def extend(self, wait: Wait, ids: Iterable[str]) -> list[str] | None:
        """Wait for these as well; the ids of which there is no record, None if it is not known."""
        if wait.forks != FORKS.mark[0]:
            self.stay_apart(wait)
        fresh = set(ids)
        wait.open |= fresh
        with self.table:
            for id in fresh:
                self.waiting.setdefault(id, []).append(wait)
        try:
            absent = self.look(list(fresh))
        except (Disconnected, Passing):
            self.broken += 1  # whoever leads looks again when Redis is back
            return None
        wait.known |= fresh.difference(absent)
        return absent

    def end(self, wait: Wait) -> None:
        """Close a wait, answered or not."""
        if wait.forks != FORKS.mark[0]:
            self.stay_apart(wait)
        with self.table:
            self.leave(wait)
            for id in wait.open:
                others = [other for other in self.waiting.get(id, ()) if other is not wait]
                if others:
                    self.waiting[id] = others
                else:
                    self.waiting.pop(id, None)
        self.hand_over()

    def next(self, wait: Wait, deadline: float) -> tuple[str, Record] | None:
        """The next answer; None when none has come by the deadline (monotonic seconds)."""
        if wait.forks != FORKS.mark[0]:
            self.stay_apart(wait)
        while not wait.answers:
            now = clock.monotonic()
            if now >= deadline:
                return None
            if now >= wait.patience:
                wait.patience = deadline
                self.recheck()
                continue
            remaining = min(deadline, wait.patience) - now
            try:
                if self.leads(wait):
                    self.listen(min(remaining, LONGEST_BLOCK))
                else:
                    self.sleepers.add(wait)
                    if self.leader is not None:  # else nobody would wake us
                        wait.sleep(min(remaining, LONGEST_SLEEP))
            finally:
                led = self.leader is wait
                self.leave(wait)
                if led and wait.answers:
                    self.hand_over()
        return wait.answers.popleft()

    def leads(self, wait: Wait) -> bool:
        """Take the lead if nobody has it."""
        with self.table:
            self.leader = self.leader or wait
        return self.leader is wait

    def leave(self, wait: Wait) -> None:
        """Neither lead nor sleep any more."""
        self.sleepers.discard(wait)
        if self.leader is wait:
            self.leader = None

    def hand_over(self) -> None:
        """Wake one of those who sleep, so that somebody leads."""
        for sleeper in list(self.sleepers)[:1]:
            sleeper.wake()

    def listen(self, seconds: float) -> None:
        """Read the reply stream once, for everybody; or look at all records again."""
        try:
            self.connection.ready()
            if self.session != self.connection.session:
                self.session, self.last = self.connection.session, "0"
                self.reply = f"{os.getpid()}-{self.session}"
                self.broken += 1
            if clock.monotonic() - self.checked > RECHECK or self.broken:
                self.recheck()
            else:
                self.deliver(self.read(seconds))
        except BrokerUnavailable as error:
            self.broken += 1
            if isinstance(error, Disconnected) and error.timed_out:
                self.client.close()  # its idle connections may be as dead
            time.sleep(min(seconds, PAUSES[0] * 2 ** min(self.broken, 5), PAUSES[1]))

    def read(self, seconds: float) -> Any:
        """Block until the reply stream has news, at most so long."""
        block = max(1, int(seconds * 1000))
        stream = self.keys.reply(self.reply)
        command = ("XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", stream, self.last)
        return self.connection.ask(*command, timeout=seconds + BLOCK_MARGIN)

    def deliver(self, reply: Any) -> None:
        """Give each answer to those who wait for it."""
        for self.last, id, record in news_in(reply):
            self.answer(id, record)

    def answer(self, id: str, record: Record) -> None:
        with self.table:
            waits = self.waiting.pop(id, [])
        for wait in waits:
            wait.answer(id, record)

    def recheck(self) -> None:
        """Look at the records of all open waits: an answer may have been missed."""
        with self.table:
            ids = list(self.waiting)
        for id in self.look(ids):
            self.give_up(id)
        self.checked, self.broken = clock.monotonic(), 0

    def give_up(self, id: str) -> None:
        """End the waits for a record that vanished, or that nobody wrote for half a minute."""
        before = clock.monotonic() - RECHECK + 0.1
        with self.table:
            waits = list(self.waiting.get(id, ()))
        for wait in waits:
            if id in wait.known or wait.began < before:
                wait.answer(id, {})

    def look(self, ids: list[str]) -> list[str]:
        """Ask for these records, answer what has ended, be told of the rest.

        While nobody listens it is only asked: whoever begins to listen looks again.  Returns
        the ids of which there is no record.
        """
        absent, reply_stream = [], self.reply
        for first in range(0, len(ids), 500):
            chunk = ids[first : first + 500]
            if reply_stream:
                calls = [(AWAIT, (id, reply_stream)) for id in chunk]
                replies = self.client.call_all(calls, self.keys.root)
            else:
                replies = self.client.try_all([("HGETALL", self.keys.task(id)) for id in chunk])
            for id, reply in zip(chunk, replies, strict=True):
                if isinstance(reply, Exception):
                    raise reply
                record = as_record(reply)
                if is_answer(record):
                    self.answer(id, record)
                elif "state" not in record:
                    absent.append(id)
        return absent
