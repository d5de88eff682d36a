"""The errors of streamq: one tree below StreamqError.

    StreamqError
    ├── ConfigError (ValueError)                a setting, an option or a declaration is wrong
    ├── Unroutable (LookupError)                no binding leads from the exchange to a queue
    ├── TaskNotFound (KeyError)                 no task has this name
    ├── EncodeError (ValueError)                a value cannot be written as this content type
    ├── DecodeError (ValueError)                bytes cannot be read back
    │   ├── ContentDisallowed (ValueError)      … because the content type is not accepted
    │   └── SignatureInvalid (ValueError)       … because their signature is missing or not valid
    ├── QueueFull                               the queue holds max_length messages
    ├── BrokerUnavailable (ConnectionError)     Redis cannot be used
    │   ├── BrokerFull                          … because it is out of memory
    │   ├── PublishUnknown                      … and whether it accepted the message is unknown
    │   └── NotConfirmed                        … and did not confirm the message it has
    ├── ResultTimeout (TimeoutError)            the result did not come in time
    ├── TaskError                               a remote exception whose class is not loaded here
    ├── Revoked                                 the task was revoked before it ended
    ├── WorkerLost                              the process that ran the task died
    ├── TimeLimitExceeded                       the task was stopped at its hard limit
    ├── MaxRetriesExceeded                      the task may not be tried again
    ├── PartlyPublished                         enqueue_many stopped half-way
    └── SoftTimeLimitExceeded                   raised inside a task at its soft limit

``Ignore``, ``Reject`` and ``Retry`` are no errors: a task raises them to decide what follows
its message.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from streamq.arguments import mapping, positional


class Unchanged:
    """The type of UNCHANGED: not given, where None is a value."""

    def __reduce__(self) -> str:
        return "UNCHANGED"  # unpickling a Retry must return the same object


UNCHANGED: Any = Unchanged()
#: Options that a retry may change, beside the arguments.
CHANGEABLE = frozenset({"queue", "priority", "expires", "time_limit", "soft_time_limit"})


class StreamqError(Exception):
    """The base of everything streamq raises.

    The message says what happened, then what is known, then what to do::

        raise TaskNotFound(
            "no task named 'tasks.ad'",
            known={"registered": "2 tasks from tasks.py"},
            advice=["did you mean 'tasks.add'?"],
        )
    """

    def __init__(
        self,
        what: str = "",
        /,
        *,
        known: Mapping[str, object] | None = None,
        advice: Iterable[str] = (),
    ) -> None:
        super().__init__(explain(what, known or {}, advice))


def explain(what: str, known: Mapping[str, object], advice: Iterable[str]) -> str:
    """Write an error message: what happened, one known fact per line, one proposal per line."""
    width = max(map(len, known), default=0)
    facts = [f"  {name:<{width}}  {value}" for name, value in known.items()]
    return "\n".join([what, *facts, *(f"  → {line}" for line in advice)])


class ConfigError(StreamqError, ValueError):
    """A setting, an option or a declaration is wrong."""

    #: Whether the mistake is in code; else in a file, the environment or a flag.
    in_code = True


class Unroutable(StreamqError, LookupError):
    """No binding leads from the exchange to a queue; nothing was written."""


class TaskNotFound(StreamqError, KeyError):
    """No task has this name."""

    __str__ = StreamqError.__str__  # that of KeyError shows its argument as a literal


class EncodeError(StreamqError, ValueError):
    """A value cannot be written as the content type asked for."""


class DecodeError(StreamqError, ValueError):
    """Bytes cannot be read back as the content type they claim."""


class ContentDisallowed(DecodeError):
    """The content type is not in ``accept_content``; the bytes were not decoded."""


class SignatureInvalid(DecodeError):
    """The signature of a message is missing or not valid; its bytes were not decoded."""


class QueueFull(StreamqError):
    """The queue holds ``max_length`` messages; nothing was written."""


class OutOfIds(StreamqError):
    """The stream of a queue has used its highest entry id; nothing was written or lost."""

    @classmethod
    def of(cls, queue: str) -> "OutOfIds":
        """Make the error of a queue, with what to do."""
        return cls(
            f"queue {queue!r} is out of ids: an entry with the highest possible id was added",
            advice=[f"streamq queues repair {queue}  moves what it holds into a fresh stream"],
        )


class BrokerUnavailable(StreamqError, ConnectionError):
    """Redis cannot be reached, or refuses commands."""


class BrokerFull(BrokerUnavailable):
    """Redis is out of memory; nothing was written."""


class PublishUnknown(BrokerUnavailable):
    """Redis was lost before it answered; sending again with the same ``task_id`` is safe.

    Without a ``task_id`` the message gets a new id each time it is sent, and may be accepted
    twice.
    """


class NotConfirmed(BrokerUnavailable):
    """Redis accepted the message, but not with the confirmation that ``confirm`` asks for.

    The task may run; sending again with the same id is safe.  ``result`` is the Result of
    the call.  After ``enqueue_many``, ``unconfirmed`` are the results of the chunk that was
    not confirmed, ``accepted`` those of the confirmed chunks before it, and ``remaining`` the
    signatures that were not sent.
    """

    result: Any = None
    accepted: Sequence[Any] = ()
    unconfirmed: Sequence[Any] = ()
    remaining: Sequence[Any] = ()
    #: What the publish script answered.
    answer: Any = None


class ResultTimeout(StreamqError, TimeoutError):
    """The result did not come in time; the message says where the task is."""


class Revoked(StreamqError):
    """The task was revoked before it ended."""


class WorkerLost(StreamqError):
    """The process that ran the task died."""


class TimeLimitExceeded(StreamqError):
    """The task was stopped at its hard time limit."""


class SoftTimeLimitExceeded(StreamqError):
    """Raised inside a task when its soft time limit has passed."""

    #: Whether it is the limit of the task that runs here, not one from a result.
    here = False


class MaxRetriesExceeded(StreamqError):
    """The task has been retried as often as it may."""


class PartlyPublished(StreamqError):
    """``enqueue_many`` stopped half-way; ``__cause__`` says why.

    ``accepted`` are the results of what Redis accepted, ``remaining`` the signatures
    that were not sent.  ``unknown`` are the first of ``remaining``, those which Redis may have
    accepted: without a ``task_id`` they may run twice if they are sent again.
    """

    accepted: Sequence[Any] = ()
    remaining: Sequence[Any] = ()
    unknown: Sequence[Any] = ()


class TaskError(StreamqError):
    """An exception that a task raised elsewhere, whose class is not loaded here.

    ``type`` is the dotted name of the class, ``message`` its text and ``traceback`` the
    remote traceback.
    """

    def __init__(self, type: str = "", message: str = "", traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return (TaskError, (self.type, self.message, self.traceback))


class Ignore(Exception):
    """Raised by a task: acknowledge this message and store no result."""


class Reject(Exception):
    """Raised by a task: requeue the message, or make it a dead letter."""

    def __init__(self, reason: str = "", *, requeue: bool = False) -> None:
        super().__init__(reason)
        self.requeue = requeue


class Retry(Exception):
    """Raised by a task: try it again later.

    ``countdown`` is in seconds, ``eta`` a moment; with neither, the task's own pause applies.
    ``exc``, an exception or exception class, is the reason.  ``max_retries`` replaces the task's
    own bound for this decision.  ``changes`` are ``args`` and ``kwargs``, ``queue``,
    ``priority``, ``expires`` and the time limits that the next try will have; TypeError for
    anything else.
    """

    def __init__(
        self,
        reason: str = "the task asked to be tried again",
        *,
        exc: BaseException | type[BaseException] | None = None,
        countdown: Any = None,
        eta: Any = None,
        max_retries: int | None = UNCHANGED,
        **changes: Any,
    ) -> None:
        super().__init__(reason)
        unknown = changes.keys() - CHANGEABLE - {"args", "kwargs"}
        if unknown:
            raise TypeError(f"Retry cannot change {', '.join(sorted(unknown))}")
        if countdown is not None and eta is not None:
            raise ConfigError("countdown and eta exclude each other: both say when it is due")
        self.exc = instance_of(exc)
        self.countdown = countdown
        self.eta = eta
        self.max_retries = max_retries
        #: What is raised when the task may not be tried again; None for MaxRetriesExceeded.
        self.final = self.exc
        self.changes = {name: value for name, value in changes.items() if value is not None}
        for name, read in (("args", positional), ("kwargs", mapping)):
            if name in self.changes:
                self.changes[name] = read(self.changes[name])


def instance_of(given: Any) -> BaseException | None:
    """Return the given exception, or one of the given class.  Raises ConfigError otherwise.

    Uses ``type`` only: attributes of an exception may run any code.
    """
    is_class = issubclass(type(given), type) and issubclass(given, BaseException)
    found = given() if is_class else given
    if found is not None and not issubclass(type(found), BaseException):
        raise ConfigError(
            f"exc must be an exception, not {type(found).__name__}",
            advice=["retry(exc=error) with what was caught, or exc=ValueError('why')"],
        )
    return cast(BaseException | None, found)


class Stopped(BaseException):
    """Raised inside a task that has to end now.  Tasks should not catch it."""


class Terminated(Stopped):
    """The task was revoked while it ran."""


class Overdue(Stopped):
    """The task has passed its hard limit, in a process that runs other tasks too."""
