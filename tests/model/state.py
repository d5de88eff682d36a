"""The state of the model broker: messages, records and leases, and how tasks end.

The model does what the scripts promise, written for clarity instead of speed.  Times are
milliseconds; all text is as Redis keeps it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.model.values import (
    ENDING,
    FINAL,
    MOST_DEATHS,
    Copy,
    Fields,
    Mark,
    Record,
    Stream,
    Token,
    called,
    generation_of,
    queue_of,
    serial_of,
)


class State:
    """The state of the broker: every place of a message, the records of tasks, their waiters."""

    def __init__(self, *, most: int, life: int) -> None:
        #: How many dead letters a queue keeps, and for how many milliseconds.
        self.most, self.life = most, life
        self.now = 0
        self.queues: dict[str, dict[str, Any]] = {}
        self.exchanges: dict[str, str] = {"": ""}
        self.bindings: dict[str, set[tuple[str, str]]] = {}
        self.streams: dict[str, Stream] = {}
        self.scheduled: dict[str, tuple[int, str, Fields]] = {}
        self.dead: dict[str, dict[str, tuple[int, Fields]]] = {}
        self.records: dict[str, Record] = {}
        self.replies: dict[str, list[tuple[str, str]]] = {}
        self.leases: dict[str, int] = {}
        self.lease_ms: dict[str, str] = {}
        self.marks: dict[str, dict[str, Mark]] = {}
        self.sole_task: dict[str, str] = {}
        self.settled: dict[str, tuple[str, str]] = {}
        #: Number and first id of the last call, and its answers.
        self.channels: dict[str, tuple[int, str, list[str]]] = {}
        self.dedup: dict[str, str] = {}
        self.numbers: dict[str, str] = {}
        self.revoked: dict[str, int] = {}
        self.terminating: dict[str, int] = {}
        self.quarantine: set[str] = set()
        self.orphans: dict[str, int] = {}
        self.scanned = False
        #: How many copies of each message were accepted, and how many have ended.
        self.accepted: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    # Places of messages

    def add(self, stream: str, fields: Fields) -> None:
        """Append a copy to a stream."""
        self.streams.setdefault(stream, Stream()).copies.append(Copy(dict(fields)))

    def make_group(self, stream: str) -> None:
        self.streams.setdefault(stream, Stream()).group = True

    def found(self, token: Token, holder: str = "") -> Copy | None:
        """The copy of a token, while any consumer (or the given one) holds it."""
        for copy in self.streams.get(token.stream, Stream()).copies:
            if copy.entry == token.entry and (copy.holder == holder if holder else copy.holder):
                return copy
        return None

    def take(self, stream: str, copy: Copy) -> None:
        """Acknowledge and delete."""
        self.streams[stream].copies.remove(copy)

    def name_of(self, stream: str, copy: Copy) -> str:
        return copy.fields.get("id") or f"{queue_of(stream)}-{copy.entry}"

    def home_of(self, queue: str, fields: Fields) -> str:
        """The stream of a queue that a message of its priority belongs to."""
        highest = self.queues.get(queue, {}).get("max_priority", 0)
        level = min(int(fields.get("priority", 0)), highest)
        return f"{queue}:p{level}" if level else queue

    def give_back(self, stream: str, copy: Copy, fields: Fields) -> None:
        """Move a copy to the front of its queue; a quarantined one stays in quarantine."""
        id, queue = self.name_of(stream, copy), queue_of(stream)
        quarantined = stream.endswith(":quarantine")
        self.add(f"{queue}:{'quarantine' if quarantined else 'returned'}", {**fields, "id": id})
        if quarantined:
            self.quarantine.add(queue)
        self.take(stream, copy)
        self.show_waiting(id, generation_of(fields))

    def schedule(self, stream: str, id: str, fields: Fields, due: int) -> None:
        """Keep a message until it is due, under the next free name of its id."""
        number = int(generation_of(fields))
        while (name := called(id, str(number))) in self.scheduled:
            number += 1
        self.scheduled[name] = (due, stream, {**fields, "id": id, "scheduled_for": stream})

    # Records

    def own(self, id: str, generation: str) -> Record:
        """The record of this generation; an empty one if there is none, or one of another."""
        record = self.records.get(id, Record())
        return record if record.state and record.generation == generation else Record()

    def is_another(self, id: str, generation: str) -> bool:
        """Whether the record of the id is of another generation."""
        record = self.records.get(id, Record())
        return bool(record.state) and record.generation != generation

    def last_number(self, id: str) -> int:
        """The last generation of an id without a record."""
        return int(self.numbers.get(id, "1"))

    def next_generation(self, ids: Sequence[str]) -> str:
        """The next generation: after that of the record, or the first that is not revoked."""
        records = {id: self.records.get(id, Record()) for id in ids}
        number = max(
            int(record.generation) + 1 if record.state else self.last_number(id)
            for id, record in records.items()
        )
        while any(called(id, str(number)) in self.revoked for id in ids):
            number += 1
        return str(number)

    def begin_generation(self, id: str, generation: str, keep: bool) -> Record:
        """Begin a generation: the record keeps only the history of the one before."""
        record = self.records.setdefault(id, Record()) if keep else self.records.get(id, Record())
        if generation == "1":
            return record
        record.without(*ENDING)
        if keep:
            record.fields["generation"] = generation
            return record
        self.numbers[id] = generation
        if record.state:
            del self.records[id]
        return Record()

    def unended(self, id: str) -> tuple[str, str]:
        """The state of a task that has not ended, and the queues that have it."""
        record = self.records.get(id, Record())
        copies = record.fields.get("copies", "")
        all_ended = copies and int(record.fields.get("ended", 0)) > copies.count(":")
        if record.ended or all_ended:
            return "", ""
        return record.state, copies or record.fields.get("queue", "")

    def show_waiting(self, id: str, generation: str) -> None:
        record = self.own(id, generation)
        if not record.ended and record.state not in ("", "QUEUED"):
            record.fields["state"] = "QUEUED"
            record.without("started", "worker", "meta", "meta_content_type")

    def finish(self, id: str, generation: str, state: str, life: int, **details: str) -> bool:
        """End a task: its record is written once, and its waiters are notified once."""
        another = self.is_another(id, generation)
        record = Record() if another else self.records.setdefault(id, Record())
        if another or record.state == "REVOKED":
            self.revoked.pop(called(id, generation), None)
        if another or record.state in FINAL:
            return False
        if generation != "1":
            record.fields["generation"] = generation
        if "retries" in record.fields:
            record.without("error", "error_type", "error_args", "traceback", "eta")
        record.fields |= {"state": state, "finished": str(self.now), **details}
        record.life = life
        self.notify_waiters(record, id, state)
        self.count_copy(id, life)
        return True

    def end_without_state(self, id: str, generation: str, life: int, worker: str) -> None:
        """End a task whose result is ignored: its record gets no state."""
        record, another = self.own(id, generation), self.is_another(id, generation)
        if record.state and not record.ended:
            record.fields |= {"worker": worker, "finished": str(self.now)}
            record.life = life
            self.notify_waiters(record, id, record.state)
        elif record.state == "REVOKED" or another:
            self.revoked.pop(called(id, generation), None)
            return
        if not another and record.state not in FINAL:
            self.count_copy(id, life)

    def base_of(self, id: str) -> Record:
        """The record of the fan-out that a task is a copy of; an empty one if it is none."""
        base_id, _, queue = id.rpartition("@")
        base = self.records.get(base_id, Record())
        return base if queue in base.fields.get("copies", "").split(":") else Record()

    def count_copy(self, id: str, life: int) -> None:
        base = self.base_of(id)
        if base.fields:
            ended = int(base.fields.get("ended", 0)) + 1
            base.fields["ended"] = str(ended)
            if ended > base.fields["copies"].count(":"):
                base.life = life or base.life

    def notify_waiters(self, record: Record, id: str, state: str) -> None:
        for waiter in record.waiters:
            self.replies.setdefault(waiter, []).append((id, state))
        record.waiters = []

    # Dead letters

    def dead_letter(
        self, queue: str, id: str, fields: Fields, reason: str, worker: str, error: str, kept: bool
    ) -> None:
        """Publish to the dead-letter exchange of the queue, else keep as a dead letter."""
        settings = self.queues.get(queue, {})
        exchange = settings.get("dead_letter_exchange")
        key = settings.get("dead_letter_routing_key", fields.get("routing_key", queue))
        copies = [] if exchange is None else self.pass_on(queue, id, fields, reason, exchange, key)
        self.end(fields)
        if copies:
            record = self.own(id, generation_of(fields))
            if record.state:
                record.fields["dead_lettered_to"] = ":".join(copies)
        elif kept:
            self.add_dead_letter(queue, id, fields, reason, worker, error)

    def pass_on(
        self, queue: str, id: str, fields: Fields, reason: str, exchange: str, key: str
    ) -> list[str]:
        deaths = int(fields.get("deaths", 0)) + 1
        queues = self.route(exchange, key) if deaths <= MOST_DEATHS else []
        for name in queues:
            gone = {"crashes", "retries", "expires", "eta", "refusals", "rejections", "stale"}
            gone |= {"id", "generation"}
            copy = {name: value for name, value in fields.items() if name not in gone}
            copy |= {"id": f"{id}@{name}", "exchange": exchange, "routing_key": key}
            copy |= {"deaths": str(deaths), "death_queue": queue, "death_reason": reason}
            keep = fields.get("ignore_result") != "1"
            generation = self.next_generation([copy["id"]])
            if generation != "1":
                copy["generation"] = generation
            self.accept(copy)
            self.add(self.home_of(name, copy), copy)
            if keep or generation != "1":
                record = self.begin_generation(copy["id"], generation, keep)
            if keep:
                record.fields |= {"state": "QUEUED", "task": fields["task"], "queue": name}
                record.fields["enqueued"] = str(self.now)
                record.life = 0
        return queues

    def route(self, exchange: str, key: str) -> list[str]:
        """The queues that a message goes to; fan-outs look at no key."""
        if exchange == "":
            return [key] if key in self.queues else []
        fans = self.exchanges[exchange] == "fanout"
        return sorted({q for q, bound in self.bindings.get(exchange, ()) if fans or bound == key})

    def add_dead_letter(
        self, queue: str, id: str, fields: Fields, reason: str, worker: str, error: str
    ) -> None:
        name = free_name(id, self.dead.get(queue, {}))
        letter = {**fields, "id": id, "dead_reason": reason, "dead_error": error}
        letter |= {"dead_worker": worker, "dead_at": str(self.now)}
        record = self.own(id, generation_of(fields))
        if "enqueued" in record.fields:
            letter["dead_enqueued"] = record.fields["enqueued"]
        self.keep_letter(queue, name, letter, self.now)

    def keep_letter(self, queue: str, name: str, fields: Fields, at: int) -> None:
        """Keep a dead letter; those that are too old or too many are dropped."""
        self.ended[serial_of(fields)] -= 1
        letters = self.dead.setdefault(queue, {})
        letters[name] = (at, fields)
        for old in [name for name, (at, _) in letters.items() if at <= self.now - self.life]:
            self.drop_letter(queue, old)
        ages = sorted((at, name) for name, (at, _) in letters.items())
        for _, old in ages[: max(0, len(letters) - self.most)]:
            self.drop_letter(queue, old)

    def drop_letter(self, queue: str, name: str) -> Fields:
        letters = self.dead[queue]
        _, fields = letters.pop(name)
        self.end(fields)
        if not letters:
            del self.dead[queue]
        return fields

    # Accounting: each accepted message is somewhere, or has ended

    def accept(self, fields: Fields) -> None:
        self.accepted[serial_of(fields)] += 1

    def end(self, fields: Fields) -> None:
        self.ended[serial_of(fields)] += 1

    def present(self) -> Counter[str]:
        """All messages in any place, counted by number."""
        found = [copy.fields for stream in self.streams.values() for copy in stream.copies]
        found += [mark.fields for marks in self.marks.values() for mark in marks.values()]
        found += [fields for _, _, fields in self.scheduled.values()]
        found += [fields for letters in self.dead.values() for _, fields in letters.values()]
        return Counter(map(serial_of, found))

    def balance(self) -> dict[str, int]:
        """The messages that were accepted and are missing (> 0), or in excess (< 0)."""
        missing = Counter(self.accepted)
        missing.subtract(self.present())
        missing.subtract(self.ended)
        return {serial: count for serial, count in missing.items() if count}


def free_name(id: str, taken: Any) -> str:
    """The id itself, or with a number where that is taken."""
    name, twin = id, 1
    while name in taken:
        twin += 1
        name = f"{id}#{twin}"
    return name
