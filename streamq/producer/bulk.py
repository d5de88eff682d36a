"""Many calls in few round trips: while the server takes one chunk, the next is prepared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, Protocol

from streamq.broker.confirmation import Confirmation
from streamq.broker.publish_retry import Refusal
from streamq.broker.publisher import Lane, Load, Publisher, answers_of, full, plain
from streamq.core.message import Envelope, Publication
from streamq.errors import NotConfirmed, PartlyPublished, PublishUnknown
from streamq.host.clock import monotonic
from streamq.host.ids import new_ids
from streamq.producer.templates import Plans
from streamq.result import Result
from streamq.tasks import Signature

#: Messages, and bytes, that one call of the publish script carries at most.
CHUNK = 500
CHUNK_BYTES = 1 << 20


class Office(Protocol):
    """What the app does for each call."""

    plans: Plans

    def encoded(self, signature: Signature, envelope: Envelope) -> tuple[bytes, bytes]:
        """The call's arguments, checked and encoded."""

    def moment(self, envelope: Envelope, began: float) -> str | None:
        """When a signed message expires, if it does."""

    def publish(
        self,
        publications: list[Publication],
        signatures: Sequence[Signature],
        lane: Lane,
        *,
        began: float,
    ) -> list[str]:
        """Publish on this lane, declaring what is missing."""

    def confirmations(self, envelopes: Iterable[Envelope]) -> tuple[Confirmation, ...]:
        """What these calls need beyond the server's word."""

    def result_of(
        self, id: str, envelope: Envelope, signature: Signature, answer: str
    ) -> Result[Any]:
        """The Result of an accepted call."""


class Chunk:
    """Calls that are published together: all of them, or none."""

    def __init__(self) -> None:
        self.signatures: list[Signature] = []
        self.envelopes: list[Envelope] = []
        #: Id, args and kwargs of each message, one after the other.
        self.messages: list[Any] = []
        self.size = 0
        self.given = False
        #: The session of the connection that the ids were drawn for.
        self.session = ""

    @property
    def ids(self) -> list[str]:
        return self.messages[::3]

    @property
    def uniform(self) -> bool:
        """Whether all messages are plain and of one envelope, as the short way takes them."""
        first = self.envelopes[0]
        same = self.envelopes.count(first) == len(self.envelopes)
        return first.short and same and not self.given

    def draw_again(self, session: str) -> None:
        """Give the calls other ids: they are to be sent on another connection than was thought.

        Another process, or the copy of this machine, may have the same ones in hand.
        """
        fresh = new_ids(len(self.signatures))
        for at, signature in enumerate(self.signatures):
            if signature.options.get("task_id") is None:
                self.messages[3 * at] = fresh[at]
        self.session = session

    def publications(self, moment: Callable[[Envelope], str | None]) -> list[Publication]:
        """The messages for the long way; ``moment`` says when signed ones expire."""
        parts = iter(self.messages)
        moments = {envelope: moment(envelope) for envelope in dict.fromkeys(self.envelopes)}
        return [
            envelope.publication(
                id,
                args,
                kwargs,
                given=signature.options.get("task_id") is not None,
                expires=moments[envelope],
            )
            for envelope, signature, id, args, kwargs in zip(
                self.envelopes, self.signatures, parts, parts, parts, strict=True
            )
        ]


