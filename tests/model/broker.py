"""The model of what supervisors and people ask of the broker, in plain Python."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.model.scripts import Scripts
from tests.model.state import free_name
from tests.model.values import (
    FINAL,
    HOUR,
    Copy,
    Fields,
    Record,
    Stream,
    called,
    generation_of,
    queue_of,
    streams_of,
)

LOST = "streamq.errors.WorkerLost"
UNROUTABLE = "streamq.errors.Unroutable"
#: Fields that a retried dead letter loses.
NOTES = {"crashes", "refusals", "rejections", "retries", "eta", "stale", "generation"}
#: Scheduled messages of one id that revoking looks at.
LOOKED_AT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerExit:
    """The facts about a dead consumer that its recovery is given; ``running`` None: unknown."""

    consumer: str
    claim: str = ""
    expected: int | None = None
    blame: str = "sole_task"
    allowed: int = 3
    budget: int = 100
    running: tuple[str, ...] | None = ()
    #: The streams that it may have read, where they are known.
    streams: tuple[str, ...] = ()

    def argv(self, bounds: tuple[int, int]) -> list[str | int]:
        places = [part for place in self.running or () for part in place.split(" ")]
        count: str | int = "*" if self.running is None else len(self.running)
        clock = ("", 0) if self.expected is None else (self.expected, TOLERANCE)
        details = (self.consumer, self.claim, *clock, "it died", self.blame, self.allowed, HOUR)
        return [*details, *bounds, self.budget, count, *places, *self.streams]

    @property
    def kept(self) -> tuple[str, ...]:
        """The places that are still to be settled in its name."""
        return (self.running or ()) if self.blame == "kept" else ()


#: Milliseconds by which the clock may differ from what a recovering worker expects.
TOLERANCE = 5000


@dataclass(slots=True)
class Tally:
    """The counts of a recovery: moved, lost, dead-lettered, isolated; and whether any is left."""

    moved: int = 0
    lost: int = 0
    dead_lettered: int = 0
    isolated: int = 0
    left: int = 0

    def answer(self) -> list[int]:
        return [self.moved, self.lost, self.dead_lettered, self.isolated, self.left]


@dataclass(slots=True)
class RenewalAnswer:
    """What a supervisor hears when it renews its leases."""

    due: str
    fenced: list[str]
    terminating: int
    quarantine: list[str] = field(default_factory=list)


class Broker(Scripts):
    """The model of the whole broker."""

    # Recovery

    def recover(self, death: RunnerExit) -> list[int]:
        """Move what a dead consumer held, so many at a time; other workers fence it first."""
        jumped = death.expected is not None and abs(self.now - death.expected) > TOLERANCE
        deadline = self.leases.get(death.consumer, "none")
        stale = death.claim not in ("", str(deadline))
        if jumped or stale:
            return [0, 0, 0, 0, -1]
        if death.claim:
            self.end_lease(death.consumer)
        tally, budget = Tally(), death.budget
        self.report_lost(death, tally)
        every = (stream for queue in self.queues for stream in streams_of(queue))
        for stream in death.streams or tuple(every):
            found = self.streams.get(stream, Stream())
            held = [copy for copy in found.copies if copy.holder == death.consumer]
            for copy in held:
                if not budget:
                    tally.left = 1
                    return tally.answer()
                if f"{stream} {copy.entry}" not in death.kept:
                    self.move(death, stream, copy, tally)
                    budget -= 1
            if death.blame != "kept":
                found.consumers.discard(death.consumer)
        if death.blame != "kept":
            self.end_lease(death.consumer)
            self.sole_task.pop(death.consumer, None)
            self.settled.pop(death.consumer, None)
        return tally.answer()

    def end_lease(self, consumer: str) -> None:
        self.leases.pop(consumer, None)
        self.lease_ms.pop(consumer, None)

    def report_lost(self, death: RunnerExit, tally: Tally) -> None:
        """Fail or dead-letter what was acknowledged before its run, which cannot run again."""
        marks = self.marks.pop(death.consumer, {})
        if kept := {place: mark for place, mark in marks.items() if place in death.kept}:
            self.marks[death.consumer] = kept
        for mark in (mark for place, mark in marks.items() if place not in death.kept):
            queue, id = queue_of(mark.stream), mark.fields["id"]
            generation = generation_of(mark.fields)
            if mark.fields.get("ignore_result") == "1":
                lost = dict(mark.fields)
                self.dead_letter(queue, id, lost, "worker lost", death.consumer, "it died", True)
                tally.dead_lettered += 1
            else:
                self.fail(id, generation, death.consumer, queue)
                self.end(mark.fields)
                tally.lost += 1

    def fail(self, id: str, generation: str, consumer: str, queue: str) -> None:
        details = {"worker": consumer, "error_type": LOST, "error": "it died", "queue": queue}
        self.finish(id, generation, "FAILURE", HOUR, **details)

    def move(self, death: RunnerExit, stream: str, copy: Copy, tally: Tally) -> None:
        place, fields = f"{stream} {copy.entry}", dict(copy.fields)
        id, queue, generation = self.name_of(stream, copy), queue_of(stream), generation_of(fields)
        by_itself = place == self.sole_task.get(death.consumer)
        ran = by_itself or death.running is None or place in death.running
        charged = death.blame in ("sole_task", "suspected") and ran
        crashes = int(fields.get("crashes", 0)) + charged
        if charged:
            fields["crashes"] = str(crashes)
        too_often = crashes >= int(fields.get("max_deliveries", death.allowed))
        if self.own(id, generation).was_revoked:
            self.take(stream, copy)
            self.end(fields)
            details = {"worker": death.consumer, "reason": "revoked"}
            self.finish(id, generation, "REVOKED", HOUR, **details)
            tally.moved += 1
        elif not (charged and too_often):
            self.give_back(stream, copy, fields)
            tally.moved += 1
        elif death.blame == "sole_task" or by_itself:
            self.take(stream, copy)
            why = "crashed once" if crashes == 1 else f"crashed {crashes} times"
            self.dead_letter(queue, id, fields, why, death.consumer, "it died", True)
            if fields.get("ignore_result") != "1":
                self.fail(id, generation, death.consumer, queue)
            tally.dead_lettered += 1
        else:
            self.take(stream, copy)
            self.make_group(f"{queue}:quarantine")
            self.add(f"{queue}:quarantine", {**fields, "id": id})
            self.show_waiting(id, generation)
            self.quarantine.add(queue)
            tally.isolated += 1

    # Leases

    def renew(self, consumers: Sequence[str], lease: int) -> RenewalAnswer:
        fenced = [name for name in consumers if name not in self.leases]
        for name in consumers:
            if name in self.leases:
                self.leases[name] = self.now + lease
        self.terminating = {k: until for k, until in self.terminating.items() if until > self.now}
        self.quarantine = {
            queue
            for queue in self.quarantine
            if self.streams.get(f"{queue}:quarantine", Stream()).copies
        }
        due = min((due for due, _, _ in self.scheduled.values()), default="")
        waiting = {
            queue
            for queue in self.quarantine
            if any(not copy.holder for copy in self.streams[f"{queue}:quarantine"].copies)
        }
        return RenewalAnswer(str(due), fenced, len(self.terminating), sorted(waiting))

    def list_leases(self, every: int) -> set[str]:
        """The consumers that have no lease, and had none when they were looked at before."""
        if self.scanned:
            return set()
        self.scanned, orphans = True, set()
        for name in self.known() - self.leases.keys():
            first = self.orphans.setdefault(name, self.now)
            if self.now - first >= every:
                orphans.add(name)
        return orphans

    def known(self) -> set[str]:
        """Every consumer that a group of a declared queue knows."""
        streams = [
            self.streams.get(s, Stream()) for queue in self.queues for s in streams_of(queue)
        ]
        return {name for stream in streams for name in stream.consumers}

    # Scheduled messages

    def promote(self, limit: int) -> tuple[int, str]:
        """Move due messages to their queues, the first due first; so many at a time."""
        ready = sorted((due, name) for name, (due, _, _) in self.scheduled.items())
        ready = [(due, name) for due, name in ready if due <= self.now][:limit]
        for _, name in ready:
            _, stream, kept = self.scheduled.pop(name)
            self.move_to_queue(stream, {k: v for k, v in kept.items() if k != "scheduled_for"})
        return len(ready), str(min((due for due, _, _ in self.scheduled.values()), default=""))

    def move_to_queue(self, stream: str, fields: Fields) -> None:
        """Move a due message to its queue, unless it has expired or the queue is gone."""
        id, queue, generation = fields["id"], queue_of(stream), generation_of(fields)
        record = self.own(id, generation)
        kept = fields.get("ignore_result") != "1"
        if int(fields.get("expires", self.now + 1)) <= self.now:
            self.dead_letter(
                queue, id, fields, "expired", "", "it expired before it was due", False
            )
            if kept:
                self.finish(id, generation, "REVOKED", HOUR, reason="expired")
        elif queue not in self.queues:
            self.dead_letter(queue, id, fields, "queue gone", "", "its queue was deleted", True)
            if kept:
                error = f"the queue {queue} was deleted before the task was due"
                details = {"error_type": UNROUTABLE, "error": error}
                self.finish(id, generation, "FAILURE", HOUR, **details)
        else:
            level = stream.partition(":p")[2] or "0"
            front = "rejections" in fields and stream.endswith((":returned", ":quarantine"))
            self.add(stream if front else self.home_of(queue, {"priority": level}), fields)
            if front and stream.endswith(":quarantine"):
                self.quarantine.add(queue)
            if record.state == "SCHEDULED":
                record.fields["state"] = "QUEUED"
            if not record.ended:
                record.without("eta")

    # People

    def revoke(self, id: str, signal: str, term: int) -> str:
        """Revoke a task: what waits ends at once and never starts; what runs is not retried."""
        record = self.records.get(id, Record())
        if record.ended:
            return record.state
        waits = record.state in ("", "QUEUED", "RETRY", "SCHEDULED")
        last = int(record.generation) if record.state else self.last_number(id)
        first = last if record.state else 1
        meant = [called(id, str(number)) for number in range(first, last + 1)]
        later = self.drop_scheduled(id, first, record)
        was_it = later == 1 and record.state != "QUEUED" and (record.state or last == 1)
        if waits and not was_it:
            self.revoked = {k: until for k, until in self.revoked.items() if until > self.now}
            self.revoked |= dict.fromkeys(meant, self.now + HOUR)
        if record.state and waits:
            self.finish(id, record.generation, "REVOKED", HOUR, reason="revoked")
        elif record.state:
            record.fields["revoked"] = "1"
        if signal:
            self.terminating |= {f"{signal} {name}": self.now + term for name in meant}
        return record.state

    def drop_scheduled(self, id: str, first: int, record: Record) -> int:
        """Drop scheduled messages: of the last generation, or of all; return how many."""
        gone = 0
        for name in (called(id, str(number)) for number in range(first, first + LOOKED_AT)):
            _, _, fields = self.scheduled.get(name, (0, "", {}))
            if fields and (not record.state or generation_of(fields) == record.generation):
                self.end(self.scheduled.pop(name)[2])
                gone += 1
        return gone

    def purge(self, queue: str, limit: int) -> int:
        """End what no consumer has read yet as REVOKED; return how many."""
        waiting = [
            (name, copy)
            for name in streams_of(queue)
            for copy in self.streams.get(name, Stream()).copies
            if not copy.holder
        ][:limit]
        for name, copy in waiting:
            self.take(name, copy)
            self.end(copy.fields)
            if copy.fields.get("ignore_result") != "1":
                details = (self.name_of(name, copy), generation_of(copy.fields))
                self.finish(*details, "REVOKED", HOUR, reason="purged")
        return len(waiting)

    def delete_queue(self, name: str) -> int | str:
        if name not in self.queues:
            return -1
        if held := self.length(name):
            return f"NOTEMPTY {name} {held}"
        bound = [(exchange, pair) for exchange, pairs in self.bindings.items() for pair in pairs]
        gone = [(exchange, pair) for exchange, pair in bound if pair[0] == name]
        for exchange, pair in gone:
            self.bindings[exchange].discard(pair)
        for stream in streams_of(name):
            self.streams.pop(stream, None)
        del self.queues[name]
        return len(gone)

    def retry_dead(self, queue: str, letter: str) -> int | str:
        """Put a dead letter back into its queue, as a new generation of its task."""
        if letter not in self.dead.get(queue, {}):
            return 0
        if queue not in self.queues:
            return "NOQUEUE the queue is not declared"
        fields = self.dead[queue][letter][1]
        message = {k: v for k, v in fields.items() if not k.startswith("dead_") and k not in NOTES}
        passed = int(message.get("expires", self.now + 1)) <= self.now
        if passed:
            del message["expires"]
        id = message["id"]
        if state := self.unended(id)[0]:
            return f"INUSE {state}"
        record = self.records.get(id, Record())
        of_its_own = self.own(id, generation_of(fields))
        message["history"] = history_with(message, fields, of_its_own)
        keep = message.get("ignore_result") != "1"
        generation = self.next_generation([id])
        if generation != "1":
            message["generation"] = generation
        home = self.home_of(queue, message)
        self.make_group(home)
        self.drop_letter(queue, letter)
        self.ended[message["args"]] -= 1
        self.add(home, message)
        if keep and record.state in FINAL:
            self.uncount_copy(id)
        if keep or generation != "1":
            record = self.begin_generation(id, generation, keep)
        if keep:
            record.fields |= {"state": "QUEUED", "task": message["task"], "queue": queue}
            record.fields |= {"enqueued": str(self.now), "history": message["history"]}
            record.life = 0
        return 2 if passed else 1

    def uncount_copy(self, id: str) -> None:
        base = self.base_of(id)
        if base.fields:
            base.fields["ended"] = str(int(base.fields.get("ended", 0)) - 1)
            base.life = 0

    def delete_dead(self, queue: str, letter: str) -> int:
        if letter not in self.dead.get(queue, {}):
            return 0
        self.drop_letter(queue, letter)
        return 1

    def import_letter(self, queue: str, letter: str, fields: Fields) -> tuple[str, int]:
        """Keep a dead letter that was exported, once."""
        moment, at = fields["dead_at"], min(int(fields["dead_at"]), self.now)
        letters = self.dead.get(queue, {})
        if at <= self.now - self.life:
            return "expired", 0
        twins = [name for name in letters if name == letter or name.startswith(f"{letter}#")]
        history = self.records.get(fields["id"], Record()).fields.get("history", "")
        if any(letters[name][1]["dead_at"] == moment for name in twins):
            return "known", 0
        if f'{{"at":{moment},' in history:
            return "known", 0
        if len(letters) >= self.most and at <= min(at for at, _ in letters.values()):
            return "full", 0
        before = len(letters)
        self.keep_letter(queue, free_name(letter, letters), fields, at)
        return "kept", before + 1 - len(self.dead[queue])


def history_with(message: Fields, letter: Fields, record: Record) -> str:
    """The history of a dead letter: a line for each time that it was dead-lettered."""
    names = {"reason": "dead_reason", "error": "dead_error", "worker": "dead_worker"}
    details = {name: json.dumps(letter[field]) for name, field in names.items()}
    details["enqueued"] = record.fields.get("enqueued", letter.get("dead_enqueued", "null"))
    pairs = ",".join(f'"{name}":{value}' for name, value in details.items())
    line = f'{{"at":{letter["dead_at"]},{pairs}}}'
    return f"{message['history']}\n{line}" if "history" in message else line
