"""Outcomes of runs: the fields of the record, and the follow-up of the message.

Nothing is written here: the settle and follow scripts carry an ``Outcome`` out.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import SystemRandom
from typing import Any, cast

from streamq.config.config import Config
from streamq.context import current
from streamq.core.backoff import Backoff
from streamq.core.delivery import Delivery
from streamq.core.names import type_name
from streamq.core.outcome import (
    Expire,
    FollowUp,
    OfferElsewhere,
    Outcome,
    RemoveRevocation,
    SendToDeadLetters,
    flat,
    millis,
)
from streamq.core.retry import ancestors
from streamq.errors import (
    ConfigError,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    Ignore,
    Overdue,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    Stopped,
    StreamqError,
    Terminated,
    TimeLimitExceeded,
)
from streamq.execution.retries import Retries
from streamq.producer.registry import Registry
from streamq.routing import LONGEST_NAME, check_name
from streamq.serialization.annotations import json_form
from streamq.serialization.codec import find_serializer
from streamq.serialization.exceptions import LONGEST_MESSAGE, describe, simple
from streamq.serialization.payload import Payloads
from streamq.serialization.signing import Signer
from streamq.serialization.strict_json import EnumNotRepresentable
from streamq.states import State

#: The pauses before a message of an unknown task is offered again.
OFFER_BACKOFF = Backoff(first=0.5, longest=10.0)
#: The pause after so many others is the longest in any case.
MOST_GROWING = 10
#: Random numbers that ``random.seed`` of a task cannot fix and forked processes do not share.
CHANCE = SystemRandom()


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
        self.to_json = self.results.to_json
        self.conf = conf
        self.signer = signer
        self.retries = Retries(payloads, conf, signer)
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
                data = self.to_json(value)
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
        note_error(error)
        if issubclass(kind, Ignore):
            if (ending := ending_of_run()) is not None:
                return self.ended_by_hand(delivery, *ending, seconds)
            return Outcome(delivery, b"", (), expires=expires if delivery.keep else b"0")
        if issubclass(kind, Terminated):
            return self.revoked(delivery, b"terminated")
        if issubclass(kind, Overdue):
            return self.overdue(delivery, seconds)
        if issubclass(kind, Retry):  # ``isinstance`` would run code of the exception
            return self.tried_again(delivery, cast(Retry, error), seconds)
        if issubclass(kind, Reject):
            return self.rejected(delivery, error, seconds)
        policy = self.retries.policy(delivery)
        if policy.wants(error):
            pause = policy.pause(delivery.retries, self.chance())
            details = {"countdown": pause, **policy.details}
            if policy.backoff or "eta" in details:
                details["countdown"] = pause if policy.backoff else None
            note_error(directive := Retry(exc=error, **details))
            return self.tried_again(delivery, directive, seconds)
        return self.failed(delivery, error, seconds)

    def ended_by_hand(self, delivery: Delivery, state: str, value: Any, seconds: float) -> Outcome:
        """Make the outcome of a task that has set its final state itself, and raised Ignore."""
        if state == State.SUCCESS:
            return self.returned(delivery, value, seconds)
        if state == State.REVOKED:
            return self.revoked(delivery, b"revoked by the task")
        fields = simple(*failure_of(value))
        ended = b"FAILURE" if delivery.keep else b""
        ttl = self.record_ttl(delivery)
        return Outcome(delivery, ended, flat(fields, runtime=b"%.6f" % seconds), expires=ttl)

    def overdue(self, delivery: Delivery, seconds: float) -> Outcome:
        """Make the outcome of a task that was stopped at its hard limit.

        It is retried only where ``autoretry_for`` names TimeLimitExceeded: a task that took
        too long once is likely to do so again.
        """
        error, policy = over_limit(delivery), self.retries.policy(delivery)
        if type_name(TimeLimitExceeded) in policy.autoretry_for:
            return self.raised(delivery, error, seconds)
        return self.failed(delivery, error, seconds)

    def failed(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a task that failed and is not retried."""
        note_error(error)
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
            then=SendToDeadLetters(b"rejected", why),
        )

    def tried_again(self, delivery: Delivery, asked: Retry, seconds: float) -> Outcome:
        """Make the outcome of a task that asked for a retry: a failure if none is allowed."""
        final = self.retries.final_error(delivery, asked)
        if final is not None:
            return self.failed(delivery, final, seconds)
        try:
            then = self.retries.next_try(delivery, asked)
        except StreamqError as error:  # arguments that cannot be sent, a pause that is none
            return self.failed(delivery, error, seconds)
        reason = describe(asked.exc, skip=1) if asked.exc is not None else describe(asked)
        return Outcome(
            delivery,
            b"RETRY" if delivery.keep else b"",
            flat(reason, retries=then.changes[b"retries"]),
            expires=self.record_ttl(delivery),
            then=then,
        )

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
            return self.undecodable(delivery, error)
        refusals = delivery.number(b"refusals") or 0
        left = self.conf.unknown_task_patience - offered_for(refusals)
        pause = min(offer_pause(refusals), left) if left > 0 else offer_pause(refusals)
        offer = OfferElsewhere(pause=pause, refusals=refusals + 1)
        if left > 0:
            return Outcome(delivery, b"", (), then=offer)
        return self.dead_lettered(delivery, self.tasks.missing(name), "unknown task", offer)

    def undecodable(self, delivery: Delivery, error: StreamqError) -> Outcome:
        """Make the outcome of a message whose arguments cannot be decoded."""
        refused = isinstance(error, ContentDisallowed)
        reason = "content type not accepted" if refused else "undecodable message"
        return self.dead_lettered(delivery, error, reason)

    def dead_lettered(
        self,
        delivery: Delivery,
        error: StreamqError,
        reason: str,
        offer: OfferElsewhere | None = None,
    ) -> Outcome:
        """Make the outcome of a message that cannot be run: a dead letter.

        With ``offer`` it becomes one only if no other worker is known to have its task.
        """
        about = describe(error)
        about.pop("traceback", None)
        then = SendToDeadLetters(reason.encode(), about["error"])
        return Outcome(
            delivery,
            b"FAILURE" if delivery.keep else b"",
            flat(about),
            expires=self.record_ttl(delivery),
            then=then if offer is None else replace(offer, otherwise=then),
        )

    def revoked(self, delivery: Delivery, reason: bytes) -> Outcome:
        """Make the outcome of a task that was revoked or expired: not run, or stopped."""
        state = b"REVOKED" if delivery.keep else b""
        then: FollowUp = Expire() if reason == b"expired" else RemoveRevocation()
        expires = self.record_ttl(delivery)
        return Outcome(delivery, state, (b"reason", reason), expires=expires, then=then)


