"""Outcomes of runs: the fields of the record, and the follow-up of the message.

Nothing is written here: the settle and follow scripts carry an ``Outcome`` out.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from random import SystemRandom
from typing import Any, cast

from streamq.config.config import Config
from streamq.core.delivery import LONGEST_NUMBER, Delivery
from streamq.core.message import at_moment, from_now
from streamq.core.names import type_name
from streamq.core.options import checked
from streamq.core.outcome import DEAD_LETTER, EXPIRE, LATER, OFFER, REVOKED, Outcome, flat, millis
from streamq.core.retry import RetryPolicy, ancestors
from streamq.core.text import count
from streamq.errors import (
    UNCHANGED,
    ConfigError,
    DecodeError,
    EncodeError,
    Ignore,
    MaxRetriesExceeded,
    Overdue,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    Stopped,
    StreamqError,
    Terminated,
    TimeLimitExceeded,
)
from streamq.producer.registry import Registry
from streamq.routing import LONGEST_NAME, check_name
from streamq.serialization.annotations import json_form
from streamq.serialization.codec import encode_json, find_serializer
from streamq.serialization.exceptions import describe, message_of
from streamq.serialization.payload import Payloads, as_text
from streamq.serialization.signing import Signer
from streamq.serialization.strict_json import EnumNotRepresentable
from streamq.tasks import Signature, written

#: Seconds before a message of an unknown task is offered again: the first and the longest
#: pause.  Each pause is twice the one before.
OFFER_PAUSES = (0.5, 10.0)
#: Doublings after which the pause is the longest in any case.
MOST_DOUBLINGS = 10
#: Random numbers that ``random.seed`` of a task cannot fix and forked processes do not share.
CHANCE = SystemRandom()

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


class Outcomes:
    """The maker of outcomes.  ``chance`` returns numbers in [0, 1) for pauses with jitter."""

    def __init__(
        self,
        tasks: Registry,
        payloads: Payloads,
        conf: Config,
        *,
        signer: Signer | None = None,
        chance: Callable[[], float] = CHANCE.random,
    ) -> None:
        self.tasks = tasks
        self.payloads = payloads
        self.results = replace(payloads, limit=conf.result_limit)
        self.conf = conf
        self.signer = signer
        self.chance = chance
        self.serializer = conf.result_serializer
        self.compression = conf.result_compression
        self.plain = (self.serializer, self.compression) == ("json", None)
        self.expires = millis(conf.result_expires)
        self.encoding = self.result_encoding()

    # The task returned

    def returned(self, delivery: Delivery, value: Any, seconds: float) -> Outcome:
        """Make the outcome of a task that returned ``value`` after so many seconds."""
        policy = delivery.policy
        assert policy is not None
        if not delivery.keep:
            return Outcome(delivery, b"", ())
        runtime = b"%.6f" % seconds
        if not policy.keep:
            return Outcome(delivery, b"SUCCESS", (b"runtime", runtime), expires=policy.expires)
        try:
            if self.plain:
                data = encode_json(value)
                if len(data) > self.results.limit:
                    data = self.results.write(value, "json", None, "the result")
            else:
                data = self.results.write(value, self.serializer, self.compression, "the result")
        except Stopped:
            raise
        except BaseException as error:  # a class of the task may raise anything
            if type(error) is EncodeError and isinstance(error.__cause__, EnumNotRepresentable):
                with suppress(EncodeError):
                    flat = json_form(value, policy.task.result_converter)
                    return self.returned(delivery, flat, seconds)
            return self.failed(delivery, error, seconds)  # the task has run, and must not run twice
        return Outcome(
            delivery,
            b"SUCCESS",
            (b"result", data, b"runtime", runtime, *self.encoding),
            expires=self.record_ttl(delivery),
        )

    def result_encoding(self) -> tuple[bytes, ...]:
        """The record's fields about the encoding of results; none for plain JSON."""
        found: list[bytes] = []
        if self.serializer != "json":
            content = find_serializer(self.serializer).content_type
            found += [b"content_type", content.encode()]
        if self.compression is not None:
            found += [b"compression", self.compression.encode()]
        return tuple(found)

    def record_ttl(self, delivery: Delivery) -> bytes:
        """How long the record is kept, in milliseconds."""
        if b"result_expires" in delivery.fields:
            asked = delivery.number(b"result_expires")
            if asked:  # 0 would keep it for ever, which no message may ask for
                return b"%d" % asked
        return delivery.policy.expires if delivery.policy is not None else self.expires

    # The task raised

    def raised(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a task that raised this exception after so many seconds."""
        kind, expires = type(error), self.record_ttl(delivery)
        if issubclass(kind, Ignore):
            return Outcome(delivery, b"", (), expires=expires if delivery.keep else b"0")
        if issubclass(kind, Terminated):
            return self.revoked(delivery, b"terminated")
        if issubclass(kind, Overdue):
            return self.overdue(delivery, seconds)
        if issubclass(kind, Retry):  # ``isinstance`` would run code of the exception
            return self.tried_again(delivery, cast(Retry, error), seconds)
        if issubclass(kind, Reject):
            return self.rejected(delivery, error, seconds)
        policy = self.retry_policy(delivery)
        if policy.wants(error):
            directive = Retry(exc=error, countdown=policy.pause(delivery.retries, self.chance()))
            return self.tried_again(delivery, directive, seconds)
        return self.failed(delivery, error, seconds)

    def overdue(self, delivery: Delivery, seconds: float) -> Outcome:
        """Make the outcome of a task that was stopped at its hard limit.

        It is retried only where ``autoretry_for`` names TimeLimitExceeded: a task that took
        too long once is likely to do so again.
        """
        error, policy = over_limit(delivery), self.retry_policy(delivery)
        if type_name(TimeLimitExceeded) in policy.autoretry_for:
            return self.raised(delivery, error, seconds)
        return self.failed(delivery, error, seconds)

    def failed(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a task that failed and is not retried."""
        fields = flat(describe(error, skip=1), runtime=b"%.6f" % seconds)
        state = b"FAILURE" if delivery.keep else b""
        throws = delivery.policy.throws if delivery.policy is not None else frozenset()
        expected = bool(throws) and not throws.isdisjoint(ancestors(type(error)))
        ttl = self.record_ttl(delivery)
        return Outcome(delivery, state, fields, expires=ttl, expected=expected)

    def rejected(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a task that rejected its message: requeue, or a dead letter."""
        if getattr(error, "requeue", False) and not delivery.early:
            return Outcome(delivery, b"", (), release=True)
        about = describe(error, skip=1)
        why = about["error"] or b"rejected"
        return Outcome(
            delivery,
            b"FAILURE" if delivery.keep else b"",
            flat(about, runtime=b"%.6f" % seconds, reason=why),
            expires=self.record_ttl(delivery),
            follow=(DEAD_LETTER, b"rejected", why),
        )

    # Retries

    def retry_policy(self, delivery: Delivery) -> RetryPolicy:
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

    def tried_again(self, delivery: Delivery, asked: Retry, seconds: float) -> Outcome:
        """Make the outcome of a task that asked for a retry: a failure if none is allowed."""
        final = self.final_error(delivery, asked)
        if final is not None:
            return self.failed(delivery, final, seconds)
        try:
            due = self.due(asked, self.retry_policy(delivery))
            queue = str(checked({"queue": asked.changes.get("queue")}).get("queue", "")).encode()
            changes = self.signed(delivery, queue, self.changes(delivery, asked))
        except StreamqError as error:  # arguments that cannot be sent, a pause that is none
            return self.failed(delivery, error, seconds)
        reason = describe(asked.exc, skip=1) if asked.exc is not None else describe(asked)
        number = b"%d" % (delivery.retries + 1)
        made = b":" if queue and self.conf.task_create_missing_queues else b""
        return Outcome(
            delivery,
            b"RETRY" if delivery.keep else b"",
            flat(reason, retries=number),
            expires=self.record_ttl(delivery),
            follow=(LATER, due, made + queue, b"retries", number, *changes),
        )

    def final_error(self, delivery: Delivery, asked: Retry) -> BaseException | None:
        """The exception of a task that may not be retried as asked; None if it may."""
        policy = self.retry_policy(delivery)
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

    def due(self, asked: Retry, policy: RetryPolicy) -> bytes:
        """The time of the next try, as the follow script takes it."""
        if asked.eta is not None:
            return at_moment(checked({"eta": asked.eta})["eta"], self.conf.timezone).encode()
        pause = policy.delay
        if asked.countdown is not None:
            pause = checked({"countdown": asked.countdown})["countdown"]
        return from_now(pause).encode()

    def changes(self, delivery: Delivery, asked: Retry) -> tuple[bytes, ...]:
        """The fields of the message that the retry changes: names and values in one row."""
        found: list[bytes] = []
        for name in ("args", "kwargs"):
            if name in asked.changes:
                found += [name.encode(), self.encoded(delivery, name, asked.changes[name])]
        options = checked({k: v for k, v in asked.changes.items() if k not in ("args", "kwargs")})
        if "priority" in options:
            found += [b"priority", b"%d" % options["priority"]]
        for name in ("time_limit", "soft_time_limit"):
            if name in options:
                found += [name.encode(), millis(options[name])]
        if "expires" in options:
            expires, zone = options["expires"], self.conf.timezone
            fixed = isinstance(expires, datetime)
            moment = at_moment(expires, zone) if fixed else from_now(expires)
            found += [b"expires", moment.encode()]
        return tuple(found)

    def signed(
        self, delivery: Delivery, queue: bytes, changes: tuple[bytes, ...]
    ) -> tuple[bytes, ...]:
        """Add a new signature to the changes of a signed message."""
        if self.signer is None or b"signature" not in delivery.fields or not (changes or queue):
            return changes
        fields = delivery.fields | dict(zip(changes[::2], changes[1::2], strict=True))
        if fields.get(b"expires", b"").startswith(b"+"):
            raise ConfigError(
                "retry cannot change expires of a signed message to a time from now",
                advice=["give the moment: expires=datetime.now(UTC) + timedelta(…)"],
            )
        signature = self.signer.signature(delivery.id, queue or delivery.queue.encode(), fields)
        return (*changes, b"signature", signature)

    def encoded(self, delivery: Delivery, name: str, value: Any) -> bytes:
        """Encode new ``args`` or ``kwargs`` (``name``) in the message's own format."""
        content = as_text(delivery.fields.get(b"content_type"), "content_type")
        compression = as_text(delivery.fields.get(b"compression"), "compression")
        format = (content or "json", compression, "the arguments")
        changed: Any = {name: value, "task": delivery.policy and delivery.policy.task}
        return written(Signature("", **changed), name, lambda v: self.payloads.write(v, *format))

    # The task did not run, or was stopped

    def unknown_task(self, delivery: Delivery) -> Outcome:
        """Make the outcome of a message whose task is not registered here.

        While a new version is rolled out, old workers read messages of new tasks.  So the
        message is offered to others for ``unknown_task_patience`` seconds; after that it
        becomes a dead letter, unless Redis knows another worker that has the task.
        """
        name = delivery.fields.get(b"task", b"").decode(errors="replace")
        if not name:
            return self.dead_lettered(delivery, DecodeError("the message names no task"), "no task")
        if (error := misnamed(delivery, name)) is not None:
            return self.dead_lettered(delivery, error, "undecodable message")
        refusals = delivery.number(b"refusals") or 0
        left = self.conf.unknown_task_patience - offered_for(refusals)
        pause = min(offer_pause(refusals), left) if left > 0 else offer_pause(refusals)
        due, number = from_now(pause).encode(), b"%d" % (refusals + 1)
        if left > 0:
            return Outcome(delivery, b"", (), follow=(LATER, due, b"", b"refusals", number))
        outcome = self.dead_lettered(delivery, self.tasks.missing(name), "unknown task")
        outcome.follow = (OFFER, due, number, *outcome.follow[1:])
        return outcome

    def dead_lettered(self, delivery: Delivery, error: StreamqError, reason: str) -> Outcome:
        """Make the outcome of a message that cannot be run: a dead letter."""
        about = describe(error)
        about.pop("traceback", None)
        return Outcome(
            delivery,
            b"FAILURE" if delivery.keep else b"",
            flat(about),
            expires=self.record_ttl(delivery),
            follow=(DEAD_LETTER, reason.encode(), about["error"]),
        )

    def revoked(self, delivery: Delivery, reason: bytes) -> Outcome:
        """Make the outcome of a task that was revoked or expired: not run, or stopped."""
        state = b"REVOKED" if delivery.keep else b""
        follow = (EXPIRE, b"expired", b"it expired") if reason == b"expired" else (REVOKED,)
        expires = self.record_ttl(delivery)
        return Outcome(delivery, state, (b"reason", reason), expires=expires, follow=follow)


def misnamed(delivery: Delivery, task: str) -> DecodeError | None:
    """The error of a malformed message id or task name; None if both are well formed."""
    given = delivery.fields.get(b"id", delivery.id)
    try:
        if given != delivery.id:
            check_name(given[: LONGEST_NAME + 1].decode(errors="replace"), "the id")
        check_name(task[: LONGEST_NAME + 1], "the task's name")
    except ConfigError as error:
        return DecodeError(str(error))
    return None


def over_limit(delivery: Delivery) -> TimeLimitExceeded:
    """Make the error of a task that was stopped at its hard limit."""
    return TimeLimitExceeded(
        f"the task ran longer than its limit of {delivery.hard:g} s, and was stopped",
        advice=["time_limit= of the task or the call, or task_time_limit, allows more"],
    )


def past_soft_limit(delivery: Delivery) -> SoftTimeLimitExceeded:
    """Make the error that is raised inside a task at its soft limit."""
    error = SoftTimeLimitExceeded(f"the task has been running for {delivery.soft:g} s")
    error.here = True
    return error


def whole(text: bytes) -> int:
    """Read a whole number from 0.  Raises ValueError for anything else."""
    if not text.isdigit() or len(text) > LONGEST_NUMBER:
        raise ValueError
    return int(text)


def offer_pause(refusals: int) -> float:
    """Seconds before a message that was refused so often is offered again."""
    first, longest = OFFER_PAUSES
    return float(min(longest, first * 2 ** min(refusals, MOST_DOUBLINGS)))


def offered_for(refusals: int) -> float:
    """Seconds for which a message that was refused so often has been offered."""
    pauses = sum(map(offer_pause, range(min(refusals, MOST_DOUBLINGS))))
    return pauses + max(0, refusals - MOST_DOUBLINGS) * offer_pause(MOST_DOUBLINGS)
