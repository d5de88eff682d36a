"""What can be a task: checks of a decorated object, and what to write instead."""

import inspect
from functools import partial
from typing import Any

from streamq.core.text import shown
from streamq.core.wrappers import returns_result
from streamq.errors import ConfigError
from streamq.host.modules import innermost

#: What to do about an async function.
ASYNC_ADVICE = "call asyncio.run(…) inside a plain function"


def check_function(function: Any, name: str) -> None:
    """Raise ConfigError for what cannot run as a task, with what to write instead."""
    if isinstance(function, classmethod):
        raise ConfigError(
            f"the task {name} is a class method: a message carries no class to call it with",
            advice=["make it a function of the module, or a @staticmethod below @app.task"],
        )
    if not callable(function):
        raise ConfigError(
            f"the task {name} cannot be called: {shown(function)}",
            advice=["@app.task above a def; options by name: @app.task(queue=…)"],
        )
    if inspect.iscoroutinefunction(function):
        raise ConfigError(
            f"not in this version: the task {name} is an async function", advice=[ASYNC_ADVICE]
        )
    if inspect.iscoroutinefunction(innermost(function)) and returns_result(function):
        raise ConfigError(
            f"not in this version: the task {name} is an async function behind a decorator "
            "that does not run it",
            advice=[ASYNC_ADVICE, "or let the decorator do it: return asyncio.run(function(…))"],
        )


def check_has_name(function: Any) -> None:
    """Raise ConfigError for an object of which no task's name can be made."""
    if isinstance(function, str):
        raise ConfigError(
            f"@app.task({function!r}) decorates no function: a name is an option",
            advice=[f"@app.task(name={function!r})"],
        )
    if isinstance(function, partial):
        raise nameless(function, f"app.task(name=…)(partial({shown_name(function.func)}, …))")
    if getattr(function, "__name__", "") == "<lambda>":
        raise nameless(function, "app.task(name=…)(lambda …)")
    if not callable(function) and not isinstance(function, classmethod):
        raise ConfigError(
            f"@app.task decorates a function, not {shown(function)}",
            advice=["options have names: @app.task(queue=…)"],
        )
    if not hasattr(function, "__qualname__"):
        raise nameless(function, f"app.task(name=…)({type(function).__name__}(…))")


def nameless(function: Any, example: str) -> ConfigError:
    """Make the error of an object that can run as a task, but has no name for it."""
    kind = "a lambda" if getattr(function, "__name__", "") == "<lambda>" else shown(function)
    return ConfigError(
        f"a task needs a name that workers know it by, and {kind} has none",
        advice=[f"name it: {example}", "or write a def below @app.task"],
    )


def shown_name(function: Any) -> str:
    """The name of a function as in a call of it; ``…`` if it has none."""
    return getattr(function, "__name__", "…")
