"""The request of a run by Celery's names: ``self.request`` in a task."""

from collections.abc import Mapping
from typing import Any

from streamq.context import Request


class CeleryRequest:
    """One run of a task, as Celery's tasks read it; attributes may be assigned.

    What a ``Request`` of streamq has is read from that; the headers of a message are attributes
    too.  Outside of a run the id is None, and the task was ``called_directly``.
    """

    id: str | None = None
    task: str | None = None
    args: Any = None
    kwargs: Any = None
    retries: int = 0
    root_id: str | None = None
    parent_id: str | None = None
    headers: Any = None
    hostname: str | None = None
    eta: Any = None
    expires: Any = None
    timelimit: Any = None
    delivery_info: Any = None
    called_directly: bool = True
    is_eager: bool = False
    ignore_result: bool = False
    #: What belongs to workflows, which are not in this version.
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None
    group: Any = None
    group_index: Any = None
    children: Any = None
    replaced_task_nesting: int = 0
    #: What streamq's messages do not have.
    correlation_id: str | None = None
    reply_to: str | None = None
    origin: str | None = None
    shadow: str | None = None
    properties: Any = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    stamps: Any = None
    stamped_headers: Any = None
    loglevel: Any = None
    logfile: Any = None
    utc: bool = True

    def __init__(self, *args: Any, **given: Any) -> None:
        self.update(*args, **given)

    @classmethod
    def of(cls, request: Request) -> "CeleryRequest":
        """Make the request of a run.  A function that was called has no id, and no way."""
        found = cls()
        sent = not (request.called_directly or request.is_eager)
        id = None if request.called_directly else request.id
        vars(found).update(
            id=id or None,
            task=request.task,
            args=list(request.args),
            kwargs=request.kwargs,
            retries=request.retries,
            deliveries=request.deliveries,
            redelivered=request.redelivered,
            root_id=request.root_id or id or None,
            parent_id=request.parent_id,
            queue=request.queue,
            exchange=request.exchange,
            routing_key=request.routing_key,
            headers=request.headers,
            hostname=request.hostname,
            eta=request.eta,
            expires=request.expires,
            timelimit=request.timelimit,
            called_directly=request.called_directly,
            is_eager=request.is_eager,
            correlation_id=id or None,
            delivery_info={
                "exchange": request.exchange if sent else None,
                "routing_key": request.routing_key if sent else None,
                "priority": None,
                "redelivered": request.redelivered,
                "is_eager": request.is_eager,
            },
        )
        return found

    def update(self, *args: Any, **given: Any) -> None:
        """Set attributes, from a mapping and by name."""
        vars(self).update(*args, **given)

    def clear(self) -> None:
        """Remove all attributes."""
        vars(self).clear()

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute or a header; ``default`` if there is none."""
        return getattr(self, name, default)

    @property
    def time_limit(self) -> float | None:
        """The hard time limit in seconds."""
        return self.timelimit[0] if self.timelimit else None

    @property
    def soft_time_limit(self) -> float | None:
        """The soft time limit in seconds."""
        return self.timelimit[1] if self.timelimit else None

    def __getattr__(self, name: str) -> Any:
        headers = vars(self).get("headers")
        if isinstance(headers, Mapping) and name in headers:
            return headers[name]
        raise AttributeError(f"the request has no {name!r}")

    def __repr__(self) -> str:
        return f"<Context: {vars(self)!r}>"


Context = CeleryRequest
