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


class Lifespan:
    """The lifespan of an ASGI application, which uses these apps of streamq."""

    def __init__(self, *apps: App) -> None:
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
    manager for ``async with``.
    """
    return Lifespan(*apps)
