"""Bulk publishing, ``enqueue_many``: one chunk is encoded while the server takes another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, Protocol

from streamq.broker.confirmation import Confirmation
from streamq.broker.publish_retry import Refusal
from streamq.broker.publisher import InFlight, Publisher, PublisherChannel
from streamq.broker.publisher_channel import Load, answers_of, full, plain
from streamq.context import lineage
from streamq.core.message import MessageTemplate, Publication
from streamq.errors import NotConfirmed, PartlyPublished, PublishUnknown
from streamq.host.clock import monotonic
from streamq.host.ids import new_ids
from streamq.middleware import SendCall
from streamq.producer.encoding import encoded
from streamq.producer.templates import Templates
from streamq.result import Result
from streamq.serialization.payload import Payloads
from streamq.tasks import Signature

#: The most messages, and bytes of arguments, in one call of a publish script.
CHUNK = 500
CHUNK_BYTES = 1 << 20


class BulkApp(Protocol):
    """The parts of an app that ``enqueue_many`` uses."""

    templates: Templates

    @property
    def payloads(self) -> Payloads:
        """The writer of arguments."""

    def moment(self, template: MessageTemplate, began: float) -> str | None:
        """The server's time (ms) at which a signed message expires; None if it does not."""

    def publish(
        self,
        publications: list[Publication],
        signatures: Sequence[Signature],
        channel: PublisherChannel,
        *,
        began: float,
    ) -> list[str]:
        """Publish on this channel, declaring missing queues."""

    def confirmations(self, templates: Iterable[MessageTemplate]) -> tuple[Confirmation, ...]:
        """The confirmations that these calls need beyond the server's answer."""

    def result_of(
        self, id: str, template: MessageTemplate, signature: Signature, answer: str
    ) -> Result[Any]:
        """Make the Result of an accepted call."""


class Chunk:
    """A chunk: calls that are published together, all or none."""

    def __init__(self) -> None:
        self.signatures: list[Signature] = []
        self.templates: list[MessageTemplate] = []
        #: Id, args and kwargs of each message, one after the other.
        self.messages: list[Any] = []
        self.size = 0
        self.given = False
        #: The fields that say which task sends this.
        self.lineage = lineage()
        #: The session of the connection that the ids were made for.
        self.session = ""

    @property
    def ids(self) -> list[str]:
        """The id of each message."""
        return self.messages[::3]

    @property
    def fits_plain_script(self) -> bool:
        """Whether publish_plain.lua takes the chunk: plain messages of one template."""
        first = self.templates[0]
        same = self.templates.count(first) == len(self.templates)
        return first.fits_plain_script and same and not (self.given or self.lineage)

    def renew_ids(self, session: str) -> None:
        """Give the calls new ids, as they are sent on another connection than planned.

        After a fork, or in a copy of this machine, another process may use the same ids.
        """
        fresh = new_ids(len(self.signatures))
        for at, signature in enumerate(self.signatures):
            if signature.options.get("task_id") is None:
                self.messages[3 * at] = fresh[at]
        self.session = session

    def publications(self, moment: Callable[[MessageTemplate], str | None]) -> list[Publication]:
        """The arguments of publish.lua; ``moment`` returns when a signed message expires."""
        parts = iter(self.messages)
        moments = {template: moment(template) for template in dict.fromkeys(self.templates)}
        return [
            template.publication(
                id,
                args,
                kwargs,
                given=signature.options.get("task_id") is not None,
                expires=moments[template],
                more=self.lineage,
            )
            for template, signature, id, args, kwargs in zip(
                self.templates, self.signatures, parts, parts, parts, strict=True
            )
        ]


