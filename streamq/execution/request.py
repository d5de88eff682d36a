"""Requests: what a task can read about its run."""

from typing import Any

from streamq.context import Request
from streamq.core.delivery import Delivery
from streamq.errors import DecodeError
from streamq.serialization.codec import decode_json


def request_of(
    delivery: Delivery, args: Any, kwargs: dict[str, Any], hostname: str, *, eager: bool = False
) -> Request:
    """Make the request of a delivery with its decoded arguments."""
    fields = {k.decode(errors="replace"): v for k, v in delivery.fields.items()}

    def text(name: str) -> str | None:
        return fields[name].decode(errors="replace") if name in fields else None

    return Request(
        id=delivery.id.decode(errors="replace"),
        task=text("task") or "",
        args=tuple(args),
        kwargs=kwargs,
        retries=delivery.retries,
        deliveries=delivery.crashes + 1,
        redelivered=delivery.may_have_run,
        root_id=text("root_id") or delivery.id.decode(errors="replace"),
        parent_id=text("parent_id"),
        queue=delivery.queue,
        exchange=text("exchange") or "",
        routing_key=text("routing_key") or delivery.queue,
        headers=headers_of(delivery),
        eta=delivery.moment(b"eta"),
        expires=delivery.moment(b"expires"),
        hostname=hostname,
        timelimit=(delivery.hard or None, delivery.soft or None),
        generation=int(delivery.generation),
        is_eager=eager,
        scheduled_for=delivery.moment(b"tick"),
        missed=delivery.number(b"missed") or 0,
    )


def headers_of(delivery: Delivery) -> dict[str, Any]:
    """The headers of a message, with ``x-death-*`` for one that was a dead letter before."""
    try:
        headers = decode_json(delivery.fields.get(b"headers", b"{}"))
    except DecodeError:
        headers = {}
    found = dict(headers) if isinstance(headers, dict) else {}
    if b"deaths" in delivery.fields:
        for name in ("queue", "reason"):
            value = delivery.fields.get(f"death_{name}".encode(), b"")
            found[f"x-death-{name}"] = value.decode(errors="replace")
        found["x-death-count"] = delivery.number(b"deaths") or 0
    return found
