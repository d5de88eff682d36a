"""One consumer's words to Redis: read, start, settle, hand back.

Makes commands and understands answers; when they are sent is decided elsewhere.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome, millis
from streamq.errors import BrokerUnavailable
from streamq.transport.connection import ANSWER_TIMEOUT, Connection
from streamq.transport.keys import GROUP, Keys
from streamq.transport.replies import Disconnected, Refused
from streamq.transport.scripts import Script, load

SETTLE = load("settle")
COMPLETE = load("complete")
SCREEN = load("screen")
SHOW_STARTED = load("show_started")
RELEASE = load("release")
REJECT = load("reject")
REGISTER = load("register")

#: A settlement is one script, during which Redis serves nobody else.
MOST_SETTLED = 100
MOST_BYTES = 1 << 20
#: Revoked ids that a read compares by itself; with more, Redis is asked about each message.
MOST_REVOKED = 100


#: Where a message is: the short name of its stream, and its entry.
Place = tuple[str, bytes]


class Fenced(Exception):
    """This consumer was declared dead: others have its messages, and it settles nothing."""


class Start:
    """Messages that are to be acknowledged before they run.

    ``mine`` is None until Redis has answered, then those of them that are still ours.
    """

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries = deliveries
        self.mine: list[Delivery] | None = None

    def answer(self, digits: str) -> None:
        """Take the answer, of which the last digits are about these messages."""
        last = digits[-len(self.deliveries) :]
        if len(self.deliveries) == 1:
            self.mine = [*self.deliveries] if last == "1" else []
            return
        pairs = zip(self.deliveries, last, strict=True)
        self.mine = [delivery for delivery, digit in pairs if digit == "1"]


class Settlement:
    """One numbered call: what has ended, and what is acknowledged before it starts.

    It is sent again until it is answered.  Where something follows a message, the call takes
    the long way, and starts nothing.
    """

    def __init__(
        self, number: int, outcomes: list[Outcome], start: Start | None, *, follows: bool
    ) -> None:
        assert start is None or not follows
        self.number = number
        self.start = start
        #: Whether anything is to be published with one of the outcomes.
        self.follows = follows
        self.groups = {} if self.follows else by_origin(outcomes)
        #: What has ended, in the order in which it is answered.
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
        #: The key of a stream.
        self.key_of = cache(keys.queue)
        #: Asks what is revoked, as far as that is not too much; sent behind each read.
        self.revoked_command = ("ZRANGE", keys.revoked, 0, MOST_REVOKED)
        #: Whether we have a lease, or may have had one: an answer that was lost may say so.
        self.registered = False

    def register(self, lease: float) -> None:
        """Take a lease, in seconds, before the first read.

        Afterwards this only makes sure that it is still ours.  Raises Fenced if it is not:
        others have what we held, or Redis has lost its data, and us with it.
        """
        again, self.registered = self.registered, True
        try:
            argv = (int(lease * 1000), self.name, int(again))
            self.connection.call(REGISTER, self.keys.root, *argv)
        except BrokerUnavailable as error:
            self.registered = again or (isinstance(error, Disconnected) and error.sent)
            raise
        except Refused as error:
            self.registered = again
            if error.code == "FENCED":
                raise Fenced(self.name) from error
            raise

    def has_lease(self) -> bool:
        """Whether this consumer still counts as living."""
        return self.connection.ask("ZSCORE", self.keys.leases, self.name) is not None

    # Reading

    def read_command(
        self, streams: Sequence[str], count: int, *, block: float | None = None, since: str = ">"
    ) -> tuple[Any, ...]:
        """Read from these streams; ``since`` "0" reads again what this consumer holds."""
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

    def foreign(self, streams: Sequence[str]) -> list[str]:
        """Those of these streams whose key holds something else."""
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
        """Give a call its number."""
        self.number += 1
        return Settlement(self.number, outcomes, start, follows=follows)

    def settle_command(self, settlement: Settlement) -> tuple[Any, ...]:
        """The call of ``settle.lua``, or of ``complete.lua`` where nothing follows."""
        if settlement.follows:
            number, outcomes = settlement.number, settlement.outcomes
            argv = settle_arguments(self.name, number, outcomes, self.dead)
            return SETTLE.command(self.keys.root, *argv)
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
        return COMPLETE.command(self.keys.root, *argv)

    # Starting and handing back

    def show_started_command(self, deliveries: Iterable[Delivery]) -> tuple[Any, ...] | None:
        """The call of ``show_started.lua``; None if none of these is to be shown."""
        names = [delivery.name for delivery in deliveries if is_shown(delivery)]
        return SHOW_STARTED.command(self.keys.root, self.name, *names) if names else None

    def alone_command(self, delivery: Delivery) -> tuple[Any, ...]:
        """Note that this message runs with nothing beside it."""
        place = f"{delivery.stream} {delivery.entry.decode()}"
        return ("HSET", self.keys.started(self.name), "alone", place)

    def screen_command(self, deliveries: Iterable[Delivery]) -> tuple[Any, ...]:
        """The call of ``screen.lua``."""
        told: list[Any] = []
        for each in deliveries:
            expires = each.expires
            told += (each.name, each.base_name, "" if expires is None else expires)
        return SCREEN.command(self.keys.root, *told)

    def release_command(
        self, places: Iterable[Place], expires: bytes, ack: str = "late"
    ) -> tuple[Any, ...]:
        """The call of ``release.lua``; ``expires`` is for the records of what is revoked.

        ``ack`` says whether the messages were acknowledged ``early``.
        """
        told = [part for place in places for part in (ack, *place)]
        return RELEASE.command(self.keys.root, self.name, expires, *told)

    def reject_command(self, delivery: Delivery, expires: bytes) -> tuple[Any, ...]:
        """The call of ``reject.lua``; ``expires`` as above."""
        number, pause = delivery.rejections + 1, millis(delivery.rejected_for)
        return REJECT.command(
            *(self.keys.root, self.name, expires, delivery.stream, delivery.entry, number, pause)
        )

    def held(self, streams: Sequence[str], most: int) -> list[Place]:
        """What Redis says that this consumer holds, up to so many messages of each stream."""
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
                        # Its answer would stand before ours: begin again on a new connection.
                        raise Disconnected("Redis has forgotten the scripts")
                    reply = replies[place] = self.once_more(commands[place], timeout)
                if isinstance(reply, Refused) and reply.code == "FENCED":
                    raise Fenced(self.name)
        return replies

    def once_more(self, command: tuple[Any, ...], timeout: float) -> Any:
        """Repeat the call of a script that the server has forgotten; return its reply."""
        self.connection.ask("SCRIPT", "LOAD", SCRIPTS[command[1]].text)
        self.connection.send([command])
        return self.connection.read(timeout, raising=False)


SCRIPTS: dict[Any, Script] = {
    script.sha: script for script in (SETTLE, COMPLETE, SCREEN, SHOW_STARTED, RELEASE, REJECT)
}


def held_command(key: str, consumer: str, most: int, start: bytes = b"-") -> tuple[Any, ...]:
    """Ask what a consumer holds of a stream; ``places_of`` reads the answers."""
    return ("XPENDING", key, GROUP, start, "+", most, consumer)


def places_of(streams: Sequence[str], replies: Sequence[Any]) -> list[Place]:
    """The places that are held in these streams; nothing of one that could not be asked."""
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
    """What ``settle.lua`` is given, in the name of a consumer."""
    argv: list[Any] = [consumer, number, *dead]
    for outcome in outcomes:
        delivery = outcome.delivery
        argv += ("early" if delivery.early else "late", delivery.stream, delivery.entry)
        argv += (delivery.name, outcome.state, outcome.expires)
        argv += (len(outcome.fields) // 2, *outcome.fields)
        argv += (len(outcome.follow), *outcome.follow)
    return argv


def doubtful(deliveries: list[Delivery], revoked: list[bytes] | None) -> list[Delivery]:
    """Those about which Redis is asked whether they may run.

    They may have expired, or are among the ``revoked``; all of them if that is None or more
    than can be compared here.
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
    if not delivery.keep or delivery.manner is None:
        return False
    asked = delivery.fields.get(b"track_started")
    return delivery.manner.track_started if asked is None else asked == b"1"


def mark_of(delivery: Delivery) -> bytes:
    """What is kept of a message that leaves its queue before it runs.

    JSON in which every byte stands for itself, as Lua's cjson reads and writes it.
    """
    parts = list(chain.from_iterable(delivery.fields.items()))
    fields = b"\0".join(parts).decode("latin-1").split("\0")
    if len(fields) != len(parts):  # somebody has written such a byte
        fields = [part.decode("latin-1") for part in parts]
    if b"id" not in delivery.fields:
        fields += ["id", delivery.id.decode("latin-1")]
    mark = {"stream": delivery.stream.encode().decode("latin-1"), "fields": fields}
    data = msgspec.json.encode(mark)
    return data if data.isascii() else data.decode().encode("latin-1")


class Mark(msgspec.Struct):
    """What recovery needs of it: the message's fields, a character for each byte."""

    fields: list[str]


def fields_of_mark(mark: bytes) -> dict[bytes, bytes] | None:
    """The fields of a message, out of its mark; None if somebody else has written that."""
    try:
        flat = msgspec.json.decode(mark.decode("latin-1").encode(), type=Mark).fields
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