class Bulk:
    """One call of ``enqueue_many``: its results, the chunk in flight, the remaining calls."""

    def __init__(self, app: BulkApp, publisher: Publisher, signatures: Iterable[Signature]) -> None:
        self.app = app
        self.publisher = publisher
        self.rest: Iterator[Signature] = iter(signatures)
        self.results: list[Result[Any]] = []
        self.preparing: list[Signature] = []
        self.in_flight: Chunk | None = None
        self.sent: InFlight | None = None
        self.refused_plain = 0

    def send(self) -> list[Result[Any]]:
        """Publish all calls and return their results.

        Raises PartlyPublished if that is not possible, and NotConfirmed if a chunk was
        published but not confirmed.
        """
        try:
            with self.borrowed_channel() as channel:
                while True:
                    try:
                        chunk = self.prepare(channel.connection.session)
                    except BaseException:  # the answer in flight must be read in any case
                        self.add_results(*self.receive(channel))
                        raise
                    received, answers = self.receive(channel)
                    try:
                        if chunk is None:
                            return self.results
                        self.in_flight = chunk
                        confirm = self.app.confirmations(dict.fromkeys(chunk.templates))
                        make = partial(self.load, chunk)
                        self.sent = self.publisher.begin(channel, make, confirm)
                    finally:  # while the server works on the chunk
                        self.add_results(received, answers)
        except NotConfirmed as unmet:
            unmet.accepted, unmet.remaining = self.results, self.unsent()
            raise
        except Exception as error:  # also what the caller's generator raises
            raise self.stopped(error) from error

    @contextmanager
    def borrowed_channel(self) -> Iterator[PublisherChannel]:
        """Borrow a publisher channel for a ``with`` block."""
        channel = self.publisher.borrow(monotonic())
        try:
            yield channel
        finally:
            self.publisher.channels.give_back(channel)

    def prepare(self, session: str) -> Chunk | None:
        """Encode the next calls, with ids for this session; None when there are no more."""
        chunk = Chunk()
        chunk.session = session
        templates, payloads, fresh = self.app.templates, self.app.payloads, new_ids(CHUNK)
        before: Signature | None = None
        self.preparing = chunk.signatures
        for signature in islice(self.rest, CHUNK):
            chunk.signatures.append(signature)
            if not isinstance(signature, Signature):
                raise no_signature(signature)
            if before is None or not templates.same_template(signature, before):
                template, before = templates.template(signature), signature
            args, kwargs = encoded(signature, template, payloads)
            given = signature.options.get("task_id")
            if given is not None:
                chunk.given = True
            chunk.templates.append(template)
            chunk.messages += (given or fresh.pop(), args, kwargs)
            chunk.size += len(args) + len(kwargs)
            if chunk.size >= CHUNK_BYTES:
                break
        return chunk if chunk.templates else None

    def load(self, chunk: Chunk, session: str) -> Load:
        """Make the script call for a chunk: publish_plain.lua, unless it refused two chunks."""
        if session != chunk.session:
            chunk.renew_ids(session)
        if chunk.fits_plain_script and self.refused_plain < 2:
            return plain(chunk.templates[0], chunk.messages)
        return full(chunk.publications(partial(self.app.moment, began=monotonic())))

    def receive(self, channel: PublisherChannel) -> tuple[Chunk, list[str]]:
        """Wait for the answer to the chunk in flight; return it with its queues."""
        chunk, sent = self.in_flight, self.sent
        if chunk is None or sent is None:
            return Chunk(), []
        try:
            answers = self.answers_to(chunk, sent, channel)
        except NotConfirmed as unmet:
            self.in_flight = None
            unmet.unconfirmed = self.results_of(chunk, answers_of(unmet.answer))
            raise
        self.in_flight = None
        return chunk, answers

    def answers_to(self, chunk: Chunk, sent: InFlight, channel: PublisherChannel) -> list[str]:
        """Wait for the queues of each message of the chunk in flight."""
        began = monotonic() - sent.spent
        try:
            answer = self.publisher.end(sent)
        except Refusal as refused:
            if not refused.is_unroutable:
                raise refused.error() from None
            answer = None
        if answer:
            return answers_of(answer)
        self.refused_plain += answer is not None
        publications = chunk.publications(partial(self.app.moment, began=began))
        return self.app.publish(publications, chunk.signatures, channel, began=began)

    def add_results(self, chunk: Chunk, answers: list[str]) -> None:
        """Add the results of an accepted chunk."""
        self.results += self.results_of(chunk, answers)

    def results_of(self, chunk: Chunk, answers: list[str]) -> list[Result[Any]]:
        """The results of a chunk; a single answer holds for all its messages."""
        each = answers * len(chunk.templates) if len(answers) == 1 else answers
        return list(map(self.app.result_of, chunk.ids, chunk.templates, chunk.signatures, each))

    def unsent(self) -> list[Signature]:
        """The calls that were not sent or not answered."""
        in_flight = self.in_flight.signatures if self.in_flight is not None else []
        left = [*in_flight, *(self.preparing if self.preparing is not in_flight else [])]
        with suppress(Exception):  # of the caller's generator; one error is enough
            left += self.rest
        return left

    def stopped(self, error: Exception) -> PartlyPublished:
        """Make the PartlyPublished: what was accepted and what was not sent."""
        chunk = self.in_flight if isinstance(error, PublishUnknown) else None
        unknown = chunk.signatures if chunk is not None else []
        return partly_published(error, self.results, self.unsent(), unknown)


