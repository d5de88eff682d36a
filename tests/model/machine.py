"""The state machine: everything that can happen to the broker, in any order.

A rule only chooses what happens to which message or consumer; the bench does it, with the scripts
and with the model.  Hypothesis tries rules in the order of their names: a renamed rule changes the
examples by which `tests/controls/test_mutants.py` finds mutants.
"""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.model.bench import EVERY, LEASE
from tests.model.broker import TOLERANCE
from tests.model.chooser import HELD, RECORDS, WAITING, Chooser, during, when
from tests.model.ends import drain, ending, followed, waiting
from tests.model.values import HOUR, streams_of

PICK = st.integers(0, 40)
WAIT = st.sampled_from([0, 1, 1000, 5000, LEASE, EVERY])
FEW = st.sampled_from([1, 1, 2, 100])


class Machine(Chooser):
    """A new broker for each example."""

    @initialize(first=PICK, second=PICK)
    def begin(self, first: int, second: int) -> None:
        self.bench.declare_exchange("fan", "fanout")
        self.bench.declare_exchange("dlx", "direct")
        self.declare("mail", first)
        self.declare("post", second)
        self.bench.declare_queue("morgue", "{}", {}, "dead")
        self.another_consumer()
        self.another_consumer()
        for place in ("mail", "mail", "post", "mail"):
            self.arrive(place, True, first)

    # Topology and time

    @during("topology")
    @rule(name=st.sampled_from(["mail", "post"]), pick=PICK)
    def declare(self, name: str, pick: int) -> None:
        settings = self.one(self.profile.settings, pick)
        text = json.dumps(settings, separators=(",", ":"))
        self.bench.declare_queue(name, text, settings)

    @during("topology")
    @rule(name=st.sampled_from(["mail", "post", "morgue"]))
    def delete_queue(self, name: str) -> None:
        self.bench.delete_queue(name)

    @rule(wait=WAIT)
    def advance(self, wait: int) -> None:
        self.bench.advance(wait)

    @during("jumps")
    @rule(by=st.sampled_from([HOUR, -HOUR, 3000]))
    def jump(self, by: int) -> None:
        self.bench.move_to(self.model.now + by)

    # Producers

    @rule(
        queue=st.sampled_from(["mail", "mail", "post"]),
        count=st.integers(1, 2),
        keep=st.sampled_from([True, True, False]),
    )
    def push(self, queue: str, count: int, keep: bool) -> None:
        ids = [f"t{self.bench.published + n}" for n in range(count)]
        self.bench.publish_plain(queue, *ids, keep=keep, channel="pushes")

    @rule(
        place=st.sampled_from([("", "mail"), ("", "mail"), ("", "post"), ("fan", "")]),
        identity=st.sampled_from(["own", "own", "chosen", "none"]),
        keep=st.sampled_from([True, True, False]),
        priority=st.sampled_from([0, 0, 1, 9]),
        due=st.sampled_from([None, None, 0, 1000, 5000]),
        expires=st.sampled_from([None, None, None, 1000, 5000]),
        patience=st.sampled_from([None, None, "1"]),
        pick=PICK,
    )
    def publish(self, place: Any, identity: str, keep: bool, pick: int, **options: Any) -> None:
        id = {"own": f"t{self.bench.published}", "chosen": f"u{pick % 2}", "none": ""}[identity]
        keep = keep and identity != "none"
        if options.get("due") is not None and not id:
            options["due"] = None
        patience = options.pop("patience")
        fields = {} if patience is None else {"max_deliveries": patience}
        window = (60_000, "none")[pick // 2 % 2] if identity == "chosen" else 0
        exchange, key = place
        options |= {
            "exchange": exchange,
            "id": id,
            "window": window,
            "keep": keep,
            "fields": fields,
        }
        self.bench.send(
            *[self.bench.message(key, **options) for _ in range(1 + (pick % 2 if window else 0))]
        )

    @rule(
        place=st.sampled_from([("", "mail"), ("", "mail"), ("fan", "")]),
        keep=st.sampled_from([True, True, True, False]),
        due=st.sampled_from([None, None, 1000]),
        pick=PICK,
        who=PICK,
    )
    def use_again(self, place: Any, keep: bool, due: int | None, pick: int, who: int) -> None:
        """Use an id again that was used before, when it has ended; a consumer reads it."""
        exchange, key = place
        options = {"exchange": exchange, "id": f"u{pick % 2}", "window": "none", "keep": keep}
        self.bench.send(self.bench.message(key, due=due, **options))
        if living := self.one(self.model.leases, who):
            streams = [name for name, s in self.model.streams.items() if s.group and waiting(s)]
            if name := self.one([s for s in streams if not s.endswith(":quarantine")], pick // 2):
                self.bench.read(living, name, 2)

    @rule(
        queue=st.sampled_from(["mail", "mail", "post"]),
        keep=st.sampled_from([True, True, False]),
        who=PICK,
    )
    def arrive(self, queue: str, keep: bool, who: int) -> None:
        """Send a plain message; a consumer reads it at once."""
        answer = self.bench.send(
            self.bench.message(queue, id=f"t{self.bench.published}", keep=keep)
        )
        if isinstance(answer, list) and (living := self.one(self.model.leases, who)):
            name = queue if waiting(self.model.streams[queue]) else f"{queue}:returned"
            self.bench.read(living, name, 2)

    @precondition(lambda self: self.bench.sent)
    @rule(pick=PICK, older=st.sampled_from([False, False, True]))
    def publish_again(self, pick: int, older: bool) -> None:
        channel = self.one(self.bench.sent, pick)
        number = self.bench.channel_numbers[channel] - 1
        self.bench.send_again(channel, number=number if older and number else None)

    @precondition(lambda self: self.bench.sent)
    @rule(pick=PICK)
    def publish_from_a_copy(self, pick: int) -> None:
        channel = self.one(self.bench.sent, pick)
        if (
            self.bench.model.channels.get(channel, (0, "", []))[0]
            == self.bench.channel_numbers[channel]
        ):
            self.bench.send_from_a_copy(self.bench.message("mail", id="copied"), channel)

    @when(lambda self: self.model.dedup)
    @rule(pick=PICK)
    def window_passes(self, pick: int) -> None:
        self.bench.window_passes(self.one(self.model.dedup, pick))

    # Consumers

    @precondition(lambda self: len(self.model.leases) < 3)
    @rule()
    def another_consumer(self) -> None:
        self.consumers.append(f"c{len(self.consumers)}")
        self.bench.register(self.consumers[-1])

    @WAITING
    @rule(who=PICK, queue=st.sampled_from(["mail", "mail", "post", "morgue"]), pick=PICK, count=FEW)
    def read(self, who: int, queue: str, pick: int, count: int) -> None:
        """Read from one of the streams of a queue in which anything waits."""
        names = [name for name in streams_of(queue) if not name.endswith(":quarantine")]
        streams = [(name, self.model.streams[name]) for name in names if name in self.model.streams]
        if name := self.one([name for name, stream in streams if waiting(stream)], pick):
            self.bench.read(self.consumer(who), name, count)

    @when(lambda self: self.model.quarantine)
    @rule(who=PICK, queue=st.sampled_from(["mail", "post"]), noted=st.booleans())
    def read_suspect(self, who: int, queue: str, noted: bool) -> None:
        """Read a quarantined message, which may be recorded as the sole task of its runner."""
        stream = self.model.streams.get(f"{queue}:quarantine")
        if stream is None or not waiting(stream):
            return
        consumer = self.consumer(who)
        if consumer in self.model.leases and not self.bench.held(consumer):
            (token,) = self.bench.read(consumer, f"{queue}:quarantine", 1)
            if noted:
                self.bench.note_sole_task(consumer, token)

    @HELD
    @rule(
        who=PICK,
        pick=PICK,
        state=st.sampled_from(["SUCCESS", "SUCCESS", "FAILURE", "left", "unkept"]),
        early=st.booleans(),
    )
    def complete(self, who: int, pick: int, state: str, early: bool) -> None:
        consumer = self.one(self.busy(), who)
        tokens = self.bench.marked(consumer) if early else self.bench.held(consumer)
        outcomes = [ending(token, state, early) for token in self.some(tokens, pick)]
        if outcomes:
            self.bench.settle(consumer, *outcomes)

    @HELD
    @rule(who=PICK, pick=PICK, also_ended=st.booleans())
    def start_early(self, who: int, pick: int, also_ended: bool) -> None:
        consumer = self.one(self.busy(), who)
        marked = self.bench.marked(consumer)[:1] if also_ended else []
        if (token := self.one(self.bench.held(consumer), pick)) is not None:
            outcomes = [ending(each, "SUCCESS", True) for each in marked]
            self.bench.settle(consumer, *outcomes, starts=[token])

    @HELD
    @rule(
        who=PICK,
        pick=PICK,
        follow=st.sampled_from(
            [
                ("dead_letter", "rejected", "no"),
                ("dead_letter", "rejected", "no"),
                ("expire", "expired", "it expired"),
                ("later", "+0", "", "retries", "1"),
                ("later", "+0", "", "retries", "2", "priority", "1"),
                ("later", "+1000", "", "retries", "1", "expires", "+5000"),
                ("later", "+5000", "post", "retries", "1"),
                ("later", "+0", "", "refusals", "1"),
                ("revoked",),
                (),
            ]
        ),
        early=st.booleans(),
    )
    def settle(self, who: int, pick: int, follow: tuple[str, ...], early: bool) -> None:
        consumer = self.one(self.busy(), who)
        tokens = self.bench.marked(consumer) if early else self.bench.held(consumer)
        outcomes = [followed(token, follow, early) for token in self.some(tokens, pick)]
        if outcomes:
            self.bench.follow(consumer, *outcomes)

    @when(lambda self: self.model.settled)
    @rule(who=PICK)
    def settle_again(self, who: int) -> None:
        self.bench.settle_again(self.one(self.model.settled, who))

    @precondition(lambda self: self.model.leases.keys() != set(self.consumers))
    @rule(
        who=PICK,
        pick=PICK,
        act=st.sampled_from(["complete", "settle", "release", "reject", "show", "own"]),
    )
    def zombie(self, who: int, pick: int, act: str) -> None:
        """A consumer that was recovered goes on with a token that it once held."""
        dead = [name for name in self.consumers if name not in self.model.leases]
        consumer = self.one(dead, who)
        tokens = self.bench.tokens[consumer]
        if (token := self.one(tokens, pick)) is None:
            return
        if act == "complete":
            self.bench.settle(consumer, ending(token, "SUCCESS", bool(pick % 2)))
        elif act == "settle":
            self.bench.follow(consumer, followed(token, ("later", "+0", ""), bool(pick % 2)))
        elif act == "release":
            self.bench.release(consumer, token, early=bool(pick % 2))
        elif act == "reject":
            self.bench.reject(consumer, token, 1, pick)
        elif act == "show":
            self.bench.mark_started(consumer, token)
        elif not self.model.found(token):  # it has taken a new name, with the buffer of the old
            living = self.one(sorted(self.model.leases), who)
            if living is not None:
                self.bench.settle(living, ending(token, "SUCCESS", False))

    @HELD
    @rule(who=PICK, pick=PICK, early=st.booleans())
    def release(self, who: int, pick: int, early: bool) -> None:
        consumer = self.one(self.busy(), who)
        held = self.bench.marked(consumer) if early else self.bench.held(consumer)
        if tokens := self.some(held, pick):
            self.bench.release(consumer, *tokens, early=early)

    @HELD
    @rule(who=PICK, pick=PICK, rejections=FEW, pause=st.sampled_from([0, 1000]))
    def reject(self, who: int, pick: int, rejections: int, pause: int) -> None:
        consumer = self.one(self.busy(), who)
        if tokens := self.bench.held(consumer):
            self.bench.reject(consumer, self.one(tokens, pick), rejections, pause)

    @HELD
    @rule(who=PICK, pick=PICK)
    def mark_started(self, who: int, pick: int) -> None:
        consumer = self.one(self.busy(), who)
        shown = [token for token in self.holding(consumer) if token.id in self.model.records]
        if shown:
            self.bench.mark_started(consumer, self.one(shown, pick))

    @HELD
    @rule(who=PICK, pick=PICK)
    def progress(self, who: int, pick: int) -> None:
        names = [token.name for name in self.busy() for token in self.holding(name)]
        self.bench.update_state(self.consumer(who), self.one([*names, *self.ids()], pick))

    @HELD
    @rule(who=PICK)
    def screen(self, who: int) -> None:
        if tokens := self.bench.held(self.one(self.busy(), who)):
            self.bench.check_start(*tokens)

    # Supervisors

    @when(lambda self: self.model.scheduled)
    @rule(limit=FEW)
    def promote(self, limit: int) -> None:
        self.bench.promote(limit)

    @rule()
    def renew(self) -> None:
        self.bench.renew(*self.consumers[-3:])

    @rule()
    def survey(self) -> None:
        """Recover the consumers that have been without a lease for long."""
        for orphan in sorted(self.bench.list_leases()):
            self.bench.recover(self.death(orphan, claim="none", blame="none", running=None))

    @HELD
    @rule(
        who=PICK, pick=PICK, blame=st.sampled_from(["crash", "crash", "none", "kept"]), budget=FEW
    )
    def recover(self, who: int, pick: int, blame: str, budget: int) -> None:
        """Recover a runner whose supervisor knows what it was running."""
        consumer = self.one(self.busy(), who)
        running = tuple(token.place for token in self.holding(consumer)[: pick % 3])
        if blame == "crash":
            blame = "sole_task" if len(running) == 1 else "suspected"
        known = self.model.streams.items() if pick % 2 else ()
        streams = tuple(name for name, stream in known if consumer in stream.consumers)
        details = {"blame": blame, "running": running, "streams": streams}
        self.bench.recover(self.death(consumer, budget=budget, **details))

    @rule(
        who=PICK,
        off=st.sampled_from([0, 0, 0, TOLERANCE, HOUR, -HOUR]),
        claim=st.sampled_from(["right", "right", "stale", "none"]),
        budget=FEW,
    )
    def take_over(self, who: int, off: int, claim: str, budget: int) -> None:
        """Take over a consumer that another worker believes to be dead."""
        consumer = self.consumer(who)
        deadline = self.model.leases.get(consumer, "none")
        stale = str((self.model.leases.get(consumer) or self.model.now) - 1)
        said = {"right": str(deadline), "stale": stale, "none": "none"}[claim]
        blame = "none" if said == deadline == "none" else "suspected"
        details = {"expected": self.model.now + off, "blame": blame}
        death = self.death(consumer, claim=said, running=None, budget=budget, **details)
        self.bench.recover(death)

    # People

    @rule(pick=PICK, signal=st.sampled_from(["", "SIGTERM"]))
    def revoke(self, pick: int, signal: str) -> None:
        self.bench.revoke(self.one(self.ids(), pick), signal)

    @WAITING
    @during("people")
    @rule(queue=st.sampled_from(["mail", "post"]), limit=FEW)
    def purge(self, queue: str, limit: int) -> None:
        self.bench.purge(queue, limit)

    @when(lambda self: self.model.dead)
    @rule(pick=PICK, act=st.sampled_from(["revive", "revive", "discard"]))
    def decide(self, pick: int, act: str) -> None:
        """Retry or delete a dead letter."""
        letters = [(queue, name) for queue, found in self.model.dead.items() for name in found]
        verb = self.bench.retry_dead if act == "revive" else self.bench.delete_dead
        verb(*self.one(sorted(letters), pick))

    @when(lambda self: self.bench.exported)
    @rule(pick=PICK)
    def import_letter(self, pick: int) -> None:
        self.bench.import_letter(self.one(self.bench.exported, pick))

    @rule(pick=PICK, waiter=st.sampled_from(["w0", "w1"]))
    def await_(self, pick: int, waiter: str) -> None:
        self.bench.await_result(self.one(self.ids(), pick), waiter)

    @RECORDS
    @during("people")
    @rule(pick=PICK, asked=st.booleans())
    def record_goes(self, pick: int, asked: bool) -> None:
        """Forget a record, or let it expire."""
        ended = [id for id, record in self.model.records.items() if record.life]
        if asked:
            self.bench.forget_result(self.one(self.ids(), pick))
        elif (id := self.one(ended, pick)) is not None:
            self.bench.record_expires(id)

    # The end

    def teardown(self) -> None:
        if self.bench.sound:
            drain(self.bench, self.consumers)
