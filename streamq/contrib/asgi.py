"""FastAPI and Starlette: the connections of an app are closed when the web server stops.

    from fastapi import FastAPI
    from streamq import App
    from streamq.contrib.asgi import lifespan

    queue = App("shop")
    api = FastAPI(lifespan=lifespan(queue))

Inside of another lifespan: ``async with lifespan(queue): …``.
"""

from typing import Any, Self

from streamq.app import App
from streamq.errors import ConfigError


class Lifespan:
    """The lifespan of an ASGI application, which uses these apps of streamq."""

    def __init__(self, *apps: App) -> None:
        for app in apps:
            if not hasattr(app, "aclose"):  # also a proxy, such as current_app, has it
                raise ConfigError(
                    f"lifespan takes apps of streamq, not {type(app).__name__}",
                    advice=["FastAPI(lifespan=lifespan(queue)), where queue = streamq.App(…)"],
                )
        self.apps = apps

    def __call__(self, asgi_app: Any = None, /) -> Self:
        """Return the lifespan: the framework calls it with its application."""
        return self

    async def __aenter__(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def __aexit__(self, *error: object) -> None:
        """Close the connections of the running event loop, and those of other threads."""
        for app in self.apps:
            await app.aclose()
            app.close()


def lifespan(*apps: App) -> Lifespan:
    """Return the lifespan that closes the connections of these apps at its end.

    It is a value for ``FastAPI(lifespan=…)`` and ``Starlette(lifespan=…)``, and a context
    manager for ``async with``.  Raises ConfigError for what is no app of streamq.
    """
    return Lifespan(*apps)
