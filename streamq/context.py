"""The running task, as the code of the task sees it."""

import sys
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NoReturn, overload

from streamq.core.text import shown
from streamq.errors import CHANGEABLE, UNCHANGED, ConfigError, Retry, instance_of
from streamq.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run of a task: its arguments, options and delivery.

    ``deliveries`` counts the runners that had the message: those that died, and this one.
    ``redelivered`` says that another runner had it before and died, or handed it back unrun.
    """

    id: str
    task: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    deliveries: int = 1
    redelivered: bool = False
    root_id: str | None = None
    parent_id: str | None = None
    queue: str | None = None
    exchange: str = ""
    routing_key: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    eta: Any = None
    expires: Any = None
    hostname: str | None = None
    timelimit: tuple[float | None, float | None] = (None, None)
    #: The generation of the id: 1 for a new id, one more each time it is accepted again.
    generation: int = 1
    #: Whether the function was called, and not the task sent.
    called_directly: bool = False
    #: Whether the call was run where it was made, by ``apply`` or in eager mode.
    is_eager: bool = False
    #: The moment for which a schedule has sent the call, without jitter; None for other calls.
    scheduled_for: datetime | None = None
    #: How many moments of the schedule were missed before this one.
    missed: int = 0

    @property
    def delivery_info(self) -> dict[str, Any]:
        """The way of the message: its exchange, routing key and whether it was redelivered."""
        return {
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "redelivered": self.redelivered,
        }


class NotInThisVersion(ConfigError, AttributeError):
    """A name that belongs to a later version."""


#: Attributes of a running task that belong to a later version.
LATER = frozenset({"replace", "revoke"})


#: Characters of a state that a task names.
LONGEST_STATE = 100


class Running:
    """The running task: its ``request``, its progress reports and its retries.

    The first argument of a task declared with ``bind=True``; ``streamq.current_task()``
    gives it to any.
    """

    #: Whether a worker runs the task: only then can it be tried again.
    in_worker = False
    retrying: Retry | None = None
    #: The exception that ``retry`` raised because the task may not be tried again.
    final: BaseException | None = None
    #: Whether the function of a task of a class of one's own has been called in this run.
    entered = False
    #: Whether hooks or signals follow this run; then its ``value`` or ``error`` is noted.
    observed = False
    value: Any = None
    error: BaseException | None = None
    #: The final state, and its data, in which the run ends if it raises Ignore.
    ending: tuple[str, Any] | None = None
    #: The task; attributes that are not found here are read from it.
    task: Any = None

    def __init__(self, request: Request, report: Any = None, task: Any = None) -> None:
        self.request = request
        self.report = report
        if task is not None:
            self.task = task

    @property
    def name(self) -> str:
        """The task's name."""
        return self.request.task

    def __getattr__(self, name: str) -> Any:
        if name in LATER:
            raise NotInThisVersion(f"not in this version: {name}")
        if self.task is not None and not name.startswith("__"):
            return getattr(self.task, name)
        raise AttributeError(f"the running task has no {name!r}")

    def lineage(self) -> tuple[str, ...]:
        """The fields of a message that this task sends: which task sent it, and the first one."""
        request = self.request
        return ("parent_id", request.id, "root_id", request.root_id or request.id)

    def update_state(self, state: str = "PROGRESS", meta: Any = None) -> None:
        """Store a custom state and its ``meta`` data in the record; ``Result.info`` returns it.

        Raises ValueError for a state that is no short name or that streamq itself sets, and
        EncodeError for a ``meta`` that the result serializer cannot write.
        """
        if not isinstance(state, str) or not state.strip() or len(state) > LONGEST_STATE:
            raise ConfigError(
                f"update_state needs a name for the state: {shown(state)}",
                known={"allowed": f"text of 1–{LONGEST_STATE} characters, not only white space"},
                advice=["choose a short one, such as PROGRESS, and put the rest into meta"],
            )
        if state in State.__members__:
            raise ConfigError(
                f"update_state cannot set {state}: streamq itself sets that state",
                advice=["choose a name of your own, such as PROGRESS"],
            )
        if self.report is not None:
            self.report(self.request, state, meta)

    @overload
    def retry(
        self,
        *,
        exc: BaseException | type[BaseException] | None = ...,
        countdown: Any = ...,
        eta: Any = ...,
        max_retries: int | None = ...,
        args: Any = ...,
        kwargs: Any = ...,
        throw: Literal[True] = True,
        **options: Any,
    ) -> NoReturn: ...
    @overload
    def retry(
        self,
        *,
        exc: BaseException | type[BaseException] | None = ...,
        countdown: Any = ...,
        eta: Any = ...,
        max_retries: int | None = ...,
        args: Any = ...,
        kwargs: Any = ...,
        throw: bool,
        **options: Any,
    ) -> Retry: ...

    def retry(
        self,
        *,
        exc: BaseException | type[BaseException] | None = None,
        countdown: Any = None,
        eta: Any = None,
        max_retries: int | None = UNCHANGED,
        args: Any = None,
        kwargs: Any = None,
        throw: bool = True,
        **options: Any,
    ) -> Retry:
        """Retry the task with the same id, headers, priority and expiry.

        ``countdown`` is seconds, a timedelta or text, ``eta`` a moment; with neither, the
        task's ``default_retry_delay`` applies.  ``exc``, an exception or exception class, is
        the reason.  ``args`` and ``kwargs`` replace the arguments; ``queue``, ``priority``,
        ``expires`` and the time limits may be given too.

        Raises Retry, which ends this run; with ``throw=False`` returns it, and the task is
        tried again when it has returned.  If the task may not be tried again, raises ``exc``,
        or MaxRetriesExceeded without one.  Where no worker runs the task, raises ``exc``
        or the exception that is being handled.
        """
        unknown = options.keys() - CHANGEABLE
        if unknown:
            raise ConfigError(
                f"retry cannot change {', '.join(sorted(unknown))}",
                known={"it can": ", ".join(("args", "kwargs", *sorted(CHANGEABLE)))},
            )
        handled, given = sys.exception(), instance_of(exc)
        if not self.in_worker:
            raise given or handled or Retry("this task is not run by a worker")
        directive = Retry(
            exc=given or handled,
            countdown=countdown,
            eta=eta,
            max_retries=max_retries,
            args=args,
            kwargs=kwargs,
            **options,
        )
        directive.final = given
        self.final = self.final_error(directive)
        if self.final is not None:
            raise self.final
        if throw:
            raise directive
        self.retrying = directive
        return directive

    def final_error(self, asked: Retry) -> BaseException | None:
        """The exception that ends a task which may not be retried like this; None if it may."""
        return None


current: ContextVar[Running | None] = ContextVar("streamq_current_task", default=None)


def lineage() -> tuple[str, ...]:
    """The fields of a message that is sent here: empty outside of a task."""
    running = current.get()
    return () if running is None else running.lineage()


def current_task() -> Running | None:
    """Return the task that is running here; None outside of one."""
    return current.get()
