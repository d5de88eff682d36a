"""The signals of sending: before_task_publish, which may change headers, and after_task_publish."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

from streamq.context import current
from streamq.host.ids import new_id
from streamq.producer.templates import Templates
from streamq.result import Result
from streamq.signals import after_task_publish, before_task_publish
from streamq.tasks import Signature


class Announcer(Protocol):
    """The parts of an app that announcing a call uses."""

    templates: Templates


class Announcement:
    """A call about to be sent, as receivers are given it.

    ``headers`` are those of Celery's protocol, and the call's own; a receiver may add others and
    change them.
    """

    def __init__(self, signature: Signature, app: Announcer) -> None:
        template = app.templates.template(signature)
        id = signature.options.get("task_id") or new_id()
        self.signature = signature
        self.id = id
        running = current.get()
        request = running.request if running is not None else None
        self.fixed = {
            "id": id,
            "task": signature.name,
            "lang": "py",
            "root_id": (request.root_id or request.id) if request else id,
            "parent_id": request.id if request else None,
            "retries": 0,
            "eta": signature.options.get("eta"),
            "expires": signature.options.get("expires"),
        }
        self.headers: dict[str, Any] = {**self.fixed, **(template.headers or {})}
        self.facts: dict[str, Any] = {
            "body": (signature.args, signature.kwargs, {}),
            "exchange": template.exchange,
            "routing_key": template.routing_key,
            "headers": self.headers,
            "properties": {"correlation_id": id, "priority": signature.options.get("priority")},
        }

    def changed(self) -> Signature:
        """The call with its id, and the headers that the receivers have left."""
        before_task_publish.send(self.signature.name, declare=[], retry_policy=None, **self.facts)
        fixed = self.fixed
        headers = {
            name: value
            for name, value in self.headers.items()
            if name not in fixed or value != fixed[name]
        }
        options = {**self.signature.options, "task_id": self.id}
        if headers:
            options["headers"] = headers
        return replace(self.signature, options=options)

    def sent(self) -> None:
        """Tell that the call was sent."""
        after_task_publish.send(self.signature.name, **self.facts)


def announce(
    signature: Signature, send: Callable[[Signature], Result[Any]], app: Announcer
) -> Result[Any]:
    """Send a call between its two signals."""
    announcement = Announcement(signature, app)
    result = send(announcement.changed())
    announcement.sent()
    return result


async def aannounce(
    signature: Signature, send: Callable[[Signature], Awaitable[Result[Any]]], app: Announcer
) -> Result[Any]:
    """Send a call from asyncio between its two signals."""
    announcement = Announcement(signature, app)
    result = await send(announcement.changed())
    announcement.sent()
    return result
