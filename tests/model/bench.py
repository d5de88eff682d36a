"""The test bench: every verb runs a script and its model, and compares answers and contents."""

from collections.abc import Sequence
from typing import Any

from tests.model.broker import Broker, RunnerExit
from tests.model.calls import Call, Ending
from tests.model.checks import Checks
from tests.model.server import Server
from tests.model.values import HOUR, Copy, Fields, Mark, Token, called, generation_of, queue_of

START = 1_700_000_000_000
LEASE = 15_000
EVERY = 60_000


class Bench:
    """A broker and its model, with one method for each thing that clients do to it."""

    def __init__(self, server: Server, *, most: int = 100) -> None:
        self.server = server
        self.model = Broker(most=most, life=HOUR)
        self.bounds = (most, HOUR)
        #: Every token that a consumer ever held; those that it started early; its settlements.
        self.tokens: dict[str, list[Token]] = {}
        self.early: dict[str, list[Token]] = {}
        self.numbers: dict[str, int] = {}
        self.last: dict[str, tuple[str, list[Any]]] = {}
        self.sent: dict[str, tuple[str, list[Any], Sequence[Call]]] = {}
        self.channel_numbers: dict[str, int] = {}
        self.checks = Checks()
        self.exported: list[tuple[str, str, Fields]] = []
        self.published = 0
        #: Whether the scripts and the model agreed in the last step.
        self.sound = True
        server.empty()
        self.move_to(START)

    def same(self, answer: Any, expected: Any) -> Any:
        """Check that both answers are equal, and that Redis holds what the model does."""
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
        if milliseconds >= EVERY:  # Redis would expire this key by itself
            self.server.client.delete(f"{self.server.keys.root}:group_scan")
            self.model.scanned = False

    def window_passes(self, id: str) -> None:
        self.server.client.delete(self.server.keys.dedup(id))
        self.model.dedup.pop(id, None)
        self.check()

    def record_expires(self, id: str) -> None:
        assert self.model.records.pop(id).life
        self.server.client.delete(self.server.keys.task(id), self.server.keys.early_waiters(id))
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

    def message(self, key: str, **options: Any) -> Call:
        """A new message; its arguments are a number that no other has."""
        self.published += 1
        fields = {"task": "t", "args": str(self.published), **options.pop("fields", {})}
        if not options.get("keep", True):
            fields["ignore_result"] = "1"
        if options.get("priority"):
            fields["priority"] = str(options["priority"])
        return Call(key=key, fields=fields, **options)

    def send(self, *calls: Call, channel: str = "channel") -> Any:
        number = self.channel_numbers[channel] = self.channel_numbers.get(channel, 0) + 1
        argv = [part for call in calls for part in call.argv()]
        self.sent[channel] = ("publish", [channel, number, *argv], calls)
        expected = self.model.publish(channel, number, calls)
        return self.same(self.server.run("publish", channel, number, *argv), expected)

    def publish_plain(
        self, queue: str, *ids: str, keep: bool = True, channel: str = "channel"
    ) -> Any:
        number = self.channel_numbers[channel] = self.channel_numbers.get(channel, 0) + 1
        calls = [self.message(queue, id=id, keep=keep) for id in ids]
        shared = [] if keep else ["ignore_result", "1"]
        parts = [part for call in calls for part in (call.id, call.fields["args"], "{}")]
        argv = [channel, number, queue, int(keep), "t", len(shared) // 2, *shared, *parts]
        self.sent[channel] = ("publish_plain", argv, calls)
        for call in calls:
            call.fields["kwargs"] = "{}"
        expected = self.model.publish_plain(channel, number, queue, calls)
        answer = self.server.run("publish_plain", *argv)
        if answer and keep:
            for id in ids:  # this script takes the time from the entry that Redis has made
                enqueued = self.server.client.hget(self.server.keys.task(id), "enqueued")
                self.model.records[id].fields["enqueued"] = str(enqueued)
        return self.same(answer, expected)

    def send_again(self, channel: str = "channel", *, number: int | None = None) -> Any:
        """Send the same call once more, or under an older number."""
        script, argv, calls = self.sent[channel]
        number = number or argv[1]
        verb = self.model.publish_plain if script == "publish_plain" else self.model.publish
        place = ("mail",) if script == "publish_plain" else ()
        last, _, _ = self.model.channels.get(channel, (0, "", []))
        if last < argv[1]:  # it was refused, so that this would be a new call
            return None
        expected = verb(channel, number, *place, calls)  # type: ignore[operator]
        return self.same(self.server.run(script, channel, number, *argv[2:]), expected)

    def send_from_a_copy(self, call: Call, channel: str = "channel") -> Any:
        """Send another call under a channel and number in use, as a copy of a machine would."""
        number = self.channel_numbers[channel]
        expected = self.model.publish(channel, number, [call])
        return self.same(self.server.run("publish", channel, number, *call.argv()), expected)

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
        """The tokens that this consumer holds and has not started early."""
        return [token for token in self.tokens[consumer] if self.model.found(token, consumer)]

    def marked(self, consumer: str) -> list[Token]:
        """The tokens that this consumer has acknowledged before their run."""
        marks = self.model.marks.get(consumer, {})
        return [token for token in self.early[consumer] if token.place in marks]

    def copy_of(self, token: Token) -> Copy:
        copy = self.model.found(token)
        assert copy is not None
        return copy

    def settle(self, consumer: str, *outcomes: Ending, starts: Sequence[Token] = ()) -> Any:
        """Run settle.lua: outcomes that nothing follows, and messages that start early."""
        marks = [(token, self.mark(token)) for token in starts]
        argv: list[Any] = [part for each in outcomes for part in each.argv(counted=True)]
        for token, mark in marks:
            argv += ("start", token.stream, 1, token.entry, mark.text())
        self.early[consumer] += starts
        return self.settlement("settle", consumer, argv, outcomes, marks)

    def mark(self, token: Token) -> Mark:
        copy = self.model.found(token)
        fields = copy.fields if copy else {"args": "0"}
        return Mark(token.stream, {**fields, "id": token.id})

    def follow(self, consumer: str, *outcomes: Ending) -> Any:
        """Run follow.lua: outcomes that something follows."""
        argv = [part for each in outcomes for part in each.argv(counted=False)]
        return self.settlement("follow", consumer, [*self.bounds, *argv], outcomes, ())

    def settlement(
        self,
        script: str,
        consumer: str,
        argv: list[Any],
        outcomes: Sequence[Ending],
        marks: Sequence[tuple[Token, Mark]],
    ) -> Any:
        self.numbers[consumer] += 1
        number = str(self.numbers[consumer])
        self.last[consumer] = (script, [consumer, number, *argv])
        expected = self.model.settle(consumer, number, outcomes, marks)
        return self.same(self.server.run(script, consumer, number, *argv), expected)

    def settle_again(self, consumer: str) -> Any:
        """Send the last settlement once more, as after a lost answer."""
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

    def mark_started(self, consumer: str, *tokens: Token) -> Any:
        names = [token.name for token in tokens]
        expected = self.model.mark_started(consumer, tokens)
        return self.same(self.server.run("mark_started", consumer, *names), expected)

    def update_state(self, consumer: str, name: str) -> Any:
        expected = self.model.update_state(consumer, name, "HALFWAY", "{}")
        answer = self.server.run("update_state", consumer, name, "HALFWAY", "{}", "")
        return self.same(answer, expected)

    def check_start(self, *tokens: Token) -> Any:
        asked = []
        for token in tokens:
            fields = self.copy_of(token).fields
            moments = [fields[name] for name in ("expires", "stale") if name in fields]
            base, _, queue = token.id.rpartition("@")
            base = base if queue == queue_of(token.stream) and "deaths" not in fields else ""
            base = called(base, token.generation) if base else ""
            asked.append((token.name, base, min(moments, default="")))
        flat = [part for each in asked for part in each]
        return self.same(self.server.run("check_start", *flat), self.model.check_start(asked))

    def note_sole_task(self, consumer: str, token: Token) -> None:
        """Record the sole task of a runner, as it does before it starts a quarantined message."""
        self.server.client.hset(self.server.keys.started(consumer), "sole_task", token.place)
        self.model.sole_task[consumer] = token.place
        self.check()

    # Supervisors

    def recover(self, death: RunnerExit) -> Any:
        """Recover a consumer, in the order in which Redis lists queues and marks.

        A large hash has no order of its own, so the model takes that of Redis.
        """
        order = self.server.client.hkeys(self.server.keys.queues)
        self.model.queues = {name: self.model.queues[name] for name in order}
        if marks := self.model.marks.get(death.consumer):
            order = self.server.client.hkeys(self.server.keys.started(death.consumer))
            self.model.marks[death.consumer] = {p: marks[p] for p in order if p in marks}
        answer = self.server.run("recover", *death.argv(self.bounds))
        return self.same(answer, self.model.recover(death))

    def renew(self, *consumers: str) -> None:
        now, due, fenced, terminating, quarantine, *_ = self.server.run(
            "renew", "node", LEASE, len(consumers), *consumers, "pid", "1"
        )
        expected = self.model.renew(consumers, LEASE)
        assert (now, due, fenced) == (self.model.now, expected.due, expected.fenced)
        self.same((terminating, sorted(quarantine)), (expected.terminating, expected.quarantine))

    def list_leases(self) -> set[str]:
        now, flat, orphans, _ = self.server.run("list_leases", EVERY)
        expected = self.model.list_leases(EVERY)
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

    def retry_dead(self, queue: str, letter: str) -> Any:
        answer = self.server.run("retry_dead", queue, letter)
        return self.same(answer, self.model.retry_dead(queue, letter))

    def delete_dead(self, queue: str, letter: str) -> Any:
        """Delete a dead letter, of which a copy is kept as exported."""
        fields = self.model.dead.get(queue, {}).get(letter, (0, {}))[1]
        if fields:
            self.exported.append((queue, letter, dict(fields)))
        answer = self.server.run("delete_dead", queue, letter)
        return self.same(answer, self.model.delete_dead(queue, letter))

    def import_letter(self, exported: tuple[str, str, Fields]) -> Any:
        queue, letter, fields = exported
        flat = [part for pair in fields.items() for part in pair]
        argv = (queue, letter, fields["dead_at"], *self.bounds, *flat)
        answer = self.server.run("import_letter", *argv)
        return self.same(answer, list(self.model.import_letter(queue, letter, dict(fields))))

    def await_result(self, id: str, waiter: str) -> Any:
        flat = self.server.run("await_result", id, waiter)
        answer = dict(zip(flat[::2], flat[1::2], strict=True))
        return self.same(answer, self.model.await_result(id, waiter))

    def forget_result(self, id: str) -> Any:
        return self.same(self.server.run("forget_result", id), self.model.forget_result(id))

    def check(self) -> None:
        """Check that Redis holds what the model does, and the invariants."""
        self.checks.check(self.model, self.server.look())
