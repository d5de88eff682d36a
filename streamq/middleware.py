"""Middleware: layers around the sending of calls and the runs of tasks."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from streamq.context import Running
from streamq.errors import ConfigError
from streamq.result import Result
from streamq.tasks import Signature

T = TypeVar("T")
R = TypeVar("R")

#: Sends a call, and returns its Result.
SendCall = Callable[[Signature], Result[Any]]
AsyncSendCall = Callable[[Signature], Awaitable[Result[Any]]]
#: Runs the task of a call, and returns its value.
RunTask = Callable[[Running], Any]


class Middleware:
    """A layer around the sending of calls and the runs of tasks: the base class of such layers.

    ``app.middleware = [Outer(), Inner()]``: the first is the outermost.  A subclass overrides the
    methods that it needs.  ``next`` passes on to the layers below, and in the end does the work:
    what comes before that call is done before the work, what follows it afterwards, and without
    it the work is not done.  A layer is one object for all calls, runs and threads of a process.
    """

    def publish(self, call: Signature, next: SendCall, /) -> Result[Any]:
        """Send a call, and return its Result.

        ``next(call)`` may be given another call, and raises what sending raises; if this
        method raises before it, nothing is sent.
        """
        return next(call)

    async def apublish(self, call: Signature, next: AsyncSendCall, /) -> Result[Any]:
        """Send a call from asyncio: ``aenqueue`` goes through this method, and not ``publish``."""
        return await next(call)

    def run(self, task: Running, next: RunTask, /) -> Any:
        """Run a task, and return its value.

        ``next(task)`` returns what the task's function returns, and raises what it raises.  What
        this method raises, the task has raised: it fails, or is tried again.
        """
        return next(task)


def checked_layers(given: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Check the value of ``app.middleware``.  Raises ConfigError if it is no list of layers."""
    if not isinstance(given, Iterable):
        raise ConfigError(
            f"middleware must be a list, not {given!r}", advice=["app.middleware = [MyLayer()]"]
        )
    layers = tuple(given)
    for layer in layers:
        check_layer(layer)
    return layers


def check_layer(layer: object) -> None:
    """Raise ConfigError unless this is a layer whose methods can be called as they are."""
    if isinstance(layer, type) and issubclass(layer, Middleware):
        name = layer.__name__
        raise ConfigError(
            f"middleware holds the class {name} itself", advice=[f"make a layer of it: {name}()"]
        )
    if not isinstance(layer, Middleware):
        raise ConfigError(
            f"middleware holds {layer!r}, which is no layer",
            advice=["derive its class from streamq.Middleware"],
        )
    for name, is_async in (("publish", False), ("apublish", True), ("run", False)):
        method = getattr(layer, name)
        generates = inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
        fits = callable(method) and not generates
        if not fits or inspect.iscoroutinefunction(method) is not is_async:
            kind = "an async function" if is_async else "a plain function"
            raise ConfigError(f"{type(layer).__name__}.{name} of the middleware must be {kind}")


def layers_around(
    layers: Sequence[Middleware], method: str, innermost: Callable[[T], R]
) -> Callable[[T], R] | None:
    """Build the chain of one method around ``innermost``; None if no layer overrides it."""
    chain = innermost
    for layer in reversed(layers):
        step = getattr(layer, method)
        if getattr(step, "__func__", None) is not getattr(Middleware, method):
            chain = layer_around(step, chain)
    return None if chain is innermost else chain


def layer_around(step: Callable[..., R], inner: Callable[[T], R]) -> Callable[[T], R]:
    """Build one link of a chain: a method of a layer, and what its ``next`` calls."""

    def call(given: T) -> R:
        return step(given, inner)

    return call
