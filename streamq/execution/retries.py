"""Retries: whether and when a task is tried again, and how its message changes for that."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from streamq.config.config import Config
from streamq.core.delivery import LONGEST_NUMBER, Delivery
from streamq.core.message import at_moment, from_now
from streamq.core.options import checked
from streamq.core.outcome import RunLater, millis
from streamq.core.retry import RetryPolicy
from streamq.core.text import count
from streamq.errors import UNCHANGED, ConfigError, MaxRetriesExceeded, Retry
from streamq.producer.encoding import written
from streamq.serialization.exceptions import message_of
from streamq.serialization.payload import Payloads, as_text
from streamq.serialization.signing import Signer
from streamq.tasks import Signature

#: Fields of a message that override its task's retry policy, and how they are read.
RETRY_FIELDS: dict[bytes, Callable[[bytes], Any]] = {
    b"max_retries": lambda text: None if text == b"none" else whole(text),
    b"default_retry_delay": lambda text: whole(text) / 1000,
    b"autoretry_for": lambda text: frozenset(text.decode().split()),
    b"dont_autoretry_for": lambda text: frozenset(text.decode().split()),
    b"retry_backoff": lambda text: whole(text) / 1000,
    b"retry_backoff_max": lambda text: whole(text) / 1000,
    b"retry_jitter": lambda text: text == b"1",
}


class Retries:
    """The maker of follow-ups for tasks that ask to be tried again."""

    def __init__(self, payloads: Payloads, conf: Config, signer: Signer | None) -> None:
        self.payloads = payloads
        self.conf = conf
        self.signer = signer

    def next_try(self, delivery: Delivery, asked: Retry) -> RunLater:
        """Make the follow-up of a task that is to be tried again as ``asked``.

        Raises StreamqError if that cannot be: a pause that is none, arguments that cannot be sent.
        """
        pause, moment = self.policy(delivery).delay, None
        if asked.eta is not None:
            moment = int(at_moment(checked({"eta": asked.eta})["eta"], self.conf.timezone))
        elif asked.countdown is not None:
            pause = checked({"countdown": asked.countdown})["countdown"]
        queue = str(checked({"queue": asked.changes.get("queue")}).get("queue", "")).encode()
        changes = self.signed(delivery, queue, self.changes(delivery, asked))
        return RunLater(
            pause=pause,
            moment=moment,
            queue=queue,
            declare=bool(queue) and self.conf.task_create_missing_queues,
            changes={b"retries": b"%d" % (delivery.retries + 1), **changes},
        )

    def final_error(self, delivery: Delivery, asked: Retry) -> BaseException | None:
        """The exception of a task that may not be retried as asked; None if it may."""
        policy = self.policy(delivery)
        if asked.max_retries is not UNCHANGED:
            policy = replace(policy, max_retries=asked.max_retries)
        if policy.allows(delivery.retries):
            return None
        return asked.final or self.exhausted(delivery, asked)

    def exhausted(self, delivery: Delivery, asked: Retry) -> MaxRetriesExceeded:
        """Make the error of a task that has used all its retries."""
        error = MaxRetriesExceeded(
            f"{delivery.title} was tried again {count(delivery.retries, 'time')}, "
            "and may not be tried once more",
            known={"last error": message_of(asked.exc)} if asked.exc is not None else None,
        )
        error.__cause__ = asked.exc
        return error

    def policy(self, delivery: Delivery) -> RetryPolicy:
        """The retry policy of this message: its task's, with the message's own fields applied."""
        assert delivery.policy is not None
        policy, asked = delivery.policy.retry, {}
        for name, read in RETRY_FIELDS.items():
            if name in delivery.fields:
                try:
                    asked[name.decode()] = read(delivery.fields[name])
                except (ValueError, UnicodeDecodeError):
                    continue  # a message typed by hand may hold anything
        return policy.changed(asked)

    def changes(self, delivery: Delivery, asked: Retry) -> dict[bytes, bytes]:
        """The fields of the message that the retry changes."""
        found: dict[bytes, bytes] = {}
        for name in ("args", "kwargs"):
            if name in asked.changes:
                found[name.encode()] = self.encoded(delivery, name, asked.changes[name])
        options = checked({k: v for k, v in asked.changes.items() if k not in ("args", "kwargs")})
        if "priority" in options:
            found[b"priority"] = b"%d" % options["priority"]
        for name in ("time_limit", "soft_time_limit"):
            if name in options:
                found[name.encode()] = millis(options[name])
        if "expires" in options:
            expires, zone = options["expires"], self.conf.timezone
            fixed = isinstance(expires, datetime)
            moment = at_moment(expires, zone) if fixed else from_now(expires)
            found[b"expires"] = moment.encode()
        return found

    def signed(
        self, delivery: Delivery, queue: bytes, changes: dict[bytes, bytes]
    ) -> dict[bytes, bytes]:
        """Add a new signature to the changes of a signed message."""
        if self.signer is None or b"signature" not in delivery.fields or not (changes or queue):
            return changes
        fields = delivery.fields | changes
        if fields.get(b"expires", b"").startswith(b"+"):
            raise ConfigError(
                "retry cannot change expires of a signed message to a time from now",
                advice=["give the moment: expires=datetime.now(UTC) + timedelta(…)"],
            )
        signature = self.signer.signature(delivery.id, queue or delivery.queue.encode(), fields)
        return {**changes, b"signature": signature}

    def encoded(self, delivery: Delivery, name: str, value: Any) -> bytes:
        """Encode new ``args`` or ``kwargs`` (``name``) in the message's own format."""
        content = as_text(delivery.fields.get(b"content_type"), "content_type")
        compression = as_text(delivery.fields.get(b"compression"), "compression")
        format = (content or "json", compression, "the arguments")
        changed: Any = {name: value, "task": delivery.policy and delivery.policy.task}
        return written(Signature("", **changed), name, lambda v: self.payloads.write(v, *format))


def whole(text: bytes) -> int:
    """Read a whole number from 0.  Raises ValueError for anything else."""
    if not text.isdigit() or len(text) > LONGEST_NUMBER:
        raise ValueError
    return int(text)
