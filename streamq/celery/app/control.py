"""``app.control``: Celery's remote control, as far as Redis answers or does what it asks for.

``ping`` is answered from the leases of the workers, and ``revoke`` and ``purge`` act in Redis:
no worker has to be up, and none is asked.  The rest is refused with what to type instead.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn

from streamq.admin.inspector import Inspector
from streamq.admin.remote import CONTROL, INSPECT, not_here, ping
from streamq.app import App
from streamq.errors import ConfigError

#: Workers by name, each with ``{"ok": "pong"}``.
Reply = dict[str, dict[str, str]]


class Inspect:
    """Questions to the workers: ``app.control.inspect().ping()``."""

    def __init__(
        self,
        destination: str | Collection[str] | None = None,
        timeout: float = 1.0,
        callback: Callable[[Any], Any] | None = None,
        *,
        app: App,
        **unused: Any,
    ) -> None:
        refuse_patterns(unused)
        self.app = app
        self.destination = destination
        self.timeout = timeout
        self.callback = callback

    def ping(self, destination: str | Collection[str] | None = None) -> Reply | None:
        """The workers that are up: ``{"worker@web": {"ok": "pong"}}``; None if there is none.

        ``destination`` is the names of those that are meant.
        """
        chosen = destination or self.destination
        replies = replies_of(self.app, chosen, self.timeout)
        if self.callback is not None:
            for node, reply in replies.items():
                self.callback({node: reply})
        return replies or None

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return refused(self, name, "inspect().", INSPECT)


class Control:
    """Remote control of the workers of an app."""

    def __init__(self, app: App) -> None:
        self.app = app

    def inspect(
        self,
        destination: str | Collection[str] | None = None,
        timeout: float = 1.0,
        callback: Callable[[Any], Any] | None = None,
        **unused: Any,
    ) -> Inspect:
        """Questions to the workers of these names, or to all.

        ``timeout`` is how long to wait for Redis, in seconds; ``callback`` is called with each
        reply.
        """
        return Inspect(destination, timeout, callback, **{**unused, "app": self.app})

    def ping(
        self,
        destination: str | Collection[str] | None = None,
        timeout: float = 1.0,
        **unused: Any,
    ) -> list[Reply]:
        """The workers that are up: ``[{"worker@web": {"ok": "pong"}}]``; empty without any.

        ``destination`` is the names of those that are meant; ``timeout`` is how long to wait for
        Redis, in seconds.
        """
        refuse_patterns(unused)
        replies = replies_of(self.app, destination, timeout)
        return [{node: reply} for node, reply in replies.items()]

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: object = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **unused: Any,
    ) -> None:
        """Revoke tasks by their ids, one or many; see ``Result.revoke``.

        A revocation holds for every worker, so ``destination`` changes nothing.
        """
        self.app.revoke(task_id, terminate=terminate, signal=signal)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: object = None,
        signal: str | int = "SIGTERM",
        **unused: Any,
    ) -> None:
        """Revoke tasks, and stop those that run."""
        self.revoke(task_id, terminate=True, signal=signal)

    def purge(self, connection: object = None) -> int:
        """Remove what waits in the queues of the app; return how many messages.

        Their tasks end as REVOKED.  What runs stays, and so does what is for later.
        """
        app = self.app
        inspector = Inspector(app.broker.client, app.broker.keys)
        names = {app.conf.task_default_queue, *(queue.name for queue in app.queues)}
        there = [state.name for state in inspector.queues(names)]
        return sum(inspector.purge(name, app.conf.result_expires) for name in there)

    discard_all = purge

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return refused(self, name, "control.", CONTROL)


def replies_of(app: App, destination: str | Collection[str] | None, timeout: float) -> Reply:
    """The workers that are up, each with its reply."""
    return ping(app.broker.client, app.broker.keys, destination, timeout)


def refuse_patterns(options: dict[str, Any]) -> None:
    """Raise ConfigError if workers are chosen by a pattern."""
    if options.get("pattern"):
        raise ConfigError(
            "not in this version: pattern=", advice=["destination=[…], with whole names"]
        )


def refused(
    holder: object, name: str, prefix: str, instead: Mapping[str, str]
) -> Callable[..., NoReturn]:
    """The method of a name that this version lacks: it raises ConfigError when it is called.

    Raises AttributeError for a name that Celery does not know either.
    """
    if name not in instead:
        raise AttributeError(f"{type(holder).__name__!r} object has no attribute {name!r}")

    def refuse(*args: object, **options: object) -> NoReturn:
        raise not_here(f"{prefix}{name}()", instead[name])

    return refuse
