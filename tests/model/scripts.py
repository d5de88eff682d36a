"""The model of what producers and consumers ask of the broker, in plain Python."""

from collections.abc import Sequence

from tests.model.calls import Call, Ending
from tests.model.state import State
from tests.model.values import HOUR, Copy, Fields, Mark, Record, Token, generation_of, queue_of


class Scripts(State):
    """The scripts in Python: each method answers as the script of its name, refusals as text."""

    # Topology

    def declare_queue(self, name: str, settings: dict[str, object]) -> bool:
        """Whether it is new."""
        for level in range(int(str(settings.get("max_priority", 0))), 0, -1):
            self.make_group(f"{name}:p{level}")
        self.make_group(name)
        self.make_group(f"{name}:returned")
        new = name not in self.queues
        self.queues[name] = settings
        return new

    def bind(self, exchange: str, queue: str, key: str) -> None:
        self.bindings.setdefault(exchange, set()).add((queue, key))

    # Producers

    def answered_before(self, channel: str, number: int, first: str) -> list[str] | str | None:
        """The earlier answers to the same call of a channel; a refusal; None for a new call."""
        last, id, answers = self.channels.get(channel, (0, "", []))
        if (last, id) == (number, first):
            return answers
        return f"STALE {number} {last}" if last >= number else None

    def publish_plain(self, channel: str, number: int, queue: str, calls: Sequence[Call]) -> str:
        """Publish to a plain queue; the answer is empty if it is not plain."""
        if known := self.answered_before(channel, number, calls[0].id):
            return known if isinstance(known, str) else known[0]
        if self.queues.get(queue) != {}:
            return ""
        for call in calls:
            self.append(call, queue, call.id)
        self.channels[channel] = (number, calls[0].id, [queue])
        return queue

    def publish(self, channel: str, number: int, calls: Sequence[Call]) -> list[str] | str:
        if before := self.answered_before(channel, number, calls[0].id):
            return before
        known = {call.id: self.gone_to(call) for call in reversed(calls) if call.chosen}
        if refusal := self.refusal(calls, known):
            return refusal
        answers = []
        for call in calls:
            if not call.chosen or known[call.id] is None:
                known[call.id] = self.write(call)
                if call.window != "none" and call.window:
                    self.dedup[call.id] = known[call.id] or ""
            answers.append(known[call.id] or ":".join(self.route(call.exchange, call.key)))
        self.channels[channel] = (number, calls[0].id, answers)
        return answers

    def gone_to(self, call: Call) -> str | None:
        """The queues of a chosen id that was accepted before; '' if unknown, None if it is new."""
        if call.window != "none" and call.id in self.dedup:
            return self.dedup[call.id]
        state, queues = self.unended(call.id)
        return queues if state else None

    def refusal(self, calls: Sequence[Call], known: dict[str, str | None]) -> str:
        """The reason why none of these messages is accepted; '' if all are."""
        coming: dict[str, int] = {}
        seen: set[str] = set()
        for n, call in enumerate(calls):
            if call.chosen and (call.id in seen or known[call.id]):
                continue
            seen.add(call.id)
            queues = self.route(call.exchange, call.key)
            if not queues:
                return f"UNROUTABLE {n} {call.exchange} {call.key}"
            for queue in queues if known.get(call.id) is None or not call.chosen else ():
                most = self.queues[queue].get("max_length")
                coming[queue] = coming.get(queue, 0) + 1
                if most is not None and self.length(queue) + coming[queue] > most:
                    return f"QUEUEFULL {n} {queue} {most}"
        return ""

    def length(self, queue: str) -> int:
        return sum(
            len(stream.copies) for name, stream in self.streams.items() if queue_of(name) == queue
        )

    def write(self, call: Call) -> str:
        queues = self.route(call.exchange, call.key)
        copies = [f"{call.id}@{queue}" for queue in queues] if len(queues) > 1 else []
        ids = [call.id, *copies]
        generation = self.next_generation(ids) if call.chosen else "1"
        for queue in queues:
            single = len(queues) == 1 or not call.id
            self.append(call, queue, call.id if single else f"{call.id}@{queue}", generation)
        if copies and call.id:
            self.record(call, call.id, generation, copies=":".join(queues))
        return ":".join(queues)

    def append(self, call: Call, queue: str, id: str, generation: str = "1") -> None:
        settings, fields = self.queues[queue], dict(call.fields)
        level = min(call.priority, settings.get("max_priority", 0))
        stream = f"{queue}:p{level}" if level else queue
        due = self.now + (call.due or 0)
        if id:
            fields["id"] = id
        if generation != "1":
            fields["generation"] = generation
        if call.expires is not None:
            fields["expires"] = str(self.now + call.expires)
        if "message_ttl" in settings:
            fields["stale"] = str(due + settings["message_ttl"])
        self.accept(fields)
        if due > self.now:
            self.schedule(stream, id, {**fields, "eta": str(due)}, due)
        else:
            self.add(stream, fields)
        if id:
            self.record(call, id, generation, queue=queue)

    def record(self, call: Call, id: str, generation: str, **where: str) -> None:
        """Write a new generation of a record, or a new record."""
        if not call.keep:
            if generation != "1":
                self.begin_generation(id, generation, keep=False)
            return
        record = self.begin_generation(id, generation, keep=True)
        later = bool(call.due)
        record.fields |= {"state": "SCHEDULED" if later else "QUEUED", "enqueued": str(self.now)}
        record.fields |= {"task": call.fields["task"], **where}
        if later:
            record.fields["eta"] = str(self.now + (call.due or 0))
        record.life = 0

    # Consumers

    def register(self, consumer: str, lease: int) -> None:
        self.leases[consumer] = self.now + lease
        self.lease_ms[consumer] = str(lease)

    def read(self, consumer: str, stream: str, count: int) -> list[Copy]:
        """Read the first messages that no consumer holds."""
        self.streams[stream].consumers.add(consumer)
        taken = [copy for copy in self.streams[stream].copies if not copy.holder][:count]
        for copy in taken:
            copy.holder = consumer
        return taken

    def settle(
        self,
        consumer: str,
        number: str,
        outcomes: Sequence[Ending],
        starts: Sequence[tuple[Token, Mark]] = (),
    ) -> str:
        """Settle as follow.lua and settle.lua do: once, and only for consumers with a lease."""
        last, answer = self.settled.get(consumer, ("", ""))
        if last == number:
            return answer
        if consumer not in self.leases:
            return f"FENCED {consumer}"
        digits = [self.settle_one(consumer, ending) for ending in outcomes]
        digits += [self.start(consumer, token, mark) for token, mark in starts]
        answer = "".join("1" if mine else "0" for mine in digits)
        self.settled[consumer] = (number, answer)
        return answer

    def start(self, consumer: str, token: Token, mark: Mark) -> bool:
        """Acknowledge a message before it runs."""
        copy = self.found(token)
        if copy is not None:
            self.take(token.stream, copy)
            self.marks.setdefault(consumer, {})[token.place] = mark
        return token.place in self.marks.get(consumer, {})

    def settle_one(self, consumer: str, ending: Ending) -> bool:
        token = ending.token
        if ending.early:
            mark = self.marks.get(consumer, {}).pop(token.place, None)
            fields = mark.fields if mark else None
        else:
            copy = self.found(token)
            fields = copy.fields if copy else None
            if copy:
                self.take(token.stream, copy)
        if fields is None:
            return False
        self.follow(consumer, ending, dict(fields))
        return True

    def follow(self, consumer: str, ending: Ending, fields: Fields) -> None:
        token, verb = ending.token, (*ending.follow, "")[0]
        if verb == "later":
            self.again(consumer, ending, fields)
            return
        if verb in ("dead_letter", "expire"):
            reason, error = ending.follow[1:]
            queue = queue_of(token.stream)
            self.dead_letter(
                queue, token.id, fields, reason, consumer, error, verb == "dead_letter"
            )
        else:
            self.end(fields)
        if ending.state:
            details = {"worker": consumer, **ending.details}
            self.finish(token.id, token.generation, ending.state, ending.life, **details)
        elif ending.life:
            self.end_without_state(token.id, token.generation, ending.life, consumer)
        if verb == "revoked":
            self.revoked.pop(token.name, None)

    def again(self, consumer: str, ending: Ending, fields: Fields) -> None:
        """Retry the task, unless it has been revoked meanwhile."""
        token = ending.token
        record = self.own(token.id, token.generation)
        revoked_unseen = record.state == "REVOKED" and token.name in self.revoked
        if record.was_revoked or revoked_unseen:
            details = {"worker": consumer, "reason": "revoked"}
            self.finish(token.id, token.generation, "REVOKED", ending.life, **details)
            self.end(fields)
            return
        if ending.state and record.state and not record.ended:
            record.fields |= {"state": ending.state, "worker": consumer, **ending.details}
            record.without("started", "meta", "meta_content_type")
            record.life = 0
        elif record.state:
            self.show_waiting(token.id, token.generation)
        _, pause, queue, *changes = ending.follow
        fields.pop("stale", None)
        fields.pop("rejections", None)
        fields |= {"id": token.id, **dict(zip(changes[::2], changes[1::2], strict=True))}
        if fields.get("expires", "").startswith("+"):
            fields["expires"] = str(self.now + int(fields["expires"]))
        own, due = queue_of(token.stream), self.now + int(pause)
        home = self.home_of(queue or own, fields)
        if due <= self.now and not queue and own in self.queues:
            self.add(home, fields)
            return
        self.schedule(home, token.id, {**fields, "eta": str(due)}, due)
        if record.state and not record.ended:
            record.fields |= {"eta": str(due), "queue": queue or own}

    def release_early(self, consumer: str, tokens: Sequence[Token]) -> int | str:
        """Hand back messages that were acknowledged before their run and have not started."""
        if consumer not in self.leases:
            return f"FENCED {consumer}"
        released = 0
        for token in tokens:
            if (mark := self.marks.get(consumer, {}).pop(token.place, None)) is None:
                continue
            fields, queue = mark.fields, queue_of(token.stream)
            generation = generation_of(fields)
            revoked = self.own(token.id, generation).was_revoked
            if revoked or queue not in self.queues:
                self.end(fields)
                reason = "revoked" if queue in self.queues else "deleted"
                details = {"worker": consumer, "reason": reason}
                self.finish(token.id, generation, "REVOKED", HOUR, **details)
            else:
                suspected = token.stream.endswith(":quarantine")
                self.add(f"{queue}:{'quarantine' if suspected else 'returned'}", dict(fields))
                if suspected:
                    self.quarantine.add(queue)
                self.show_waiting(token.id, generation)
                released += 1
        return released

    def release(self, consumer: str, tokens: Sequence[Token]) -> int | str:
        if consumer not in self.leases:
            return f"FENCED {consumer}"
        released = 0
        for token in tokens:
            if (copy := self.found(token, consumer)) is None:
                continue
            generation = generation_of(copy.fields)
            if self.own(token.id, generation).was_revoked:
                self.take(token.stream, copy)
                self.end(copy.fields)
                details = {"worker": consumer, "reason": "revoked"}
                self.finish(token.id, generation, "REVOKED", HOUR, **details)
            else:
                self.give_back(token.stream, copy, copy.fields)
                released += 1
        return released

    def reject(self, consumer: str, token: Token, rejections: int, pause: int) -> int | str:
        if consumer not in self.leases:
            return f"FENCED {consumer}"
        if (copy := self.found(token, consumer)) is None:
            return 0
        generation = generation_of(copy.fields)
        if self.own(token.id, generation).was_revoked:
            return self.release(consumer, [token])
        fields = {**copy.fields, "rejections": str(rejections)}
        if not pause:
            self.give_back(token.stream, copy, fields)
            return 1
        due = self.now + pause
        front = "quarantine" if token.stream.endswith(":quarantine") else "returned"
        home = f"{queue_of(token.stream)}:{front}"
        self.schedule(home, token.id, {**fields, "eta": str(due)}, due)
        self.take(token.stream, copy)
        self.show_waiting(token.id, generation)
        record = self.own(token.id, generation)
        if record.state and not record.ended:
            record.fields["eta"] = str(due)
        return 1

    def mark_started(self, consumer: str, tokens: Sequence[Token]) -> int | str:
        if consumer not in self.leases:
            return f"FENCED {consumer}"
        shown = 0
        for token in tokens:
            record = self.records.get(token.id, Record())
            waits = record.state in ("", "QUEUED", "RETRY", "SCHEDULED") and not record.ended
            if waits and not self.is_another(token.id, token.generation):
                record.fields |= {"state": "STARTED", "started": str(self.now), "worker": consumer}
                if token.generation != "1":
                    record.fields["generation"] = token.generation
                record.life = 0
                self.records[token.id] = record
                shown += 1
        return shown

    def update_state(self, consumer: str, name: str, state: str, meta: str) -> int:
        id, _, generation = name.partition("::")
        record = self.own(id, generation or "1")
        if not record.state or record.ended or consumer not in self.leases:
            return 0
        waits = record.state in ("QUEUED", "RETRY", "SCHEDULED")
        if not waits and record.fields.get("worker") != consumer:
            return 0
        record.fields |= {"state": state, "meta": meta, "worker": consumer}
        return 1

    def check_start(self, messages: Sequence[tuple[str, str, str]]) -> str:
        """For each id, with that of its fan-out and its expiry: r(evoked), e(xpired) or 1."""
        answer = ""
        for id, base, expires in messages:
            late = expires != "" and int(expires) <= self.now
            answer += "r" if {id, base} & self.revoked.keys() else "e" if late else "1"
        return answer

    # Waiters

    def await_result(self, id: str, waiter: str) -> Fields:
        record = self.records.setdefault(id, Record())
        if record.ended or "copies" in record.fields:
            return self.shown(record)
        if waiter not in record.waiters:
            record.waiters.append(waiter)
        if not record.state:
            record.life = 60_000
            return {}
        return {"state": record.state}

    def shown(self, record: Record) -> Fields:
        waiters = {"waiters": " ".join(record.waiters)} if record.waiters else {}
        return {**record.fields, **waiters}

    def forget_result(self, id: str) -> int:
        """Those who wait hear that there is nothing to wait for."""
        if self.unended(id)[0]:
            self.numbers[id] = self.next_generation([id])
        record = self.records.pop(id, None)
        if record is not None:
            self.notify_waiters(record, id, "")
        return int(record is not None and record.state != "")
