"""Signals about messages whose tasks are not run, and about tasks that were terminated."""

from collections.abc import Mapping
from typing import Any, Protocol

from streamq.context import Request
from streamq.core.delivery import Delivery
from streamq.core.outcome import Expire, OfferElsewhere, Outcome, RemoveRevocation
from streamq.core.termination import SIGTERM
from streamq.errors import DecodeError, SignatureInvalid
from streamq.execution.request import request_of
from streamq.producer.registry import Registry
from streamq.serialization.signing import Signer
from streamq.signals import task_rejected, task_revoked, task_unknown
from streamq.tasks import Task


class Decoder(Protocol):
    """The executor, as far as the request of a message that is not run needs it."""

    hostname: str
    tasks: Registry
    signer: Signer | None

    def decode(
        self, fields: Mapping[bytes, bytes], task: Task[..., Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Decode args and kwargs."""


def send_not_run(outcome: Outcome, error: Exception | None, tasks: Registry, hostname: str) -> None:
    """Send task_unknown about a message that no task here can run, else task_rejected.

    ``error`` says why it cannot be decoded, if that is the reason.
    """
    delivery = outcome.delivery
    message = readable(delivery)
    if error is None and isinstance(outcome.then, OfferElsewhere):
        name = str(message.get("task", ""))
        missing = tasks.missing(name)
        task_unknown.send(hostname, message=message, exc=missing, name=name, id=message["id"])
        return
    if error is None:  # its id, or the name of its task, is malformed
        error = DecodeError(getattr(outcome.then, "error", b"").decode(errors="replace"))
    task_rejected.send(hostname, message=message, exc=error)


def send_revoked(executor: Decoder, outcome: Outcome, signum: int = SIGTERM) -> None:
    """Send task_revoked if this is the outcome of a task that was revoked or has expired.

    ``signum`` is the signal that was asked for, of a task that was terminated.
    """
    if not (task_revoked.links and isinstance(outcome.then, Expire | RemoveRevocation)):
        return
    delivery, terminated = outcome.delivery, b"terminated" in outcome.fields
    name = delivery.fields.get(b"task", b"").decode(errors="replace")
    task_revoked.send(
        executor.tasks.tasks.get(name, name),
        request=request_unless_run(executor, delivery),
        terminated=terminated,
        signum=signum if terminated else None,
        expired=isinstance(outcome.then, Expire),
    )


def request_unless_run(executor: Decoder, delivery: Delivery) -> Request:
    """The request of a message that is not run.

    It has no arguments if they cannot be decoded, or if the signature is not valid: what is not
    signed must not be decoded.
    """
    args: Any = ()
    kwargs: dict[str, Any] = {}
    task = executor.tasks.tasks.get(delivery.fields.get(b"task", b"").decode(errors="replace"))
    if task is not None and is_trusted(delivery, executor.signer):
        try:
            args, kwargs = executor.decode(delivery.fields, task)
        except Exception:  # raised by a class of the task, or because the message is malformed
            args, kwargs = (), {}
    return request_of(delivery, args, kwargs, executor.hostname)


def is_trusted(delivery: Delivery, signer: Signer | None) -> bool:
    """Whether the arguments of a message may be decoded, for its signature."""
    try:
        if signer is not None:
            signer.check(delivery.id, delivery.queue.encode(), delivery.fields)
    except SignatureInvalid:
        return False
    return True


def readable(delivery: Delivery) -> dict[str, str | bytes]:
    """The fields of a message by name, with its id and its queue; as bytes what is no UTF-8."""
    fields = {b"queue": delivery.queue.encode(), **delivery.fields, b"id": delivery.id}
    return {name.decode(errors="replace"): text_or_bytes(value) for name, value in fields.items()}


def text_or_bytes(value: bytes) -> str | bytes:
    """The text in UTF-8 that these bytes are; else the bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