def one_by_one(
    send: SendCall, layers: Callable[[SendCall], SendCall | None], signatures: Iterable[Signature]
) -> list[Result[Any]]:
    """Send calls one after the other: ``layers`` puts middleware around ``send``.

    Returns the results.  Raises PartlyPublished if that is not possible; a call that was accepted
    before a layer raised is among ``accepted``.
    """
    results: list[Result[Any]] = []
    rest, sending = iter(signatures), list[Signature]()
    accepted: list[Result[Any]] = []

    def innermost(signature: Signature) -> Result[Any]:
        accepted[:] = [send(signature)]
        return accepted[0]

    send_one = layers(innermost) or innermost
    try:
        for signature in rest:
            sending = [signature]
            checked_signature(signature)
            accepted.clear()
            results.append(send_one(signature))
            sending = []
    except NotConfirmed as unmet:
        unmet.accepted, unmet.unconfirmed = results, [unmet.result]
        unmet.remaining = list(rest)
        raise
    except Exception as error:  # also what the caller's generator raises
        if sending and accepted:  # a layer has raised behind it
            results, sending = results + accepted, []
        unknown = [*sending] if isinstance(error, PublishUnknown) else []
        with suppress(Exception):  # of the caller's generator; one error is enough
            sending += rest
        raise partly_published(error, results, sending, unknown) from error
    return results


def no_layers(send: SendCall) -> None:
    """Put no layer of middleware around ``send``: the calls pass through them on their way."""


def checked_signature(given: object) -> Signature:
    """Return an item of ``enqueue_many``.  Raises TypeError if it is no call."""
    if not isinstance(given, Signature):
        raise no_signature(given)
    return given


def no_signature(given: object) -> TypeError:
    """Make the error of an item of ``enqueue_many`` that is no call."""
    return TypeError(f"enqueue_many takes signatures such as task.s(…), not {given!r}")


def partly_published(
    error: Exception,
    accepted: list[Result[Any]],
    left: list[Signature],
    unknown: list[Signature],
) -> PartlyPublished:
    """Make the PartlyPublished: what was accepted, and what was not sent, for this error."""
    reason = str(error).partition("\n")[0]
    stop = PartlyPublished(
        f"{len(accepted):,} messages were accepted, {len(left):,} were not sent: {reason}",
        known={"unknown": f"the first {len(unknown):,} of these"} if unknown else None,
        advice=["the error has .accepted (results), .remaining and .unknown (signatures)"],
    )
    stop.accepted, stop.remaining, stop.unknown = accepted, left, unknown
    return stop
