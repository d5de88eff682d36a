"""Tasks: functions with a name and options, and calls of them (Call, Signature).

A class of one's own that derives from ``Task`` adds to all tasks that are declared with it: hooks
around their runs, options, another ``__call__`` or ``apply_async``, and what a task keeps from
one run to the next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from streamq.arguments import mapping, positional, take_using
from streamq.context import Request, Running, current
from streamq.core.functions import check_function
from streamq.core.options import checked, merged, misplaced, read_option
from streamq.core.wrappers import arguments_of, simple_arity
from streamq.host.ids import new_id
from streamq.host.modules import module_of
from streamq.result import Result
from streamq.serialization.annotations import Converter

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


NO_OPTIONS: Mapping[str, Any] = {}


class Sender(Protocol):
    """The app that a task is registered with, as far as a task uses it."""

    def send(self, signature: "Signature") -> Result[Any]:
        """Publish the call."""

    async def asend(self, signature: "Signature") -> Result[Any]:
        """Publish the call from asyncio."""

    def run_here(self, signature: "Signature") -> Result[Any]:
        """Run the call in this process."""

    def result(self, id: str) -> Result[Any]:
        """The result of a task by its id."""

    async def in_thread(self, act: Callable[[], T]) -> T:
        """Call this in a thread, and return what it returns."""

    @property
    def conf(self) -> Any:
        """The settings."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A call to be sent later: a task's name, its arguments and its options."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    task: "Task[..., Any] | None" = None

    def with_args(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Signature":
        """Return the same call with more arguments."""
        return Signature(
            self.name, self.args + args, {**self.kwargs, **kwargs}, self.options, self.task
        )


class Call(Generic[P, R]):
    """A task together with options: ``add.options(queue="demo")``."""

    def __init__(self, task: "Task[P, R]", options: Mapping[str, Any]) -> None:
        self.task = task
        self.call_options = options

    def options(self, **options: Any) -> "Call[P, R]":
        """Return the same with more options; the newer ones win."""
        return Call(self.task, merged(checked(options), self.call_options))

    def s(self, /, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Make a signature: the call as a value, for ``enqueue_many`` for instance."""
        return Signature(self.task.name, args, kwargs, self.call_options, self.task)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the call; see ``Task.enqueue``."""
        return send(self.s(*args, **kwargs), self.task.sender)

    delay = enqueue

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the call from asyncio."""
        return await asend(self.s(*args, **kwargs), self.task.sender)

    def enqueue_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the call when the transaction commits; see ``Task.enqueue_on_commit``."""
        using = take_using(kwargs, self.task.parameters)
        return self.options(on_commit=using or True).enqueue(*args, **kwargs)

    delay_on_commit = enqueue_on_commit


class Task(Generic[P, R]):
    """A function that can be called here or sent to a worker; the base of classes of tasks.

    In a class of one's own, attributes named like options are options of its tasks, and a task
    with ``bind=True`` gets itself as first argument: what it keeps there stays from run to run of
    a process.  Its ``__init__`` is called without arguments.

    The options of a task can be read as attributes: its own, else those of the configuration.
    """

    queue: str | None
    exchange: str | None
    routing_key: str | None
    headers: Mapping[str, Any] | None
    priority: int
    serializer: str
    compression: str | None
    acks_late: bool
    ignore_result: bool
    result_expires: Any
    track_started: bool
    max_deliveries: int
    max_retries: int | None
    default_retry_delay: Any
    autoretry_for: Any
    dont_autoretry_for: Any
    retry_backoff: Any
    retry_backoff_max: Any
    retry_jitter: bool
    retry_kwargs: Any
    throws: Any
    time_limit: Any
    soft_time_limit: Any
    expires: Any
    on_commit: bool | str

    #: The class's ``apply_async`` if that is no user's: calls may take the short way past it.
    plain_apply: Any = None

    def __init__(
        self,
        function: Callable[..., R] | None = None,
        name: str = "",
        sender: Sender | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        if function is None:  # of a class of one's own, which is set up already
            return
        check_function(function, name)
        update_wrapper(self, function)
        self.function = function
        self.name = name
        self.sender: Sender = cast(Sender, sender)
        self.bind: bool = options.get("bind", False)
        self.typing: bool = options.get("typing", True)
        self.own_options = {k: v for k, v in options.items() if k not in ("bind", "typing", "name")}
        #: Whether the first send is to warn that no worker can import the task.
        self.warn_unimportable = "name" not in options and module_of(function) is None
        self.plain = Call(self, {})
        self.plain_apply = plain_apply_of(type(self))
        self.parameters = arguments_of(function, bind=self.bind)
        self.most_positional = simple_arity(self.parameters)
        self.converter = Converter.of(function, bound=self.bind)
        self.result_converter = Converter.result(function)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "apply_async":  # calls must lead through it from here on
            self.plain_apply = None

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name == "apply_async":
            self.plain_apply = plain_apply_of(type(self))

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, now; in a worker, as part of the task's run."""
        if self.bind:
            return self.run_bound(*args, **kwargs)
        return self.function(*args, **kwargs)

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function: what a class with its own ``__call__`` goes on to."""
        return Task.__call__(self, *args, **kwargs)

    def run_bound(self, /, *args: Any, **kwargs: Any) -> R:
        """Run a bound task: in the run of it that a worker has begun, else with a new request."""
        own, running = type(self) is not Task, current.get()
        if own and running is not None and running.task is self and not running.entered:
            running.entered = True
            return self.function(self, *args, **kwargs)  # type: ignore[no-any-return]
        request = Request(
            id=new_id(), task=self.name, args=args, kwargs=kwargs, called_directly=True
        )
        running = Running(request, task=self)
        running.entered = True
        token = current.set(running)
        try:
            return self.function(self if own else running, *args, **kwargs)
        finally:
            current.reset(token)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a call of this task and return its Result.

        Raises TypeError for arguments that do not fit the function, EncodeError for values
        that cannot be sent, Unroutable or QueueFull if no queue took the message, and
        BrokerUnavailable if Redis did not.
        """
        if type(self).apply_async is not self.plain_apply:
            return self.apply_async(args, kwargs)
        return self.sender.send(Signature(self.name, args, kwargs, {}, self))

    delay = enqueue

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a call of this task from asyncio; see ``enqueue``."""
        return await asend(Signature(self.name, args, kwargs, {}, self), self.sender)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[R]:
        """Send a call with its arguments as values and its options as keywords.

        Where a class overrides this method, or a test replaces it, every way to send a call of
        the task leads through it.
        """
        return self.sender.send(
            Signature(self.name, positional(args), mapping(kwargs), checked(options), self)
        )

    def enqueue_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a call when the open transaction of Django commits, and return its Result now.

        ``using`` is the alias of the database, unless the task has a parameter of that name.
        Outside of a transaction the call is sent at once.
        """
        using = take_using(kwargs, self.parameters)
        return self.apply_async_on_commit(args, kwargs, using=using)

    delay_on_commit = enqueue_on_commit

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        **options: Any,
    ) -> Result[R]:
        """``apply_async`` when the transaction of Django commits; see ``enqueue_on_commit``."""
        return self.apply_async(args, kwargs, **{"on_commit": using or True, **options})

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[R]:
        """Run the call here, through serializer and result handling, and return its Result."""
        return self.sender.run_here(
            Signature(self.name, positional(args), mapping(kwargs), checked(options), self)
        )

    def options(self, **options: Any) -> Call[P, R]:
        """Return this task with options for the call, such as ``queue`` or ``acks_late``."""
        return Call(self, checked(options))

    def s(self, /, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Make a signature: a call as a value, for ``enqueue_many`` for instance."""
        return Signature(self.name, args, kwargs, {}, self)

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError, as a call would, if the arguments do not fit the function."""
        least, most = self.most_positional  # the common case reads one attribute only
        if not kwargs and least <= len(args) <= most:
            return
        if self.parameters is None or not self.typing:
            return
        try:
            self.parameters.bind(*args, **kwargs)
        except TypeError as error:
            shown = f"{self.name}{self.parameters}"
            hint = misplaced(self.name, kwargs, self.parameters.parameters)
            raise TypeError(f"{error}; checked against {shown} before sending{hint}") from None

    # The run that goes on, for code that has the task

    @property
    def app(self) -> Any:
        """The app that the task is registered with."""
        return self.sender

    @property
    def request(self) -> Request:
        """The request of the run that goes on here; one that was ``called_directly`` outside."""
        running = current.get()
        if running is not None and running.task is self:
            return running.request
        return Request(id="", task=self.name, called_directly=True)

    @property
    def running(self) -> Running:
        """The run of this task that goes on here; one that no worker runs outside of any."""
        running = current.get()
        return running if running is not None and running.task is self else Running(self.request)

    def retry(self, **details: Any) -> Any:
        """Retry the task; see ``Running.retry``."""
        return self.running.retry(**details)

    def update_state(self, state: str = "PROGRESS", meta: Any = None) -> None:
        """Store a custom state; see ``Running.update_state``."""
        self.running.update_state(state, meta)

    def AsyncResult(self, task_id: str) -> Result[R]:
        """The result of a call of this task, by its id."""
        result = self.sender.result(task_id)
        result.convert = self.result_converter
        return result

    # Hooks, for classes of one's own.  ``self.request`` is that of the run.

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Do something before each run, as a part of it: what this raises, the task has raised."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Do something when a run has returned; what this raises is logged."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Do something when a run has failed and is not tried again; what this raises is logged."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Do something when a run is to be tried again; what this raises is logged."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Do something when the task has ended in this state; what this raises is logged."""

    def __reduce__(self) -> str:
        """Pickle the task by reference, as functions are."""
        return self.function.__qualname__

    def __repr__(self) -> str:
        return f"<task {self.name}>"


# Set so that type checkers do not see it, and still find a misspelt attribute.
type.__setattr__(Task, "__getattr__", read_option)

#: The methods that are no user's.  By ``id``: a mock would note that it was asked for its hash.
PLAIN_APPLY_ASYNC: set[int] = {id(Task.apply_async)}
#: Methods that are called around a run if a class overrides one of them.
HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")


def plain_apply_of(cls: type[Task[..., Any]]) -> Any:
    """The ``apply_async`` of a class of tasks; None if it is a user's."""
    return cls.apply_async if id(cls.apply_async) in PLAIN_APPLY_ASYNC else None


def has_own_apply_async(task: Task[..., Any]) -> bool:
    """Whether calls of a task lead through an ``apply_async`` that was overridden or replaced."""
    return type(task).apply_async is not task.plain_apply


def send(signature: Signature, sender: Sender) -> Result[Any]:
    """Send a call: through its task's ``apply_async`` if that has its own, else by ``sender``."""
    task = signature.task
    if task is not None and has_own_apply_async(task):
        return task.apply_async(signature.args, signature.kwargs, **signature.options)
    return sender.send(signature)


async def asend(signature: Signature, sender: Sender) -> Result[Any]:
    """Send a call from asyncio; an ``apply_async`` of the task's own runs in a thread."""
    task = signature.task
    if task is not None and has_own_apply_async(task):
        return await sender.in_thread(lambda: send(signature, sender))
    return await sender.asend(signature)
