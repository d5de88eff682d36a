"""The commands of one consumer: read, start, settle, hand back.

Builds commands and decodes replies; when they are sent is decided by the runner.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from streamq.broker.followups import words_of
from streamq.broker.leases import OwnLease
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome, millis
from streamq.transport.connection import ANSWER_TIMEOUT, Connection
from streamq.transport.keys import GROUP, Keys
from streamq.transport.replies import Disconnected, Refused
from streamq.transport.scripts import Script, load

FOLLOW = load("follow")
SETTLE = load("settle")
CHECK_START = load("check_start")
MARK_STARTED = load("mark_started")
RELEASE = load("release")
REJECT = load("reject")

#: Bounds of one settlement: Redis serves no other client while its script runs.
MOST_SETTLED = 100
MOST_BYTES = 1 << 20
#: Revoked ids that a read fetches and compares; with more, Redis is asked about each message.
MOST_REVOKED = 100


#: Where a message is: the short name of its stream, and its entry.
Place = tuple[str, bytes]


class ConsumerFenced(Exception):
    """The consumer is fenced: without a lease it settles nothing; others have its messages."""


class Start:
    """Messages that are to be acknowledged before they run.

    ``mine`` is None until Redis has answered, then those that this consumer still held.
    """

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries = deliveries
        self.mine: list[Delivery] | None = None

    def answer(self, digits: str) -> None:
        """Apply the answer of settle.lua, of which the last digits are about these messages."""
        last = digits[-len(self.deliveries) :]
        if len(self.deliveries) == 1:
            self.mine = [*self.deliveries] if last == "1" else []
            return
        pairs = zip(self.deliveries, last, strict=True)
        self.mine = [delivery for delivery, digit in pairs if digit == "1"]


class Settlement:
    """A settlement: one numbered call about what has ended, and what is acknowledged early.

    It is sent again until it is answered.  Where a follow-up belongs to a message, the call is
    one of follow.lua, and starts nothing.
    """

    def __init__(
        self, number: int, outcomes: list[Outcome], start: Start | None, *, follows: bool
    ) -> None:
        assert start is None or not follows
        self.number = number
        self.start = start
        #: Whether one of the outcomes has a follow-up.
        self.follows = follows
        self.groups = {} if self.follows else by_origin(outcomes)
        #: The outcomes in the order of the answer.
        self.outcomes = list(chain(*self.groups.values())) if len(self.groups) > 1 else outcomes


class Consumer:
    """One consumer of the group of each queue it reads."""

    def __init__(
        self, connection: Connection, keys: Keys, name: str, *, dead: tuple[int, int]
    ) -> None:
        self.connection = connection
        self.keys = keys
        self.name = name
        self.dead = dead
        self.number = 0
        self.names: dict[bytes, str] = {}
        #: The key of a stream by its short name.
        self.key_of = cache(keys.queue)
        #: Reads the first revoked ids; sent behind each read.
        self.revoked_command = ("ZRANGE", keys.revoked, 0, MOST_REVOKED)
        self.own_lease = OwnLease(connection, keys, name)

    def register(self, lease: float) -> None:
        """Take a lease, in seconds, before the first read; again: check that it is still there.

        Raises ConsumerFenced if it is not: other workers have the messages, or Redis has lost its
        data with the lease.
        """
        try:
            self.own_lease.register(lease)
        except Refused as error:
            if error.code == "FENCED":
                raise ConsumerFenced(self.name) from error
            raise

    def has_lease(self) -> bool:
        """Whether this consumer has a lease, so that other workers take it to be alive."""
        return self.own_lease.is_held()

    # Reading

    def read_command(
        self, streams: Sequence[str], count: int, *, block: float | None = None, since: str = ">"
    ) -> tuple[Any, ...]:
        """The command that reads these streams; with ``since`` "0" what the consumer holds."""
        waiting = () if block is None else ("BLOCK", max(1, int(block * 1000)))
        return (
            *("XREADGROUP", "GROUP", GROUP, self.name, "COUNT", count, *waiting, "STREAMS"),
            *map(self.key_of, streams),
            *[since] * len(streams),
        )

    def deliveries(self, reply: Any) -> list[Delivery]:
        """The messages of a reply, in the order of its streams."""
        found = []
        for key, entries in reply or ():
            stream = self.names.get(key) or self.name_of(key)
            for entry, flat in entries:
                if flat is not None:
                    parts = iter(flat)
                    found.append(Delivery(stream, entry, dict(zip(parts, parts, strict=True))))
        return found

    def name_of(self, key: bytes) -> str:
        """The short name of a stream, such as ``default:p9``."""
        stream = key.decode().removeprefix(f"{self.keys.root}:queue:")
        self.names[key] = stream
        return stream

    def streams_of_wrong_type(self, streams: Sequence[str]) -> list[str]:
        """Those of these streams whose key has another type."""
        commands: list[tuple[Any, ...]] = [("TYPE", self.keys.queue(name)) for name in streams]
        kinds = self.perform(commands, ANSWER_TIMEOUT)
        for kind in kinds:
            if isinstance(kind, Exception):
                raise kind
        pairs = zip(streams, kinds, strict=True)
        return [name for name, kind in pairs if kind not in (b"stream", b"none")]

    # Settling

    def settlement(
        self, outcomes: list[Outcome], start: Start | None, *, follows: bool
    ) -> Settlement:
        """Number a call."""
        self.number += 1
        return Settlement(self.number, outcomes, start, follows=follows)

    def settle_command(self, settlement: Settlement) -> tuple[Any, ...]:
        """The call of ``follow.lua``, or of ``settle.lua`` where nothing follows."""
        if settlement.follows:
            number, outcomes = settlement.number, settlement.outcomes
            argv = settle_arguments(self.name, number, outcomes, self.dead)
            return FOLLOW.command(self.keys.root, *argv)
        starts = settlement.start.deliveries if settlement.start is not None else ()
        argv = [self.name, settlement.number]
        for (early, stream), outcomes in settlement.groups.items():
            argv += ("early" if early else "late", stream, len(outcomes))
            for outcome in outcomes:
                delivery, fields = outcome.delivery, outcome.fields
                state, expires = outcome.state, outcome.expires
                name = delivery.name if b"generation" in delivery.fields else delivery.id
                argv += (delivery.entry, name, state, expires, len(fields) // 2)
                argv += fields
        for delivery in starts:
            argv += ("start", delivery.stream, 1, delivery.entry, mark_of(delivery))
        return SETTLE.command(self.keys.root, *argv)

    # Starting and handing back

    def mark_started_command(self, deliveries: Iterable[Delivery]) -> tuple[Any, ...] | None:
        """The call of ``mark_started.lua``; None if no record of these says STARTED."""
        names = [delivery.name for delivery in deliveries if is_shown(delivery)]
        return MARK_STARTED.command(self.keys.root, self.name, *names) if names else None

    def sole_task_command(self, delivery: Delivery) -> tuple[Any, ...]:
        """The command that notes the sole task: this message runs with nothing beside it."""
        place = f"{delivery.stream} {delivery.entry.decode()}"
        return ("HSET", self.keys.started(self.name), "sole_task", place)

    def check_start_command(self, deliveries: Iterable[Delivery]) -> tuple[Any, ...]:
        """The call of ``check_start.lua``."""
        argv: list[Any] = []
        for each in deliveries:
            expires = each.expires
            argv += (each.name, each.base_name, "" if expires is None else expires)
        return CHECK_START.command(self.keys.root, *argv)

    def release_command(
        self, places: Iterable[Place], expires: bytes, ack: str = "late"
    ) -> tuple[Any, ...]:
        """The call of ``release.lua``; ``expires`` is for the records of what is revoked.

        ``ack`` says whether the messages were acknowledged ``early``.
        """
        argv = [part for place in places for part in (ack, *place)]
        return RELEASE.command(self.keys.root, self.name, expires, *argv)

    def reject_command(self, delivery: Delivery, expires: bytes) -> tuple[Any, ...]:
        """The call of ``reject.lua``; ``expires`` as for ``release_command``."""
        number, pause = delivery.rejections + 1, millis(delivery.rejection_pause)
        return REJECT.command(
            *(self.keys.root, self.name, expires, delivery.stream, delivery.entry, number, pause)
        )

    def held(self, streams: Sequence[str], most: int) -> list[Place]:
        """The places of these streams that this consumer holds, at most ``most`` of each."""
        asked = [held_command(self.key_of(stream), self.name, most) for stream in streams]
        return places_of(streams, self.perform(asked, ANSWER_TIMEOUT))

    def release(self, places: Sequence[Place], expires: bytes, ack: str = "late") -> int:
        """Hand back the messages of these places; return how many."""
        released = 0
        for start in range(0, len(places), MOST_SETTLED):
            command = self.release_command(places[start : start + MOST_SETTLED], expires, ack)
            reply = self.perform([command], ANSWER_TIMEOUT)[0]
            if isinstance(reply, Exception):
                raise reply
            released += reply
        return released

    # Answers

    def perform(
        self,
        commands: list[tuple[Any, ...]],
        timeout: float,
        last: Sequence[tuple[Any, ...]] = (),
    ) -> list[Any]:
        """Send commands in one packet; return their replies, errors in their places.

        Scripts that the server has forgotten are loaded, and their calls repeated.  The
        replies of ``last``, which may block, are left to be read.
        """
        self.connection.send([*commands, *last])
        replies = [self.connection.read(timeout, raising=False) for _ in commands]
        for place, reply in enumerate(replies):
            if isinstance(reply, Refused):
                if reply.code == "NOSCRIPT":
                    if last:
                        # The reply of ``last`` would come first: begin again on a new connection.
                        raise Disconnected("Redis has forgotten the scripts")
                    reply = replies[place] = self.load_and_repeat(commands[place], timeout)
                if isinstance(reply, Refused) and reply.code == "FENCED":
                    raise ConsumerFenced(self.name)
        return replies

    def load_and_repeat(self, command: tuple[Any, ...], timeout: float) -> Any:
        """Load a script that the server has forgotten and repeat its call; return the reply."""
        self.connection.ask("SCRIPT", "LOAD", SCRIPTS[command[1]].text)
        self.connection.send([command])
        return self.connection.read(timeout, raising=False)


SCRIPTS: dict[Any, Script] = {
    script.sha: script for script in (FOLLOW, SETTLE, CHECK_START, MARK_STARTED, RELEASE, REJECT)
}


def held_command(key: str, consumer: str, most: int, start: bytes = b"-") -> tuple[Any, ...]:
    """The command that reads what a consumer holds of a stream; see ``places_of``."""
    return ("XPENDING", key, GROUP, start, "+", most, consumer)


def places_of(streams: Sequence[str], replies: Sequence[Any]) -> list[Place]:
    """The places in the replies to ``held_command``; none of a stream that has an error."""
    answers = zip(streams, replies, strict=True)
    return [
        (stream, held[0])
        for stream, reply in answers
        if not isinstance(reply, Exception)
        for held in reply
    ]


def settle_arguments(
    consumer: str, number: int | str, outcomes: list[Outcome], dead: tuple[int, int]
) -> list[Any]:
    """The arguments of ``follow.lua``, in the name of a consumer."""
    argv: list[Any] = [consumer, number, *dead]
    for outcome in outcomes:
        delivery, words = outcome.delivery, words_of(outcome.then)
        argv += ("early" if delivery.early else "late", delivery.stream, delivery.entry)
        argv += (delivery.name, outcome.state, outcome.expires)
        argv += (len(outcome.fields) // 2, *outcome.fields)
        argv += (len(words), *words)
    return argv


def doubtful(deliveries: list[Delivery], revoked: list[bytes] | None) -> list[Delivery]:
    """Those of the messages that ``check_start.lua`` is asked about before they run.

    They may have expired, or are among the ``revoked``; all of them if that is None or more
    than MOST_REVOKED.
    """
    if revoked is None or len(revoked) > MOST_REVOKED:
        return deliveries
    marked = frozenset(revoked)
    return [
        each
        for each in deliveries
        if b"expires" in each.fields
        or b"stale" in each.fields
        or (marked and (each.name in marked or each.base_name in marked))
    ]


def is_shown(delivery: Delivery) -> bool:
    """Whether the record of a message says STARTED while it runs."""
    if not delivery.keep or delivery.policy is None:
        return False
    asked = delivery.fields.get(b"track_started")
    return delivery.policy.track_started if asked is None else asked == b"1"


def mark_of(delivery: Delivery) -> bytes:
    """The mark of a message that leaves its queue before it runs: its stream and fields.

    JSON in which each character is one byte, as Lua's cjson reads and writes it.
    """
    parts = list(chain.from_iterable(delivery.fields.items()))
    fields = b"\0".join(parts).decode("latin-1").split("\0")
    if len(fields) != len(parts):  # a field contains a zero byte
        fields = [part.decode("latin-1") for part in parts]
    if b"id" not in delivery.fields:
        fields += ["id", delivery.id.decode("latin-1")]
    mark = {"stream": delivery.stream.encode().decode("latin-1"), "fields": fields}
    data = msgspec.json.encode(mark)
    return data if data.isascii() else data.decode().encode("latin-1")


class StartedMark(msgspec.Struct):
    """The part of a mark that recovery needs: the message's fields, a character for each byte."""

    fields: list[str]


def fields_of_mark(mark: bytes) -> dict[bytes, bytes] | None:
    """The fields of a message, out of its mark; None if it is not one that streamq wrote."""
    try:
        flat = msgspec.json.decode(mark.decode("latin-1").encode(), type=StartedMark).fields
        parts = [part.encode("latin-1") for part in flat]
        return dict(zip(parts[::2], parts[1::2], strict=True))
    except (msgspec.DecodeError, ValueError):
        return None


def by_origin(outcomes: list[Outcome]) -> dict[tuple[bool, str], list[Outcome]]:
    """Group outcomes by how they are acknowledged and the stream they came from."""
    if len(outcomes) == 1:
        delivery = outcomes[0].delivery
        return {(delivery.early, delivery.stream): outcomes}
    groups: dict[tuple[bool, str], list[Outcome]] = {}
    for outcome in outcomes:
        delivery = outcome.delivery
        groups.setdefault((delivery.early, delivery.stream), []).append(outcome)
    return groups
