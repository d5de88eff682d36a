"""Signals: moments of sending, of runs and of worker processes that functions can be connected to.

    from streamq.signals import task_failure

    @task_failure.connect
    def report(sender, task_id, exception, **kwargs): ...

Names and arguments are those of Celery where the meaning is the same.  Each signal says below
what its receivers are given beside ``signal`` and ``sender``.
"""

import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from streamq.errors import ConfigError, SoftTimeLimitExceeded, Stopped

logger = logging.getLogger("streamq")

#: A function that is connected: called with ``signal``, ``sender`` and the signal's arguments.
Receiver = Callable[..., Any]


class Link(NamedTuple):
    """One connection of a receiver to a signal.

    ``key`` tells it from others, ``find`` returns the receiver, or None once it is gone.
    """

    key: Any
    sender: Any
    find: Callable[[], Receiver | None]


class SignalGroup:
    """Signals that are sent in one place: ``connected`` says whether any of them has a receiver.

    The place looks only there, and pays nothing where nobody listens.
    """

    def __init__(self, *signals: "Signal") -> None:
        self.signals = signals
        self.connected = False
        for signal in signals:
            signal.group = self

    def update(self) -> None:
        """Note that a receiver was connected or disconnected."""
        self.connected = any(signal.links for signal in self.signals)


class Signal:
    """A moment that functions can be connected to; ``provides`` names what they are given."""

    group: SignalGroup | None = None

    def __init__(self, name: str, *provides: str) -> None:
        self.name = name
        self.provides = provides
        #: The connections, the oldest first.  A signal without any is not sent: callers look here.
        self.links: tuple[Link, ...] = ()

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
    ) -> Any:
        """Connect a function: ``@signal.connect``, ``@signal.connect(…)``, ``connect(function)``.

        With ``sender`` it is called only for that sender: a task, the name of a task or of a
        worker.  The signal does not keep the function alive unless ``weak`` is False.
        ``dispatch_uid`` names the connection: a second one of that name replaces the first.
        Returns the function.  Raises ConfigError if it does not take keywords that it does not
        name.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid)
        check_receiver(self, receiver)
        key = self.key_of(receiver, sender, dispatch_uid)
        others = (link for link in self.links if link.key != key and link.find() is not None)
        find = reference(receiver) if weak else strong(receiver)
        self.set_links((*others, Link(key, sender, find)))
        return receiver

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: bool | None = None,
        dispatch_uid: Any = None,
    ) -> bool:
        """Remove the connection made with the same arguments; return whether there was one."""
        key = self.key_of(receiver, sender, dispatch_uid)
        left = tuple(link for link in self.links if link.key != key)
        found = len(left) < len(self.links)
        self.set_links(left)
        return found

    def set_links(self, links: tuple[Link, ...]) -> None:
        """Change the connections."""
        self.links = links
        if self.group is not None:
            self.group.update()

    def key_of(self, receiver: Receiver | None, sender: Any, dispatch_uid: Any) -> Any:
        """The key of a connection."""
        who = identity(receiver) if dispatch_uid is None else dispatch_uid
        return who, sender if isinstance(sender, str) else id(sender)

    def send(self, sender: Any, **given: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers of this sender; return each with what it returned or raised.

        An exception of a receiver is logged, and changes nothing else.
        """
        answers: list[tuple[Receiver, Any]] = []
        for link in self.links:
            if link.sender is not None and not is_sender(link.sender, sender):
                continue
            receiver = link.find()
            if receiver is None:
                self.set_links(tuple(each for each in self.links if each is not link))
                continue
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **given)))
            except Stopped:
                raise
            except (Exception, SystemExit) as error:
                if isinstance(error, SoftTimeLimitExceeded) and error.here:
                    raise  # the limit of the task in whose run this is
                logger.exception("%s: the receiver %s failed", self.name, name_of(receiver))
                answers.append((receiver, error))
        return answers

    send_robust = send

    def __bool__(self) -> bool:
        """Whether anything is connected."""
        return bool(self.links)

    def __repr__(self) -> str:
        return f"<signal {self.name}>"


def check_receiver(signal: Signal, receiver: Any) -> None:
    """Raise ConfigError for what cannot be called with the arguments of a signal."""
    if not callable(receiver):
        raise ConfigError(f"{signal.name}.connect takes a function, not {receiver!r}")
    try:
        parameters = inspect.signature(receiver).parameters.values()
    except (TypeError, ValueError):
        return
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        raise ConfigError(
            f"{name_of(receiver)} cannot be connected to {signal.name}: it takes no **kwargs",
            known={"given": ", ".join(("signal", "sender", *signal.provides))},
            advice=[f"def {name_of(receiver)}(sender, **kwargs): …"],
        )


def name_of(receiver: Any) -> str:
    """The name of a receiver, for people."""
    return getattr(receiver, "__qualname__", None) or type(receiver).__qualname__


def is_sender(wanted: Any, sender: Any) -> bool:
    """Whether a signal of this sender is for a receiver that is connected to ``wanted``."""
    if isinstance(wanted, str):
        return wanted in (sender, getattr(sender, "name", None))
    return wanted is sender or bool(wanted == sender)  # a shared task equals the app's own


def identity(receiver: Any) -> Any:
    """What tells a function or a bound method from others."""
    if inspect.ismethod(receiver):
        return id(receiver.__self__), id(receiver.__func__)
    return id(receiver)


def reference(receiver: Receiver) -> Callable[[], Receiver | None]:
    """A weak reference to a function or a bound method; a strong one to what allows no other."""
    try:
        return weakref.WeakMethod(receiver) if inspect.ismethod(receiver) else weakref.ref(receiver)
    except TypeError:
        return strong(receiver)


def strong(receiver: Receiver) -> Callable[[], Receiver | None]:
    """A reference that keeps the receiver alive."""
    return lambda: receiver


# Sending; the sender is the task's name.

before_task_publish = Signal(
    "before_task_publish", "body", "exchange", "routing_key", "headers", "properties",
    "declare", "retry_policy",
)  # fmt: skip
after_task_publish = Signal(
    "after_task_publish", "body", "exchange", "routing_key", "headers", "properties"
)

# Runs, in the process that runs the task; the sender is the task.

task_prerun = Signal("task_prerun", "task_id", "task", "args", "kwargs")
task_postrun = Signal("task_postrun", "task_id", "task", "args", "kwargs", "retval", "state")
task_success = Signal("task_success", "result")
task_failure = Signal(
    "task_failure", "task_id", "exception", "args", "kwargs", "traceback", "einfo"
)
task_retry = Signal("task_retry", "request", "reason", "einfo")
task_revoked = Signal("task_revoked", "request", "terminated", "signum", "expired")

# Messages that cannot be run; the sender is the worker's name.

task_rejected = Signal("task_rejected", "message", "exc")
task_unknown = Signal("task_unknown", "message", "exc", "name", "id")

# Worker processes; the sender is the worker's name, None for setup_logging.

setup_logging = Signal("setup_logging", "loglevel", "logfile", "format", "colorize")
worker_init = Signal("worker_init")
worker_ready = Signal("worker_ready")
worker_shutting_down = Signal("worker_shutting_down", "sig", "how", "exitcode")
worker_shutdown = Signal("worker_shutdown")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown", "pid", "exitcode")

#: The signals that a sender of calls looks at, and those that an executor does.
PUBLISH_SIGNALS = SignalGroup(before_task_publish, after_task_publish)
RUN_SIGNALS = SignalGroup(
    task_prerun, task_postrun, task_success, task_failure, task_retry, task_revoked
)
