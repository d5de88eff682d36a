"""Many calls in few round trips: while the server takes one chunk, the next is prepared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from streamq.errors import PartlyPublished
from streamq.message import Envelope, Publication, new_ids
from streamq.result import Result
from streamq.store.publisher import Lane, Publisher, Refusal
from streamq.tasks import Signature

#: Messages, and bytes, that one call of the publish script carries at most.
CHUNK = 500
CHUNK_BYTES = 1 << 20


class Office(Protocol):
    """What the app does for each call."""

    def envelope(self, signature: Signature) -> Envelope:
        """Where the call goes, and what it says besides its arguments."""

    def encoded(self, signature: Signature, envelope: Envelope) -> tuple[bytes, bytes]:
        """The call's arguments, checked and encoded."""

    def publish(
        self, publications: list[Publication], signatures: Sequence[Signature]
    ) -> list[str]:
        """Publish, declaring what is missing."""

    def result_of(
        self, id: str, envelope: Envelope, signature: Signature, answer: str
    ) -> Result[Any]:
        """The Result of an accepted call."""


@dataclass(slots=True)
class Chunk:
    """Calls that are published together: all of them, or none."""

    signatures: list[Signature] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    publications: list[Publication] = field(default_factory=list)


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

    def send(self) -> list[Result[Any]]:
        """Publish everything.  Raises PartlyPublished when that is not possible."""
        try:
            with self.publisher.lanes.lent() as lane:
                while True:
                    try:
                        chunk = self.prepare()
                    finally:  # whatever happened, the answer on its way must be read
                        self.land(lane)
                    if chunk is None:
                        return self.results
                    self.flying = chunk
                    self.publisher.begin(lane, chunk.publications)
        except Exception as error:  # also what the caller's generator raises
            raise self.stopped(error) from error

    def prepare(self) -> Chunk | None:
        """Encode the next calls; None when there are no more."""
        chunk, size = Chunk(), 0
        office, fresh = self.office, new_ids(CHUNK)
        self.taken = chunk.signatures
        for signature in islice(self.rest, CHUNK):
            chunk.signatures.append(signature)
            if not isinstance(signature, Signature):
                raise TypeError(
                    f"enqueue_many takes signatures such as task.s(…), not {signature!r}"
                )
            envelope = office.envelope(signature)
            args, kwargs = office.encoded(signature, envelope)
            given = signature.options.get("task_id")
            id = given or fresh.pop()
            chunk.envelopes.append(envelope)
            chunk.ids.append(id)
            chunk.publications.append(
                envelope.publication(id, args, kwargs, given=given is not None)
            )
            size += len(args) + len(kwargs)
            if size >= CHUNK_BYTES:
                break
        return chunk if chunk.ids else None

    def land(self, lane: Lane) -> None:
        """Wait for the answer to the chunk that is on its way."""
        chunk = self.flying
        if chunk is None:
            return
        try:
            answers = self.publisher.end(lane, chunk.publications)
        except Refusal as refused:
            if not refused.leads_nowhere:
                raise refused.error() from None
            answers = self.office.publish(chunk.publications, chunk.signatures)
        self.flying = None
        self.results += map(
            self.office.result_of, chunk.ids, chunk.envelopes, chunk.signatures, answers
        )

    def stopped(self, error: Exception) -> PartlyPublished:
        """Say what was accepted and what was not sent."""
        flying = self.flying.signatures if self.flying is not None else []
        left = [*flying, *(self.taken if self.taken is not flying else []), *self.rest]
        reason = str(error).partition("\n")[0]
        stop = PartlyPublished(
            f"{len(self.results):,} messages were accepted, {len(left):,} were not sent: {reason}",
            advice=["the error has .accepted (results) and .remaining (signatures)"],
        )
        stop.accepted, stop.remaining = self.results, left
        return stop
