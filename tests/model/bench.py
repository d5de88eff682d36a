"""The scripts and the model side by side: every verb asks both, and compares everything."""

from collections.abc import Sequence
from typing import Any

from tests.model.broker import Broker, Death
from tests.model.checks import Checks
from tests.model.desk import Call, Ending
from tests.model.ledger import (
    HOUR,
    Copy,
    Fields,
    Mark,
    Token,
    called,
    generation_of,
    queue_of,
)
from tests.model.server import Server

START = 1_700_000_000_000
LEASE = 15_000
EVERY = 60_000


class Bench:
    """One broker, and everything that producers, workers and people do to it."""

    def __init__(self, server: Server, *, most: int = 100) -> None:
        self.server = server
        self.model = Broker(most=most, life=HOUR)
        self.bounds = (most, HOUR)
        #: Every token that a consumer ever held; the settlements that each has sent.
        self.tokens: dict[str, list[Token]] = {}
        self.early: dict[str, list[Token]] = {}
        self.numbers: dict[str, int] = {}
        self.last: dict[str, tuple[str, list[Any]]] = {}
        self.sent: dict[str, tuple[str, list[Any], Sequence[Call]]] = {}
        self.lane_numbers: dict[str, int] = {}
        self.checks = Checks()
        self.parcels: list[tuple[str, str, Fields]] = []
        self.published = 0
        #: Whether the scripts and the model agreed in the last step.
        self.sound = True
        server.empty()
        self.move_to(START)

    def same(self, answer: Any, expected: Any) -> Any:
        """Both have answered: the same, and Redis holds what the model does."""
        self.sound = False
        assert answer == expected, f"the scripts answered {answer!r}, the model {expected!r}"
        self.check()
        self.sound = True
        return expected

    # Time

    def move_to(self, now: int) -> None:
        self.model.now = now
        self.server.set_time(now)

    def advance(self, milliseconds: int) -> None:
        self.move_to(self.model.now + milliseconds)
        if milliseconds >= EVERY:  # what Redis would let go by itself
            self.server.client.delete(f"{self.server.keys.root}:survey")
            self.model.surveyed = False

    def window_passes(self, id: str) -> None:
        self.server.client.delete(self.server.keys.dedup(id))
        self.model.dedup.pop(id, None)
        self.check()

    def record_expires(self, id: str) -> None:
        assert self.model.records.pop(id).life
        self.server.client.delete(self.server.keys.task(id), self.server.keys.wish(id))
        self.check()

    # Topology

    def declare_queue(self, name: str, text: str, settings: Fields, key: str = "") -> None:
        """Declare a queue, bound to the exchange `fan`, and by a key to `dlx`."""
        answer = self.server.run("declare_queue", name, text)
        assert answer[0] == self.model.declare_queue(name, settings)
        for exchange, word in (("fan", ""), ("dlx", key or name)):
            if exchange in self.model.exchanges:
                self.server.run("bind", exchange, "queue", name, word)
                self.model.bind(exchange, name, word)
        self.check()

    def declare_exchange(self, name: str, type: str) -> None:
        self.server.run("declare_exchange", name, type, "")
        self.model.exchanges[name] = type

    def delete_queue(self, name: str) -> Any:
        return self.same(self.server.run("delete_queue", name), self.model.delete_queue(name))

    # Producers

    def message(self, key: str, **told: Any) -> Call:
        """A new message; its arguments are a number that no other has."""
        self.published += 1
        fields = {"task": "t", "args": str(self.published), **told.pop("fields", {})}
        if not told.get("keep", True):
            fields["ignore_result"] = "1"
        if told.get("priority"):
            fields["priority"] = str(told["priority"])
        return Call(key=key, fields=fields, **told)

    def send(self, *calls: Call, lane: str = "lane") -> Any:
        number = self.lane_numbers[lane] = self.lane_numbers.get(lane, 0) + 1
        argv = [part for call in calls for part in call.argv()]
        self.sent[lane] = ("publish", [lane, number, *argv], calls)
        expected = self.model.publish(lane, number, calls)
        return self.same(self.server.run("publish", lane, number, *argv), expected)

    def push(self, queue: str, *ids: str, keep: bool = True, lane: str = "lane") -> Any:
        number = self.lane_numbers[lane] = self.lane_numbers.get(lane, 0) + 1
        calls = [self.message(queue, id=id, keep=keep) for id in ids]
        shared = [] if keep else ["ignore_result", "1"]
        parts = [part for call in calls for part in (call.id, call.fields["args"], "{}")]
        argv = [lane, number, queue, int(keep), "t", len(shared) // 2, *shared, *parts]
        self.sent[lane] = ("push", argv, calls)
        for call in calls:
            call.fields["kwargs"] = "{}"
        expected = self.model.push(lane, number, queue, calls)
        answer = self.server.run("push", *argv)
        if answer and keep:
            for id in ids:  # this way tells the time by the entry that Redis has made
                enqueued = self.server.client.hget(self.server.keys.task(id), "enqueued")
                self.model.records[id].fields["enqueued"] = str(enqueued)
        return self.same(answer, expected)

    def send_again(self, lane: str = "lane", *, number: int | None = None) -> Any:
        """The same call once more, or under an older number."""
        script, argv, calls = self.sent[lane]
        number = number or argv[1]
        verb = self.model.push if script == "push" else self.model.publish
        place = ("mail",) if script == "push" else ()
        last, _, _ = self.model.lanes.get(lane, (0, "", []))
        if last < argv[1]:  # it was refused, so that this would be a new call
            return None
        expected = verb(lane, number, *place, calls)  # type: ignore[operator]
        return self.same(self.server.run(script, lane, number, *argv[2:]), expected)

    def send_from_a_copy(self, call: Call, lane: str = "lane") -> Any:
        """Another call under a name and number that are in use, as a copied machine has them."""
        number = self.lane_numbers[lane]
        expected = self.model.publish(lane, number, [call])
        return self.same(self.server.run("publish", lane, number, *call.argv()), expected)

    # Consumers

    def register(self, name: str) -> None:
        self.tokens[name], self.early[name], self.numbers[name] = [], [], 0
        self.model.register(name, LEASE)
        self.same(self.server.run("register", LEASE, name), self.model.now)

    def read(self, consumer: str, stream: str, count: int = 1) -> list[Token]:
        copies = self.model.read(consumer, stream, count)
        found = self.server.read(consumer, stream, count)
        expected = [(copy.entry, copy.fields) for copy in copies]
        self.same(found, expected)
        tokens = [
            Token(stream, copy.entry, self.model.name_of(stream, copy), generation_of(copy.fields))
            for copy in copies
        ]
        self.tokens[consumer] += tokens
        return tokens

    def held(self, consumer: str) -> list[Token]:
        """What this consumer holds and has not started early."""
        return [token for token in self.tokens[consumer] if self.model.found(token, consumer)]

    def marked(self, consumer: str) -> list[Token]:
        """What this consumer has acknowledged before its run."""
        marks = self.model.marks.get(consumer, {})
        return [token for token in self.early[consumer] if token.place in marks]

    def copy_of(self, token: Token) -> Copy:
        copy = self.model.found(token)
        assert copy is not None
        return copy

    def complete(self, consumer: str, *endings: Ending, starts: Sequence[Token] = ()) -> Any:
        """The short way: what has ended, and what is to start early."""
        marks = [(token, self.mark(token)) for token in starts]
        argv: list[Any] = [part for each in endings for part in each.argv(counted=True)]
        for token, mark in marks:
            argv += ("start", token.stream, 1, token.entry, mark.text())
        self.early[consumer] += starts
        return self.settlement("complete", consumer, argv, endings, marks)

    def mark(self, token: Token) -> Mark:
        copy = self.model.found(token)
        fields = copy.fields if copy else {"args": "0"}
        return Mark(token.stream, {**fields, "id": token.id})

    def settle(self, consumer: str, *endings: Ending) -> Any:
        """The long way: something follows."""
        argv = [part for each in endings for part in each.argv(counted=False)]
        return self.settlement("settle", consumer, [*self.bounds, *argv], endings, ())

    def settlement(
        self,
        script: str,
        consumer: str,
        argv: list[Any],
        endings: Sequence[Ending],
        marks: Sequence[tuple[Token, Mark]],
    ) -> Any:
        self.numbers[consumer] += 1
        number = str(self.numbers[consumer])
        self.last[consumer] = (script, [consumer, number, *argv])
        expected = self.model.settle(consumer, number, endings, marks)
        return self.same(self.server.run(script, consumer, number, *argv), expected)

    def settle_again(self, consumer: str) -> Any:
        """The answer was lost: the same call once more."""
        script, argv = self.last[consumer]
        if consumer in self.model.leases and consumer not in self.model.settled:
            return None
        expected = self.model.settle(consumer, argv[1], ())
        return self.same(self.server.run(script, *argv), expected)

    def release(self, consumer: str, *tokens: Token, early: bool = False) -> Any:
        ack = "early" if early else "late"
        flat = [part for token in tokens for part in (ack, token.stream, token.entry)]
        release = self.model.release_early if early else self.model.release
        expected = release(consumer, tokens)
        return self.same(self.server.run("release", consumer, HOUR, *flat), expected)

    def reject(self, consumer: str, token: Token, rejections: int, pause: int) -> Any:
        expected = self.model.reject(consumer, token, rejections, pause)
        argv = (consumer, HOUR, token.stream, token.entry, rejections, pause)
        return self.same(self.server.run("reject", *argv), expected)

    def show_started(self, consumer: str, *tokens: Token) -> Any:
        names = [token.name for token in tokens]
        expected = self.model.show_started(consumer, tokens)
        return self.same(self.server.run("show_started", consumer, *names), expected)

    def progress(self, consumer: str, name: str) -> Any:
        expected = self.model.progress(consumer, name, "HALFWAY", "{}")
        answer = self.server.run("progress", consumer, name, "HALFWAY", "{}", "")
        return self.same(answer, expected)

    def screen(self, *tokens: Token) -> Any:
        told = []
        for token in tokens:
            fields = self.copy_of(token).fields
            moments = [fields[name] for name in ("expires", "stale") if name in fields]
            base, _, queue = token.id.rpartition("@")
            base = base if queue == queue_of(token.stream) and "deaths" not in fields else ""
            base = called(base, token.generation) if base else ""
            told.append((token.name, base, min(moments, default="")))
        flat = [part for each in told for part in each]
        return self.same(self.server.run("screen", *flat), self.model.screen(told))

    def note_alone(self, consumer: str, token: Token) -> None:
        """What a runner of suspects says before it starts one."""
        self.server.client.hset(self.server.keys.started(consumer), "alone", token.place)
        self.model.alone[consumer] = token.place
        self.check()

    # Supervisors

    def recover(self, death: Death) -> Any:
        """In the order in which Redis names queues and marks: a long hash has no other."""
        order = self.server.client.hkeys(self.server.keys.queues)
        self.model.queues = {name: self.model.queues[name] for name in order}
        if marks := self.model.marks.get(death.consumer):
            order = self.server.client.hkeys(self.server.keys.started(death.consumer))
            self.model.marks[death.consumer] = {p: marks[p] for p in order if p in marks}
        answer = self.server.run("recover", *death.argv(self.bounds))
        return self.same(answer, self.model.recover(death))

    def renew(self, *consumers: str) -> None:
        now, due, fenced, terminating, suspects = self.server.run(
            "renew", "node", LEASE, len(consumers), *consumers, "pid", "1"
        )
        expected = self.model.renew(consumers, LEASE)
        assert (now, due, fenced) == (self.model.now, expected.due, expected.fenced)
        self.same((terminating, sorted(suspects)), (expected.terminating, expected.suspects))

    def survey(self) -> set[str]:
        now, flat, orphans, _ = self.server.run("survey", EVERY)
        expected = self.model.survey(EVERY)
        leases = dict(zip(flat[::2], map(int, flat[1::2]), strict=True))
        assert (now, leases) == (self.model.now, self.model.leases)
        self.same(set(orphans), expected)
        return expected

    def promote(self, limit: int = 100) -> Any:
        answer = self.server.run("promote", limit, HOUR, *self.bounds)
        return self.same(answer, [*self.model.promote(limit), self.model.now, []])

    # People

    def revoke(self, id: str, signal: str = "") -> Any:
        answer = self.server.run("revoke", id, HOUR, HOUR, signal, EVERY)
        return self.same(answer, self.model.revoke(id, signal, EVERY))

    def purge(self, queue: str, limit: int = 100) -> Any:
        answer = self.server.run("purge", queue, limit, HOUR)
        return self.same(answer, self.model.purge(queue, limit))

    def revive(self, queue: str, letter: str) -> Any:
        answer = self.server.run("revive", queue, letter)
        return self.same(answer, self.model.revive(queue, letter))

    def discard(self, queue: str, letter: str) -> Any:
        """Delete a letter; somebody may have exported it before."""
        fields = self.model.dead.get(queue, {}).get(letter, (0, {}))[1]
        if fields:
            self.parcels.append((queue, letter, dict(fields)))
        answer = self.server.run("discard", queue, letter)
        return self.same(answer, self.model.discard(queue, letter))

    def import_letter(self, parcel: tuple[str, str, Fields]) -> Any:
        queue, letter, fields = parcel
        flat = [part for pair in fields.items() for part in pair]
        argv = (queue, letter, fields["dead_at"], *self.bounds, *flat)
        answer = self.server.run("import_letter", *argv)
        return self.same(answer, list(self.model.import_letter(queue, letter, dict(fields))))

    def await_(self, id: str, waiter: str) -> Any:
        flat = self.server.run("await", id, waiter)
        answer = dict(zip(flat[::2], flat[1::2], strict=True))
        return self.same(answer, self.model.await_(id, waiter))

    def forget(self, id: str) -> Any:
        return self.same(self.server.run("forget", id), self.model.forget(id))

    def check(self) -> None:
        """Redis holds what the model does, and what must hold, holds."""
        self.checks.check(self.model, self.server.look())
