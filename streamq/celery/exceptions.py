"""Exceptions by Celery's names: streamq's own where there is one of that meaning.

``except SoftTimeLimitExceeded`` catches the same class, whichever name it was imported by.
"""

from streamq.errors import (
    BrokerUnavailable,
    ConfigError,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    Ignore,
    MaxRetriesExceeded,
    QueueFull,
    Reject,
    ResultTimeout,
    Retry,
    Revoked,
    SignatureInvalid,
    SoftTimeLimitExceeded,
    StreamqError,
    TaskError,
    TaskNotFound,
    TimeLimitExceeded,
    Unroutable,
    WorkerLost,
)

__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "ContentDisallowed",
    "DecodeError",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "EncodeError",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueFull",
    "QueueNotFound",
    "Reject",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
]

CeleryError = StreamqError
ImproperlyConfigured = ConfigError
MaxRetriesExceededError = MaxRetriesExceeded
NotRegistered = TaskNotFound
OperationalError = BrokerUnavailable
QueueNotFound = Unroutable
SecurityError = SignatureInvalid
TaskRevokedError = Revoked
TimeoutError = ResultTimeout
WorkerLostError = WorkerLost

#: What a task raises to decide what follows its message: for ``except`` and ``isinstance``.
TaskPredicate = (Ignore, Reject, Retry)


class BackendError(StreamqError):
    """An issue with the store of results; streamq raises BrokerUnavailable instead."""


class BackendGetMetaError(BackendError):
    """A result could not be read; streamq raises BrokerUnavailable instead."""


class BackendStoreError(BackendError):
    """A result could not be written; streamq raises BrokerUnavailable instead."""


class AlreadyRegistered(StreamqError):
    """The task is already registered; streamq raises ConfigError instead."""


class InvalidTaskError(StreamqError):
    """A message is no call of a task; streamq makes it a dead letter instead."""


class IncompleteStream(StreamqError):
    """The end of a stream was reached too early; streamq does not raise it."""


class ChordError(StreamqError):
    """A task of a chord has failed; streamq does not raise it in this version."""


class CeleryWarning(UserWarning):
    """The base of Celery's warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """``send_task`` ignores task_always_eager; streamq does not warn of it."""


class DuplicateNodenameWarning(CeleryWarning):
    """Two workers have one name; streamq numbers them instead."""


class FixupWarning(CeleryWarning):
    """A framework could not be adapted to; streamq does not warn of it."""


class NotConfigured(CeleryWarning):
    """There is no configuration; streamq does not warn of it."""


class SecurityWarning(CeleryWarning):
    """An insecure setting; streamq does not warn of it."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """A feature that will be deprecated; streamq does not warn of it."""


class CDeprecationWarning(DeprecationWarning):
    """A feature that is deprecated; streamq does not warn of it."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two tasks have one name; streamq raises ConfigError instead."""


class WorkerTerminate(SystemExit):
    """Raised to end a worker at once; in a task it fails the task only."""


class WorkerShutdown(SystemExit):
    """Raised to end a worker; in a task it fails the task only."""
