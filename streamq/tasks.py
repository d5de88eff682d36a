"""Tasks: functions with a name and options, and calls of them (Call, Signature)."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from streamq.arguments import mapping, positional
from streamq.context import Request, Running, current
from streamq.core.options import checked, merged
from streamq.core.wrappers import accepted
from streamq.errors import ConfigError, EncodeError
from streamq.host.ids import new_id
from streamq.host.modules import module_of
from streamq.result import Result
from streamq.serialization.annotations import Converter, json_form
from streamq.serialization.strict_json import EnumNotRepresentable

P = ParamSpec("P")
R = TypeVar("R")


class Sender(Protocol):
    """The app that a task is registered with, as far as a task uses it."""

    def send(self, signature: "Signature") -> Result[Any]:
        """Publish the call."""

    async def asend(self, signature: "Signature") -> Result[Any]:
        """Publish the call from asyncio."""

    def run_here(self, signature: "Signature") -> Result[Any]:
        """Run the call in this process."""


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
        return self.task.sender.send(self.s(*args, **kwargs))

    delay = enqueue

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the call from asyncio."""
        return await self.task.sender.asend(self.s(*args, **kwargs))


class Task(Generic[P, R]):
    """A function that can be called here or sent to a worker."""

    def __init__(
        self,
        function: Callable[..., R],
        name: str,
        sender: Sender,
        options: Mapping[str, Any],
    ) -> None:
        if inspect.iscoroutinefunction(function):
            raise ConfigError(
                f"not in this version: the task {name} is an async function",
                advice=["call asyncio.run(…) inside a plain function"],
            )
        update_wrapper(self, function)
        self.function = function
        self.name = name
        self.sender = sender
        self.bind: bool = options.get("bind", False)
        self.typing: bool = options.get("typing", True)
        self.own_options = {k: v for k, v in options.items() if k not in ("bind", "typing", "name")}
        #: Whether the first send is to warn that no worker can import the task.
        self.warn_unimportable = "name" not in options and module_of(function) is None
        self.plain = Call(self, {})
        self.signature = arguments_of(function, bind=self.bind)
        self.most_positional = simple_arity(self.signature)
        self.converter = Converter.of(function, bound=self.bind)
        self.result_converter = Converter.result(function)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, now."""
        if self.bind:
            return self.run_bound(*args, **kwargs)
        return self.function(*args, **kwargs)

    def run_bound(self, /, *args: Any, **kwargs: Any) -> R:
        """Run a bound task outside of a worker, with a new request."""
        request = Request(id=new_id(), task=self.name, args=args, kwargs=kwargs)
        running = Running(request)
        token = current.set(running)
        try:
            return self.function(running, *args, **kwargs)
        finally:
            current.reset(token)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a call of this task and return its Result.

        Raises TypeError for arguments that do not fit the function, EncodeError for values
        that cannot be sent, Unroutable or QueueFull if no queue took the message, and
        BrokerUnavailable if Redis did not.
        """
        return self.sender.send(Signature(self.name, args, kwargs, {}, self))

    delay = enqueue

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a call of this task from asyncio; see ``enqueue``."""
        return await self.sender.asend(Signature(self.name, args, kwargs, {}, self))

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[R]:
        """Send a call with its arguments as values and its options as keywords."""
        return self.sender.send(
            Signature(self.name, positional(args), mapping(kwargs), checked(options), self)
        )

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
        if self.signature is None or not self.typing:
            return
        least, most = self.most_positional
        if not kwargs and least <= len(args) <= most:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            shown = f"{self.name}{self.signature}"
            raise TypeError(f"{error}; checked against {shown} before sending") from None

    def __reduce__(self) -> str:
        """Pickle the task by reference, as functions are."""
        return self.function.__qualname__

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def flattened(signature: Signature, refused: EncodeError) -> Signature:
    """Replace the Enums of a call that JSON cannot represent by what it can.

    Only where the task's annotations turn the value back into the Enum.  Raises ``refused``,
    the error of encoding the call, if that has another reason or no annotation helps.
    """
    if signature.task is None or not isinstance(refused.__cause__, EnumNotRepresentable):
        raise refused
    converter = signature.task.converter

    def flat(place: int | str, value: Any) -> Any:
        return json_form(value, converter.conversion_of(place) if converter else None)

    try:
        return replace(
            signature,
            args=tuple(flat(index, value) for index, value in enumerate(signature.args)),
            kwargs={name: flat(name, value) for name, value in signature.kwargs.items()},
        )
    except EncodeError:  # it names the one argument only
        raise refused from refused.__cause__


def written(call: Signature, name: str, write: Callable[[Any], bytes]) -> bytes:
    """Encode ``args`` or ``kwargs`` (``name``) of a call with ``write``."""
    try:
        return write(getattr(call, name))
    except EncodeError as refused:
        return write(getattr(flattened(call, refused), name))


def arguments_of(function: Callable[..., Any], *, bind: bool) -> inspect.Signature | None:
    """The parameters for callers: a wrapper's own, without the first one if ``bind``."""
    try:
        signature = accepted(function)
    except (TypeError, ValueError):
        return None
    if not bind:
        return signature
    parameters = list(signature.parameters.values())
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    if not parameters or parameters[0].kind not in positional:
        raise ConfigError(
            f"{function!r} is declared with bind=True but takes no first argument",
            advice=["def task(self, …)"],
        )
    if parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    return signature.replace(parameters=parameters)


def simple_arity(signature: inspect.Signature | None) -> tuple[int, int]:
    """The least and most positional arguments that fit alone; (1, 0) if no number does.

    This check decides most calls; it is ten times faster than ``Signature.bind``.
    """
    least = most = 0
    for parameter in signature.parameters.values() if signature else ():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            most = 1 << 30
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if parameter.default is inspect.Parameter.empty:
                return 1, 0
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            most += 1
            least += parameter.default is inspect.Parameter.empty
    return least, most
