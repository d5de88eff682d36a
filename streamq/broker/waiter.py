"""Waiting for results without polling: one reply stream and one connection a process.

A waiter is the name of the process's reply stream in the record of a task; the script that
ends the task adds the outcome to that stream.  The stream is a hint: after a broken connection,
and every half minute, the records of all pending results are read again.  The stream is named
after the session of the connection that reads it: a new connection reads another one, which no
process has read before.

No separate thread reads the stream.  One of the waiting threads leads: it reads for all, and
when its own answer has come, another one takes the lead.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from streamq.core.backoff import Backoff
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.host.forks import FORKS
from streamq.states import FINAL
from streamq.transport.client import Client
from streamq.transport.connection import BLOCK_MARGIN, Connection
from streamq.transport.keys import Keys
from streamq.transport.replies import Disconnected, Transient
from streamq.transport.scripts import load

AWAIT_RESULT = load("await_result")

#: Seconds after which the records of pending results are read even if no reply has come.
RECHECK = 30.0
#: Seconds for which a read blocks at most: a broken connection is noticed by then.
LONGEST_BLOCK = 5.0
#: Seconds after which a thread that does not lead checks whether another one does.
LONGEST_SLEEP = 5.0
#: The pauses between attempts to reach Redis again.
BACKOFF = Backoff(first=0.05, longest=1.0)

#: The states that end a task, as a record says them.
ENDED = frozenset(state.encode() for state in FINAL)

#: The fields of a record as they came; values are bytes.
Record = dict[str, bytes]


def as_record(flat: Any) -> Record:
    """Turn Redis's flat list of names and values into a record."""
    pairs = iter(flat or ())
    return {name.decode(errors="replace"): value for name, value in zip(pairs, pairs, strict=True)}


def is_final(record: Record) -> bool:
    """Whether the record has the end of its task, which may end without a state (Ignore)."""
    return record.get("state") in ENDED or "finished" in record


def is_answer(record: Record) -> bool:
    """Whether the record answers a wait: its task has ended, or went to several queues."""
    return is_final(record) or "copies" in record


def entries_in(reply: Any) -> Iterator[tuple[bytes, str, Record]]:
    """The entries in the reply of a stream read, each with the id and record of a task."""
    for _, entries in reply or ():
        for entry, flat in entries:
            record = as_record(flat)
            yield entry, record.pop("id", b"").decode(errors="replace"), record


class PendingResult:
    """One wait for any of some tasks; ``answers`` has those that have come."""

    def __init__(self) -> None:
        self.forks = FORKS.count
        self.open: set[str] = set()
        self.known: set[str] = set()
        self.began = clock.monotonic()
        #: When to read once more the records that did not exist at the beginning.
        self.patience = self.began + RECHECK
        self.answers: deque[tuple[str, Record]] = deque()
        self.wakeup: threading.Event | None = None

    def resolve(self, id: str, record: Record) -> None:
        """Add the answer about a task; an empty record says that there is none."""
        if id in self.open:
            self.open.discard(id)
            self.answers.append((id, record))
            self.wake()

    def wake(self) -> None:
        """Wake the thread that waits, so that it checks again."""
        if self.wakeup is not None:
            self.wakeup.set()

    def sleep(self, seconds: float) -> None:
        """Wait to be woken.  The first call only creates the event: a wake-up before that was
        lost, so the caller must check again."""
        if self.wakeup is None:
            self.wakeup = threading.Event()
            return
        self.wakeup.wait(seconds)
        self.wakeup.clear()