def ending_of_run() -> tuple[str, Any] | None:
    """The final state, and its data, that the task that runs has set itself; None if it has not."""
    running = current.get()
    return running.ending if running is not None else None


def failure_of(meta: Any) -> tuple[str, str]:
    """The class and the message of a failure that a task has set itself.

    ``meta`` may be a mapping with ``exc_type``, ``exc_module`` and ``exc_message``, which may be
    lines; without a message, what else the mapping holds is the message.
    """
    about = dict(meta) if isinstance(meta, Mapping) else {"exc_message": meta}
    name, module = str(about.pop("exc_type", None) or "Exception"), about.pop("exc_module", None)
    if module and "." not in name:
        name = f"{module}.{name}".removeprefix("builtins.")
    message = about.get("exc_message", about or None)
    lines = message if isinstance(message, list | tuple) else [message]
    return name, "\n".join(str(line) for line in lines if line is not None)[:LONGEST_MESSAGE]


def note_error(error: BaseException) -> None:
    """Note the error of the run that goes on, for the hooks and signals that follow it."""
    running = current.get()
    if running is not None and running.observed:
        running.error = error


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


def offer_pause(refusals: int) -> float:
    """Seconds before a message that was refused so often is offered again."""
    return OFFER_BACKOFF.pause(refusals)


def offered_for(refusals: int) -> float:
    """Seconds for which a message that was refused so often has been offered."""
    pauses = sum(map(offer_pause, range(min(refusals, MOST_GROWING))))
    return pauses + max(0, refusals - MOST_GROWING) * offer_pause(MOST_GROWING)
