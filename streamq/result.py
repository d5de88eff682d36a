"""Results: the state and value of a task, read from its record in Redis."""

import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from streamq.broker.aio import in_event_loop
from streamq.broker.readers import Readers, advice_to_read, is_unread
from streamq.broker.results import Results
from streamq.broker.waiter import Record, is_answer, is_final
from streamq.context import current_task
from streamq.core.termination import signal_name
from streamq.core.text import shown
from streamq.core.units import ahead
from streamq.errors import ResultTimeout, Revoked
from streamq.host import clock
from streamq.serialization.exceptions import rebuild
from streamq.serialization.payload import Payloads, as_text
from streamq.states import FINAL, State, combined

R = TypeVar("R")

#: What stands for the parts that only an app has: ``Result(id)`` lacks them.
NOT_GIVEN: Any = object()
#: Seconds that stand for no timeout.
FOREVER = 10 * 365 * 86400.0


class Result(Generic[R]):
    """The result of one task: its state and value.  Made by sending, or by ``app.result(id)``."""

    #: What to give to a task in place of a Result, in the error of one that was given.
    SEND_INSTEAD = "send result.id; there, app.result(id) gives the Result"

    def __init__(
        self,
        id: str,
        results: Results = NOT_GIVEN,
        payloads: Payloads = NOT_GIVEN,
        *,
        ignored: bool = False,
        queues: tuple[str, ...] = (),
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        if payloads is NOT_GIVEN:
            raise TypeError(
                f"a Result needs an app, which knows its Redis\n  → app.result({shown(id)}), or "
                f"streamq.default_app().result({shown(id)})"
            )
        self.id = id
        self.results = results
        self.payloads = payloads
        self.ignored = ignored
        self.queues = queues
        self.convert = convert
        self.final: Record | None = None

    @cached_property
    def copies(self) -> "dict[str, Result[R]]":
        """The result of each copy, by queue, if several queues took the message; else empty."""
        if len(self.queues) > 1:
            return {queue: self.copy(queue) for queue in self.queues}
        listed = self.record().get("copies", b"").decode(errors="replace")
        return {queue: self.copy(queue) for queue in listed.split(":") if queue}

    def copy(self, queue: str) -> "Result[R]":
        """The result of the copy that went to this queue."""
        return Result(
            f"{self.id}@{queue}",
            self.results,
            self.payloads,
            ignored=self.ignored,
            queues=(queue,),
            convert=self.convert,
        )

    def record(self) -> Record:
        """Read the record from Redis, unless a final one is known that cannot change."""
        if self.final is None or may_run_again(self.final):
            return self.remember(self.results.record(self.id))
        return self.final

    def remember(self, record: Record) -> Record:
        """Keep a final record; if Redis has none any more, return the last final one."""
        if record:
            self.final = record if is_final(record) else None
        return record or self.final or {}

    @property
    def state(self) -> str:
        """QUEUED, STARTED, SUCCESS, FAILURE …; UNKNOWN if there is no record of the id."""
        record = self.record()
        if "copies" in record or len(self.queues) > 1:
            return combined([copy.state for copy in self.copies.values()])
        return record.get("state", b"UNKNOWN").decode(errors="replace")

    status = state

    @property
    def info(self) -> Any:
        """The value, the exception, or what the running task reported with ``update_state``.

        For a task that waits for a retry (RETRY), the exception that is the reason.
        """
        record = self.record()
        state = record.get("state", b"").decode(errors="replace")
        if state == State.SUCCESS:
            return self.value(record)
        if state in FINAL:
            return self.error(record)
        if state == State.RETRY:
            return self.error(record)
        if "meta" in record:
            content = as_text(record.get("meta_content_type"), "meta_content_type")
            return self.payloads.read(record["meta"], content, None)
        return None

    result = info

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task, as text."""
        trace = self.record().get("traceback")
        return trace.decode(errors="replace") if trace is not None else None

    def ready(self) -> bool:
        """Whether the task has ended, also one that stored no result (Ignore)."""
        record = self.record()
        if "copies" in record or len(self.queues) > 1:
            return all(copy.ready() for copy in self.copies.values())
        return is_final(record)

    def successful(self) -> bool:
        """Whether the task has succeeded."""
        return self.state == State.SUCCESS

    def failed(self) -> bool:
        """Whether the task has ended with an exception."""
        return self.state == State.FAILURE

    def forget(self) -> None:
        """Remove the record; waiters for it stop waiting."""
        copies = list(self.copies.values())
        self.results.forget([self.id, *(copy.id for copy in copies)])
        for result in (self, *copies):  # reading the copies has kept the record
            result.final = None

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, in UTC; None until then."""
        record = self.record()
        ended = record.get("finished", b"") if is_final(record) else b""
        return datetime.fromtimestamp(int(ended) / 1000, UTC) if ended.isdigit() else None

    def get(
        self, timeout: float | None = None, *, propagate: bool = True, allow_join: bool = False
    ) -> R:
        """Wait for the task to end; return its value or raise what it raised.

        With ``propagate=False`` what the task raised is returned.  ``timeout`` is in seconds;
        after it, ResultTimeout says where the task is.  A message that went to several queues
        gives ``{queue: value}``, or the first failure.  None for a task with ``ignore_result``.
        Inside a task this raises RuntimeError unless ``allow_join``: tasks that wait for tasks
        can use up every runner.
        """
        refuse_inside_task(allow_join)
        if self.ignored:
            return None  # type: ignore[return-value]
        timeout = check_timeout(timeout)
        deadline = deadline_after(timeout)
        record = self.record() if self.final is not None else None
        if record is None or not is_final(record):
            record = self.wait_for_record(deadline, timeout)
        if "copies" in record or len(self.queues) > 1:
            return self.get_copies(deadline, timeout, propagate)  # type: ignore[return-value]
        return self.outcome(record, propagate)

    wait = get

    async def aget(
        self, timeout: float | None = None, *, propagate: bool = True, allow_join: bool = False
    ) -> R:
        """``get`` for asyncio."""
        refuse_inside_task(allow_join)
        if self.ignored:
            return None  # type: ignore[return-value]
        timeout = check_timeout(timeout)
        deadline = deadline_after(timeout)
        if len(self.queues) > 1 or "copies" in (
            record := await self.await_record(deadline, timeout)
        ):
            return await self.aget_copies(  # type: ignore[return-value]
                deadline, timeout, propagate
            )
        return self.outcome(record, propagate)

    async def await_record(self, deadline: float, timeout: float | None) -> Record:
        """The final record, wait_for_record; ResultTimeout if it is not there in time."""
        asyncio = self.results.asyncio
        if self.final is not None and may_run_again(self.final):
            self.remember(await asyncio.record(self.id))
        if self.final is None:
            record = await asyncio.final(self.id, max(0.0, deadline - clock.monotonic()))
            if not record:
                record = await asyncio.record(self.id)
                if not is_answer(record):  # else it has ended, and the notice was missed
                    raise self.timed_out(timeout, record, await asyncio.readers())
            if "worker" not in record and "copies" not in record:
                record = await asyncio.record(self.id) or record
            self.final = record
        return self.final

    def get_copies(self, deadline: float, timeout: float | None, propagate: bool) -> dict[str, R]:
        """Wait for the values of all copies, by queue.  Raises the first failure."""
        values = {}
        for queue, copy in self.copies.items():
            left = None if timeout is None else max(0.0, deadline - clock.monotonic())
            values[queue] = copy.get(left, propagate=propagate, allow_join=True)
        return values

    async def aget_copies(
        self, deadline: float, timeout: float | None, propagate: bool
    ) -> dict[str, R]:
        """``get_copies`` for asyncio."""
        values = {}
        for queue, copy in self.copies.items():
            left = None if timeout is None else max(0.0, deadline - clock.monotonic())
            values[queue] = await copy.aget(left, propagate=propagate, allow_join=True)
        return values

    def wait_for_record(self, deadline: float, timeout: float | None) -> Record:
        """Wait for the final record.  Raises ResultTimeout if it does not come in time."""
        if len(self.queues) > 1:
            return {}
        warn_in_event_loop("get() waits", "await result.aget(timeout=…)", stacklevel=4)
        pending = self.results.waiter.begin([self.id])
        try:
            answer = self.results.waiter.next(pending, deadline)
        finally:
            self.results.waiter.end(pending)
        record = answer[1] if answer is not None else {}
        if not record:
            record = self.results.record(self.id)
            if not is_answer(record):  # else it has ended, and the notice was missed
                raise self.timed_out(timeout, record, self.results.readers())
        if "copies" in record:
            return record
        if "worker" not in record:
            record = self.results.record(self.id) or record
        self.final = record
        return record

    def timed_out(
        self, timeout: float | None, record: Record, readers: Readers | None
    ) -> ResultTimeout:
        """Make the ResultTimeout, which says where the task is, and if no worker reads its queue.

        ``readers`` are the workers that are up; None if that is not known.
        """
        waited = "" if timeout is None else f" within {timeout:g} s"
        if "state" not in record:
            return ResultTimeout(
                f"no result of {self.id}: no such task is known",
                known={"possible": "never sent, forgotten, or its result has expired"},
            )
        known: dict[str, object] = {
            name: record[name].decode(errors="replace")
            for name in ("state", "task", "queue", "worker")
            if name in record
        }
        advice = ["is a worker running?  streamq workers ls"] if "worker" not in record else []
        if "queue" in known and is_unread(queue := str(known["queue"]), readers):
            advice = [advice_to_read(queue)]
        if known["state"] in (State.SCHEDULED, State.RETRY):
            advice.insert(0, f"when is it due?  streamq result {self.id}")
        return ResultTimeout(f"no result of {self.id}{waited}", known=known, advice=advice)

    def outcome(self, record: Record, propagate: bool = True) -> R:
        """The value that the task returned, None if it stored none; raises what it raised."""
        if record.get("state") in (b"FAILURE", b"REVOKED"):
            error = self.error(record)
            if propagate:
                raise error
            return error  # type: ignore[return-value]
        value = self.value(record) if record.get("state") == b"SUCCESS" else None
        return value  # type: ignore[return-value]

    def value(self, record: Record) -> Any:
        """The value that the task returned."""
        if "result" not in record:
            return None
        content = as_text(record.get("content_type"), "content_type")
        compression = as_text(record.get("compression"), "compression")
        value = self.payloads.read(record["result"], content, compression)
        return value if self.convert is None else self.convert(value)

    def error(self, record: Record) -> Exception:
        """The exception that the task raised."""
        if record.get("state") == b"REVOKED":
            reason = record.get("reason", b"").decode(errors="replace")
            return Revoked(f"task {self.id} was revoked{f': {reason}' if reason else ''}")
        return rebuild(record)

    def revoke(self, *, terminate: bool = False, signal: str | int = "SIGTERM") -> None:
        """Revoke the task: it does not start any more, on any worker.

        A waiting task ends as REVOKED at once.  A running one goes on, and is not tried
        again; with ``terminate`` it is stopped: ``SIGTERM`` raises inside it, any other signal
        goes to the process that runs it, if that runs nothing else.  A signal is a name, a
        number or a member of ``signal.Signals``.  Raises ConfigError for one that ends no task.
        """
        name = signal_name(signal) if terminate else ""
        ids = [copy.id for copy in self.copies.values()]
        self.results.revoke(ids or [self.id], name)

    def is_settled(self) -> bool:
        """Whether the task is known to have ended, without asking Redis."""
        if self.ignored:
            return True
        final = self.final
        return final is not None and "copies" not in final and not may_run_again(final)

    def parts(self) -> "list[Result[R]]":
        """The results that this one consists of: its copies, or itself."""
        return list(self.copies.values()) if len(self.queues) > 1 else [self]

    def __reduce__(self) -> str:
        raise TypeError(
            "a Result cannot be pickled: it holds connections\n  → send result.id, and use "
            "app.result(id) there"
        )

    def __repr__(self) -> str:
        return f"<result {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class ResultHere(Result[R]):
    """The result of a call that was run in this process; Redis has no record of it."""

    def forget(self) -> None:
        """Do nothing: there is no record."""

    def revoke(self, *, terminate: bool = False, signal: str | int = "SIGTERM") -> None:
        """Do nothing: the task has ended.  Raises what ``Result.revoke`` would."""
        if terminate:
            signal_name(signal)


def check_timeout(timeout: Any) -> float | None:
    """Return a timeout in seconds, None for none.  Raises ConfigError for anything else."""
    return None if timeout is None else ahead(timeout, "timeout")


def deadline_after(timeout: float | None) -> float:
    """The deadline (monotonic seconds) of a timeout that begins now."""
    return clock.monotonic() + (FOREVER if timeout is None else timeout)


def may_run_again(final: Record) -> bool:
    """Whether a task that ended may run again: a failed one may, by ``streamq dead retry``.

    A task that was run in this process may not: its record has no time of writing.
    """
    return final.get("state") == b"FAILURE" and ("finished" in final or "worker" in final)


def warn_in_event_loop(what: str, instead: str, *, stacklevel: int) -> None:
    """Warn of a wait that stops an event loop; Python shows it once for each line that waits."""
    if in_event_loop():
        warnings.warn(
            f"{what} inside of a running event loop, which stands still meanwhile\n  → {instead}",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def refuse_inside_task(allowed: bool) -> None:
    """Raise RuntimeError inside a task, unless ``allowed``."""
    if current_task() is not None and not allowed:
        raise RuntimeError(
            "get() inside a task may wait for ever: the runner it occupies may be the one "
            "needed\n  → get(allow_join=True) if other runners surely take that task"
        )
