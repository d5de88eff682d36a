"""Results by Celery's names: PENDING for what waits, and ``info`` that is safe to look into."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NoReturn, Self

import streamq.celery.states as states
from streamq.broker.results import Results
from streamq.celery.current import get_current_app
from streamq.context import NotInThisVersion
from streamq.errors import ResultTimeout
from streamq.result import Result
from streamq.serialization.payload import Payloads

__all__ = ["AsyncResult", "ResultBase", "allow_join_result", "denied_join_result"]

#: States of streamq in which a task waits, or is unknown.
WAITING = frozenset({"UNKNOWN", "QUEUED", "SCHEDULED"})

#: Whether ``get`` may be called inside a task.
joining: ContextVar[bool] = ContextVar("streamq_celery_join", default=False)


WITHOUT_CHILDREN = "a result has no children here; request.parent_id tells what sent a task"
#: Parts of Celery's results that streamq does not have, and what stands for them.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("build_graph", "get_leaf", "graph", "iterdeps", "root"), WITHOUT_CHILDREN),
    "backend": "state, info, traceback and date_done of a result read its record",
}


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow ``get`` inside a task, in a ``with`` block."""
    token = joining.set(True)
    try:
        yield
    finally:
        joining.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Refuse ``get`` inside a task, in a ``with`` block."""
    token = joining.set(False)
    try:
        yield
    finally:
        joining.reset(token)


class ResultBase:
    """The base of all results, for ``isinstance``."""

    #: Results of workflows, which are not in this version.
    parent: Any = None


class AsyncResult(Result[Any], ResultBase):
    """The result of a task by its id: ``AsyncResult(id)`` of the current app, or of ``app``.

    ``backend`` is ignored: results are where the app's Redis is.
    """

    ignored = False
    queues: tuple[str, ...] = ()
    convert: Any = None
    final: Any = None
    task_name: str | None = None
    children: Any = None
    #: The record holds no arguments.
    args: Any = None
    kwargs: Any = None
    TimeoutError = ResultTimeout

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        if id is None:
            raise ValueError("AsyncResult requires a valid id, not None")
        self.id = str(id)
        self.app = app if app is not None else get_current_app()
        self.task_name = task_name
        if parent is not None:
            self.parent = parent

    @cached_property
    def results(self) -> Results:  # type: ignore[override]
        """The reader of records."""
        found: Results = self.app.broker.results
        return found

    @cached_property
    def payloads(self) -> Payloads:  # type: ignore[override]
        """The reader of values."""
        found: Payloads = self.app.payloads
        return found

    @classmethod
    def of(cls, result: Result[Any], app: Any) -> Self:
        """Make the same result as one of the app's."""
        found = cls.sent(result.id, app, ignored=result.ignored, queues=result.queues)
        found.convert, found.final = result.convert, result.final
        return found

    @classmethod
    def sent(cls, id: str, app: Any, *, ignored: bool, queues: tuple[str, ...]) -> Self:
        """Make the result of a call that was sent."""
        found = cls.__new__(cls)
        found.id, found.app, found.ignored, found.queues = id, app, ignored, queues
        return found

    def copy(self, queue: str) -> Result[Any]:
        """The result of the copy that went to this queue."""
        return type(self).of(
            Result(
                f"{self.id}@{queue}",
                self.results,
                self.payloads,
                ignored=self.ignored,
                queues=(queue,),
                convert=self.convert,
            ),
            self.app,
        )

    # State and value

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.id

    @task_id.setter
    def task_id(self, id: str) -> None:
        self.id = id

    @property
    def state(self) -> str:
        """PENDING for a task that waits or is unknown, else STARTED, SUCCESS, FAILURE …"""
        state = super().state
        return states.PENDING if state in WAITING else state

    status = state

    @property
    def info(self) -> Any:
        """The value, the exception, or what the running task reported; None while it waits.

        While it runs and has reported nothing, a mapping with the name of its worker.
        """
        found = super().info
        if found is None and self.final is None:
            record = self.record()
            if record.get("state") == b"STARTED":
                consumer = record.get("worker", b"").decode(errors="replace")
                node, _, rest = consumer.partition(":")
                pid = rest.partition(":")[0]
                return {"hostname": node, "pid": int(pid) if pid.isdigit() else None}
        return found

    result = info

    def ready(self) -> bool:
        """Whether the state is final: not after Ignore, which leaves the state as it is."""
        return self.state in states.READY_STATES

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raise what the task raised, if it failed; return its value."""
        value = self.result
        if propagate and self.state in states.PROPAGATE_STATES:
            raise value
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,
        **ignored: Any,
    ) -> Any:
        """Wait for the task to end; return its value or raise what it raised.

        With ``propagate=False`` an exception is returned.  ``callback`` is called with the id and
        the value.  Inside a task this raises RuntimeError unless ``disable_sync_subtasks`` is
        False or an ``allow_join_result()`` is around it.  Streamq does not poll: other arguments
        of Celery's, such as ``interval``, mean nothing here.
        """
        allowed = not disable_sync_subtasks or joining.get() or bool(ignored.get("allow_join"))
        value = super().get(timeout, propagate=propagate, allow_join=allowed)
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def collect(self, **options: Any) -> Iterator[tuple[Self, Any]]:
        """Yield this result with its value: there are no children in this version."""
        yield self, self.get(**options)

    # What else the record tells

    def _text(self, name: str) -> str | None:
        """A field of the record as text; the notice of an end, which is kept, has not all."""
        record = self.record()
        value = record.get(name) or self.results.record(self.id).get(name)
        return None if value is None else value.decode(errors="replace")

    @property
    def name(self) -> str | None:
        """The task's name; None if the record does not tell it."""
        return self._text("task") or self.task_name

    @property
    def worker(self) -> str | None:
        """The name of the worker that has or had the task."""
        found = self._text("worker")
        return None if found is None else found.partition(":")[0]

    @property
    def retries(self) -> int:
        """How often the task was tried again."""
        found = self._text("retries") or "0"
        return int(found) if found.isdigit() else 0

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, in UTC; None while its state is not final, as after Ignore."""
        ended = (self._text("finished") or "") if self.ready() else ""
        return datetime.fromtimestamp(int(ended) / 1000, UTC) if ended.isdigit() else None

    @property
    def queue(self) -> str | None:
        """The queue of the task."""
        return self._text("queue")

    # Celery's own

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Revoke the task: it does not start any more; with ``terminate`` it is stopped.

        The answer of workers is not waited for: the revocation is in Redis when this returns.
        """
        super().revoke(terminate=terminate, signal=signal or "SIGTERM")

    def __getattr__(self, name: str) -> Any:
        if name in ELSEWHERE:
            raise NotInThisVersion(
                f"not in this version: AsyncResult.{name}", advice=[f"instead: {ELSEWHERE[name]}"]
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> NoReturn:
        """Refuse: not in this version."""
        raise NotInThisVersion("not in this version: AsyncResult.then")

    def as_tuple(self) -> tuple[tuple[str, None], None]:
        """The id as ``result_from_tuple`` takes it."""
        return (self.id, None), None

    def as_list(self) -> list[str]:
        """The id in a list: there are no parents in this version."""
        return [self.id]

    serializable = as_tuple

    def __reduce__(self) -> Any:
        return type(self), (self.id,)

    def __eq__(self, other: object) -> bool:
        return other == self.id if isinstance(other, str) else super().__eq__(other)

    __hash__ = Result.__hash__

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __copy__(self) -> Self:
        return type(self).of(self, self.app)
