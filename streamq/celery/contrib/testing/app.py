"""Apps for tests, by Celery's names."""

from typing import Any

from streamq.celery.app.base import Celery

__all__ = ["DEFAULT_TEST_CONFIG", "TestApp"]

#: Settings of an app for tests, unless it is given others.
DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "accept_content": ["json"],
    "enable_utc": True,
    "timezone": "UTC",
}


def TestApp(
    name: str | None = None,
    config: Any = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    **options: Any,
) -> Celery:
    """Make an app for tests; without ``broker``, on the bundled server."""
    options.pop("log", None)
    backend = options.pop("backend", None)
    app = Celery(name or "celery.tests", set_as_current=set_as_current, backend=backend, **options)
    app.conf.update({**DEFAULT_TEST_CONFIG, **(config or {})})
    return app