class Bulk:
    """One ``enqueue_many``: what is done, what is on its way, what is left."""

    def __init__(
        self, office: Office, publisher: Publisher, signatures: Iterable[Signature]
    ) -> None:
        self.office = office
        self.publisher = publisher
        self.rest: Iterator[Signature] = iter(signatures)
        self.results: list[Result[Any]] = []
        self.taken: list[Signature] = []
        self.flying: Chunk | None = None
        self.declined = 0

    def send(self) -> list[Result[Any]]:
        """Publish everything.

        Raises PartlyPublished when that is not possible, and NotConfirmed when a chunk was
        published and not confirmed.
        """
        try:
            with self.lent() as lane:
                while True:
                    try:
                        chunk = self.prepare(lane.connection.session)
                    except BaseException:  # whatever happened, the answer must be read
                        self.note(*self.land(lane))
                        raise
                    landed, answers = self.land(lane)
                    try:
                        if chunk is None:
                            return self.results
                        self.flying = chunk
                        confirm = self.office.confirmations(dict.fromkeys(chunk.envelopes))
                        self.publisher.begin(lane, partial(self.load, chunk), confirm)
                    finally:  # while the server is at work
                        self.note(landed, answers)
        except NotConfirmed as unmet:
            unmet.accepted, unmet.remaining = self.results, self.unsent()
            raise
        except Exception as error:  # also what the caller's generator raises
            raise self.stopped(error) from error

    @contextmanager
    def lent(self) -> Iterator[Lane]:
        """Borrow a lane for a block."""
        lane = self.publisher.borrow(monotonic())
        try:
            yield lane
        finally:
            self.publisher.lanes.give_back(lane)

    def prepare(self, session: str) -> Chunk | None:
        """Encode the next calls, with ids for this session; None when there are no more."""
        chunk = Chunk()
        chunk.session = session
        plans, encoded, fresh = self.office.plans, self.office.encoded, new_ids(CHUNK)
        before: Signature | None = None
        self.taken = chunk.signatures
        for signature in islice(self.rest, CHUNK):
            chunk.signatures.append(signature)
            if not isinstance(signature, Signature):
                raise TypeError(
                    f"enqueue_many takes signatures such as task.s(…), not {signature!r}"
                )
            if before is None or not plans.alike(signature, before):
                envelope, before = plans.envelope(signature), signature
            args, kwargs = encoded(signature, envelope)
            given = signature.options.get("task_id")
            if given is not None:
                chunk.given = True
            chunk.envelopes.append(envelope)
            chunk.messages += (given or fresh.pop(), args, kwargs)
            chunk.size += len(args) + len(kwargs)
            if chunk.size >= CHUNK_BYTES:
                break
        return chunk if chunk.envelopes else None

    def load(self, chunk: Chunk, session: str) -> Load:
        """What is sent for a chunk: the short way, where that is one and was not declined twice."""
        if session != chunk.session:
            chunk.draw_again(session)
        if chunk.uniform and self.declined < 2:
            return plain(chunk.envelopes[0], chunk.messages)
        return full(chunk.publications(partial(self.office.moment, began=monotonic())))

    def land(self, lane: Lane) -> tuple[Chunk, list[str]]:
        """Wait for the answer to the chunk that is on its way."""
        chunk = self.flying
        if chunk is None:
            return Chunk(), []
        try:
            answers = self.answers_to(chunk, lane)
        except NotConfirmed as unmet:
            self.flying = None
            unmet.unconfirmed = self.results_of(chunk, answers_of(unmet.answer))
            raise
        self.flying = None
        return chunk, answers

    def answers_to(self, chunk: Chunk, lane: Lane) -> list[str]:
        """The queues of each message of the chunk that is on its way."""
        began = monotonic() - lane.spent
        try:
            answer = self.publisher.end(lane)
        except Refusal as refused:
            if not refused.leads_nowhere:
                raise refused.error() from None
            answer = None
        if answer:
            return answers_of(answer)
        self.declined += answer is not None
        publications = chunk.publications(partial(self.office.moment, began=began))
        return self.office.publish(publications, chunk.signatures, lane, began=began)

    def note(self, chunk: Chunk, answers: list[str]) -> None:
        """Keep the results of calls that were accepted."""
        self.results += self.results_of(chunk, answers)

    def results_of(self, chunk: Chunk, answers: list[str]) -> list[Result[Any]]:
        """The results of a chunk; an answer that is alone is that of all."""
        each = answers * len(chunk.envelopes) if len(answers) == 1 else answers
        return list(map(self.office.result_of, chunk.ids, chunk.envelopes, chunk.signatures, each))

    def unsent(self) -> list[Signature]:
        """What was not sent, or not answered."""
        flying = self.flying.signatures if self.flying is not None else []
        left = [*flying, *(self.taken if self.taken is not flying else [])]
        with suppress(Exception):  # what the caller's generator raises now comes too late
            left += self.rest
        return left

    def stopped(self, error: Exception) -> PartlyPublished:
        """Say what was accepted and what was not sent."""
        chunk = self.flying if isinstance(error, PublishUnknown) else None
        unknown = chunk.signatures if chunk is not None else []
        left = self.unsent()
        reason = str(error).partition("\n")[0]
        stop = PartlyPublished(
            f"{len(self.results):,} messages were accepted, {len(left):,} were not sent: {reason}",
            known={"unknown": f"the first {len(unknown):,} of these"} if unknown else None,
            advice=["the error has .accepted (results), .remaining and .unknown (signatures)"],
        )
        stop.accepted, stop.remaining, stop.unknown = self.results, left, unknown
        return stop
