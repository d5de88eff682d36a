"""How a run ends: what its record says, and what follows its message.

Decides and writes nothing: each ending is an ``Outcome`` that the settle script acts upon.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from random import SystemRandom
from typing import Any, cast

from streamq.config.config import Config
from streamq.core.delivery import LONGEST_LIFE, Delivery
from streamq.core.message import at_moment, from_now
from streamq.core.names import type_name
from streamq.core.options import checked
from streamq.core.outcome import BURY, EXPIRE, LATER, OFFER, REVOKED, Outcome, flat, millis
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
from streamq.serialization.annotations import turned_back
from streamq.serialization.codec import encode_json, find_serializer
from streamq.serialization.exceptions import describe, message_of
from streamq.serialization.payload import Payloads, as_text
from streamq.serialization.signing import Seal
from streamq.serialization.strict_json import Wordless
from streamq.tasks import Signature, written

#: Seconds before a message of an unknown task is offered again: the first pause, and the
#: longest.  In between each is twice the one before.
OFFERS = (0.5, 10.0)
#: Refusals after which the pause is the longest in any case.
GROWING = 10
#: Chance that no seed of a task's decides, and no two processes share that were forked.
CHANCE = SystemRandom()

#: Fields of a message that change how its task is tried again, and how they are read.
RETRY_FIELDS: dict[bytes, Callable[[bytes], Any]] = {
    b"max_retries": lambda text: None if text == b"none" else whole(text),
    b"default_retry_delay": lambda text: whole(text) / 1000,
    b"autoretry_for": lambda text: frozenset(text.decode().split()),
    b"dont_autoretry_for": lambda text: frozenset(text.decode().split()),
    b"retry_backoff": lambda text: whole(text) / 1000,
    b"retry_backoff_max": lambda text: whole(text) / 1000,
    b"retry_jitter": lambda text: text == b"1",
}


class Endings:
    """Makes outcomes.  ``chance`` gives numbers in [0, 1) for the pauses between retries."""

    def __init__(
        self,
        tasks: Registry,
        payloads: Payloads,
        conf: Config,
        *,
        seal: Seal | None = None,
        chance: Callable[[], float] = CHANCE.random,
    ) -> None:
        self.tasks = tasks
        self.payloads = payloads
        self.results = replace(payloads, limit=conf.result_limit)
        self.conf = conf
        self.seal = seal
        self.chance = chance
        self.serializer = conf.result_serializer
        self.compression = conf.result_compression
        self.plain = (self.serializer, self.compression) == ("json", None)
        self.expires = millis(conf.result_expires)
        self.encoding = self.result_encoding()

    # The task returned

    def returned(self, delivery: Delivery, value: Any, seconds: float) -> Outcome:
        """The task returned."""
        manner = delivery.manner
        assert manner is not None
        if not delivery.keep:
            return Outcome(delivery, b"", ())
        runtime = b"%.6f" % seconds
        if not manner.keep:
            return Outcome(delivery, b"SUCCESS", (b"runtime", runtime), expires=manner.expires)
        try:
            if self.plain:
                data = encode_json(value)
                if len(data) > self.results.limit:
                    data = self.results.write(value, "json", None, "the result")
            else:
                data = self.results.write(value, self.serializer, self.compression, "the result")
        except Stopped:
            raise
        except BaseException as error:  # a class of the task's may raise whatever it likes
            if type(error) is EncodeError and isinstance(error.__cause__, Wordless):
                with suppress(EncodeError):
                    flat = turned_back(value, manner.task.result_converter)
                    return self.returned(delivery, flat, seconds)
            return self.failed(delivery, error, seconds)  # the task has run: not once more
        return Outcome(
            delivery,
            b"SUCCESS",
            (b"result", data, b"runtime", runtime, *self.encoding),
            expires=self.life(delivery),
        )

    def result_encoding(self) -> tuple[bytes, ...]:
        """What the record says of how its result was written; nothing for plain JSON."""
        found: list[bytes] = []
        if self.serializer != "json":
            content = find_serializer(self.serializer).content_type
            found += [b"content_type", content.encode()]
        if self.compression is not None:
            found += [b"compression", self.compression.encode()]
        return tuple(found)

    def life(self, delivery: Delivery) -> bytes:
        """Milliseconds that the record is kept."""
        if b"result_expires" in delivery.fields:
            asked = delivery.number(b"result_expires")
            if asked:  # no message has a record kept for ever
                return b"%d" % asked
        return delivery.manner.expires if delivery.manner is not None else self.expires

    # The task raised

    def raised(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """The task raised."""
        kind, expires = type(error), self.life(delivery)
        if issubclass(kind, Ignore):
            return Outcome(delivery, b"", (), expires=expires if delivery.keep else b"0")
        if issubclass(kind, Terminated):
            return self.revoked(delivery, b"terminated")
        if issubclass(kind, Overdue):
            return self.overdue(delivery, seconds)
        if issubclass(kind, Retry):  # ``isinstance`` would ask the exception itself
            return self.tried_again(delivery, cast(Retry, error), seconds)
        if issubclass(kind, Reject):
            return self.rejected(delivery, error, seconds)
        policy = self.policy(delivery)
        if policy.wants(error):
            directive = Retry(exc=error, countdown=policy.pause(delivery.retries, self.chance()))
            return self.tried_again(delivery, directive, seconds)
        return self.failed(delivery, error, seconds)

    def overdue(self, delivery: Delivery, seconds: float) -> Outcome:
        """The task was stopped at its hard limit.

        It is only tried again where ``autoretry_for`` names that: what took too long once
        would do so again.
        """
        error, policy = over_limit(delivery), self.policy(delivery)
        if type_name(TimeLimitExceeded) in policy.autoretry_for:
            return self.raised(delivery, error, seconds)
        return self.failed(delivery, error, seconds)

    def failed(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """The task failed, and that is that."""
        fields = flat(describe(error, skip=1), runtime=b"%.6f" % seconds)
        state = b"FAILURE" if delivery.keep else b""
        throws = delivery.manner.throws if delivery.manner is not None else frozenset()
        expected = bool(throws) and not throws.isdisjoint(ancestors(type(error)))
        life = self.life(delivery)
        return Outcome(delivery, state, fields, expires=life, expected=expected)

    def rejected(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """The task gave its message back, or to the dead letters."""
        if getattr(error, "requeue", False) and not delivery.early:
            return Outcome(delivery, b"", (), release=True)
        about = describe(error, skip=1)
        why = about["error"] or b"rejected"
        return Outcome(
            delivery,
            b"FAILURE" if delivery.keep else b"",
            flat(about, runtime=b"%.6f" % seconds, reason=why),
            expires=self.life(delivery),
            follow=(BURY, b"rejected", why),
        )

    # Again

    def policy(self, delivery: Delivery) -> RetryPolicy:
        """How this message is tried again: as its task says, unless it says otherwise."""
        assert delivery.manner is not None
        policy, asked = delivery.manner.retry, {}
        for name, read in RETRY_FIELDS.items():
            if name in delivery.fields:
                try:
                    asked[name.decode()] = read(delivery.fields[name])
                except (ValueError, UnicodeDecodeError):
                    continue  # a hand-typed message may say anything
        return policy.changed(asked)

    def tried_again(self, delivery: Delivery, asked: Retry, seconds: float) -> Outcome:
        """The task is to be tried again, if it may be."""
        final = self.last_word(delivery, asked)
        if final is not None:
            return self.failed(delivery, final, seconds)
        try:
            due = self.due(asked, self.policy(delivery))
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
            expires=self.life(delivery),
            follow=(LATER, due, made + queue, b"retries", number, *changes),
        )

    def last_word(self, delivery: Delivery, asked: Retry) -> BaseException | None:
        """What a task fails with that may not be tried again as asked; None if it may."""
        policy = self.policy(delivery)
        if asked.max_retries is not UNCHANGED:
            policy = replace(policy, max_retries=asked.max_retries)
        if policy.allows(delivery.retries):
            return None
        return asked.final or self.exhausted(delivery, asked)

    def exhausted(self, delivery: Delivery, asked: Retry) -> MaxRetriesExceeded:
        """Say that a task was tried as often as it may be."""
        error = MaxRetriesExceeded(
            f"{delivery.title} was tried again {count(delivery.retries, 'time')}, "
            "and may not be tried once more",
            known={"last error": message_of(asked.exc)} if asked.exc is not None else None,
        )
        error.__cause__ = asked.exc
        return error

    def due(self, asked: Retry, policy: RetryPolicy) -> bytes:
        """When the next try is due, as the script takes it."""
        if asked.eta is not None:
            return at_moment(checked({"eta": asked.eta})["eta"], self.conf.timezone).encode()
        pause = policy.delay
        if asked.countdown is not None:
            pause = checked({"countdown": asked.countdown})["countdown"]
        return from_now(pause).encode()

    def changes(self, delivery: Delivery, asked: Retry) -> tuple[bytes, ...]:
        """The fields of the message that are different from now on, names and values."""
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
        """The changes of a message that was signed, with a signature that fits them."""
        if self.seal is None or b"signature" not in delivery.fields or not (changes or queue):
            return changes
        fields = delivery.fields | dict(zip(changes[::2], changes[1::2], strict=True))
        if fields.get(b"expires", b"").startswith(b"+"):
            raise ConfigError(
                "retry cannot change expires of a signed message to a time from now",
                advice=["give the moment: expires=datetime.now(UTC) + timedelta(…)"],
            )
        signature = self.seal.signature(delivery.id, queue or delivery.queue.encode(), fields)
        return (*changes, b"signature", signature)

    def encoded(self, delivery: Delivery, name: str, value: Any) -> bytes:
        """Arguments, ``args`` or ``kwargs``, as the message writes them."""
        content = as_text(delivery.fields.get(b"content_type"), "content_type")
        compression = as_text(delivery.fields.get(b"compression"), "compression")
        format = (content or "json", compression, "the arguments")
        changed: Any = {name: value, "task": delivery.manner and delivery.manner.task}
        return written(Signature("", **changed), name, lambda v: self.payloads.write(v, *format))

    # The task did not run, or was stopped

    def unknown(self, delivery: Delivery) -> Outcome:
        """No task has the name that the message asks for: another worker may know it.

        While a new version is rolled out, old workers meet the messages of new tasks.  When
        patience is at its end, Redis knows whether another one has the task.
        """
        name = delivery.fields.get(b"task", b"").decode(errors="replace")
        if not name:
            return self.buried(delivery, DecodeError("the message names no task"), "no task")
        if (error := misnamed(delivery, name)) is not None:
            return self.buried(delivery, error, "undecodable message")
        refusals = delivery.number(b"refusals") or 0
        left = self.conf.unknown_task_patience - offered_for(refusals)
        pause = min(offer_pause(refusals), left) if left > 0 else offer_pause(refusals)
        due, number = from_now(pause).encode(), b"%d" % (refusals + 1)
        if left > 0:
            return Outcome(delivery, b"", (), follow=(LATER, due, b"", b"refusals", number))
        outcome = self.buried(delivery, self.tasks.missing(name), "unknown task")
        outcome.follow = (OFFER, due, number, *outcome.follow[1:])
        return outcome

    def buried(self, delivery: Delivery, error: StreamqError, reason: str) -> Outcome:
        """The message cannot be run at all: it goes to the dead letters."""
        about = describe(error)
        about.pop("traceback", None)
        return Outcome(
            delivery,
            b"FAILURE" if delivery.keep else b"",
            flat(about),
            expires=self.life(delivery),
            follow=(BURY, reason.encode(), about["error"]),
        )

    def revoked(self, delivery: Delivery, reason: bytes) -> Outcome:
        """The task was revoked or expired; it did not run, or was stopped."""
        state = b"REVOKED" if delivery.keep else b""
        follow = (EXPIRE, b"expired", b"it expired") if reason == b"expired" else (REVOKED,)
        expires = self.life(delivery)
        return Outcome(delivery, state, (b"reason", reason), expires=expires, follow=follow)


def misnamed(delivery: Delivery, task: str) -> DecodeError | None:
    """What is wrong with the id of a message or the name of its task, if anything is."""
    given = delivery.fields.get(b"id", delivery.id)
    try:
        if given != delivery.id:
            check_name(given[: LONGEST_NAME + 1].decode(errors="replace"), "the id")
        check_name(task[: LONGEST_NAME + 1], "the task's name")
    except ConfigError as error:
        return DecodeError(str(error))
    return None


def over_limit(delivery: Delivery) -> TimeLimitExceeded:
    """Say that a task has run too long."""
    return TimeLimitExceeded(
        f"the task ran longer than its limit of {delivery.hard:g} s, and was stopped",
        advice=["time_limit= of the task or the call, or task_time_limit, allows more"],
    )


def past_soft_limit(delivery: Delivery) -> SoftTimeLimitExceeded:
    """What is raised inside a task that has run for long."""
    error = SoftTimeLimitExceeded(f"the task has been running for {delivery.soft:g} s")
    error.here = True
    return error


def whole(text: bytes) -> int:
    """A whole number from 0 that a message carries; ValueError for anything else."""
    if not text.isdigit() or len(text) > LONGEST_LIFE:
        raise ValueError
    return int(text)


def offer_pause(refusals: int) -> float:
    """Seconds before a message is offered again that was refused so often."""
    first, longest = OFFERS
    return float(min(longest, first * 2 ** min(refusals, GROWING)))


def offered_for(refusals: int) -> float:
    """Seconds for which a message has been offered that was refused so often, as it says."""
    pauses = sum(map(offer_pause, range(min(refusals, GROWING))))
    return pauses + max(0, refusals - GROWING) * offer_pause(GROWING)