class Waiter:
    """The waiter of this process: it reads the reply stream for all pending results."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.reset()

    def reset(self) -> None:
        """Set the initial state: at the beginning, and in a forked child."""
        self.forks = FORKS.count
        #: The session of the connection that is read, and its reply stream; '' for none.
        self.session = self.reply = ""
        self.last: bytes | str = "0"
        self.waiting: dict[str, list[PendingResult]] = {}
        self.sleepers: set[PendingResult] = set()
        self.table = threading.Lock()
        #: The one whose thread reads for all.  A reference, not a lock: a thread that a time
        #: limit has interrupted gives up the lead when its wait is closed, wherever that was.
        self.leader: PendingResult | None = None
        self.connection = Connection(self.client.url, name="streamq:waiting")
        self.checked = clock.monotonic()
        self.broken = 0

    def begin(self, ids: Iterable[str]) -> PendingResult:
        """Open a wait.  Tasks that have ended already are answered at once."""
        if self.forks != FORKS.mark[0]:
            self.detach_from_parent()
        pending = PendingResult()
        try:
            absent = self.extend(pending, ids)
        except BaseException:
            self.end(pending)
            raise
        if absent == []:
            pending.patience = float("inf")
        return pending

    def detach_from_parent(self, pending: PendingResult | None = None) -> None:
        """Leave the parent's state alone, in a forked child; register a wait that it inherited."""
        if self.forks != FORKS.count:
            self.reset()
        if pending is not None and pending.forks != self.forks:
            pending.forks, pending.wakeup = self.forks, None
            for id in pending.open:
                self.waiting.setdefault(id, []).append(pending)
            self.broken += 1

    def extend(self, pending: PendingResult, ids: Iterable[str]) -> list[str] | None:
        """Wait for these too; return the ids without a record, None if Redis did not answer."""
        if pending.forks != FORKS.mark[0]:
            self.detach_from_parent(pending)
        fresh = set(ids)
        pending.open |= fresh
        with self.table:
            for id in fresh:
                self.waiting.setdefault(id, []).append(pending)
        try:
            absent = self.check_records(list(fresh))
        except (Disconnected, Transient):
            self.broken += 1  # the leader reads the records again when Redis is back
            return None
        pending.known |= fresh.difference(absent)
        return absent

    def end(self, pending: PendingResult) -> None:
        """Close a wait, answered or not."""
        if pending.forks != FORKS.mark[0]:
            self.detach_from_parent(pending)
        with self.table:
            self.stop_reading(pending)
            for id in pending.open:
                others = [other for other in self.waiting.get(id, ()) if other is not pending]
                if others:
                    self.waiting[id] = others
                else:
                    self.waiting.pop(id, None)
        self.wake_next_leader()

    def next(self, pending: PendingResult, deadline: float) -> tuple[str, Record] | None:
        """The next answer; None when none has come by the deadline (monotonic seconds)."""
        if pending.forks != FORKS.mark[0]:
            self.detach_from_parent(pending)
        while not pending.answers:
            now = clock.monotonic()
            if now >= deadline:
                return None
            if now >= pending.patience:
                pending.patience = deadline
                self.recheck()
                continue
            remaining = min(deadline, pending.patience) - now
            try:
                if self.take_lead(pending):
                    self.listen(min(remaining, LONGEST_BLOCK))
                else:
                    self.sleepers.add(pending)
                    if self.leader is not None:  # else no thread would wake us
                        pending.sleep(min(remaining, LONGEST_SLEEP))
            finally:
                led = self.leader is pending
                self.stop_reading(pending)
                if led and pending.answers:
                    self.wake_next_leader()
        return pending.answers.popleft()

    def take_lead(self, pending: PendingResult) -> bool:
        """Take the lead if it is free; return whether this one has it."""
        with self.table:
            self.leader = self.leader or pending
        return self.leader is pending

    def stop_reading(self, pending: PendingResult) -> None:
        """Give up the lead, and be no sleeper any more."""
        self.sleepers.discard(pending)
        if self.leader is pending:
            self.leader = None

    def wake_next_leader(self) -> None:
        """Wake one of the sleepers, so that it takes the lead."""
        for sleeper in list(self.sleepers)[:1]:
            sleeper.wake()

    def listen(self, seconds: float) -> None:
        """Read the reply stream once, for all; or read all records again."""
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
            time.sleep(min(seconds, BACKOFF.pause(self.broken)))

    def read(self, seconds: float) -> Any:
        """Block until the reply stream has entries, at most so many seconds."""
        block = max(1, int(seconds * 1000))
        stream = self.keys.reply(self.reply)
        command = ("XREAD", "COUNT", 1000, "BLOCK", block, "STREAMS", stream, self.last)
        return self.connection.ask(*command, timeout=seconds + BLOCK_MARGIN)

    def deliver(self, reply: Any) -> None:
        """Resolve the pending results that these entries are about."""
        for self.last, id, record in entries_in(reply):
            self.resolve(id, record)

    def resolve(self, id: str, record: Record) -> None:
        """Resolve every pending result that waits for this task."""
        with self.table:
            pendings = self.waiting.pop(id, [])
        for pending in pendings:
            pending.resolve(id, record)

    def recheck(self) -> None:
        """Read the records of all open waits: an answer may have been missed."""
        with self.table:
            ids = list(self.waiting)
        for id in self.check_records(ids):
            self.resolve_missing(id)
        self.checked, self.broken = clock.monotonic(), 0

    def resolve_missing(self, id: str) -> None:
        """End the waits for a record that vanished, or did not appear for half a minute."""
        before = clock.monotonic() - RECHECK + 0.1
        with self.table:
            pendings = list(self.waiting.get(id, ()))
        for pending in pendings:
            if id in pending.known or pending.began < before:
                pending.resolve(id, {})

    def check_records(self, ids: list[str]) -> list[str]:
        """Read these records, resolve what has ended, and register as a waiter for the rest.

        While no reply stream is read it only reads them: the leader does this again when it
        starts to read.  Returns the ids without a record.
        """
        absent, reply_stream = [], self.reply
        for first in range(0, len(ids), 500):
            chunk = ids[first : first + 500]
            if reply_stream:
                calls = [(AWAIT_RESULT, (id, reply_stream)) for id in chunk]
                replies = self.client.call_all(calls, self.keys.root)
            else:
                replies = self.client.try_all([("HGETALL", self.keys.task(id)) for id in chunk])
            for id, reply in zip(chunk, replies, strict=True):
                if isinstance(reply, Exception):
                    raise reply
                record = as_record(reply)
                if is_answer(record):
                    self.resolve(id, record)
                elif "state" not in record:
                    absent.append(id)
        return absent
