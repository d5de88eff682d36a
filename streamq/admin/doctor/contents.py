"""Checks of the contents of a namespace: consumers, queues, records, clients."""

import math
from collections.abc import Iterator, Mapping

from streamq.admin.doctor.facts import Facts, Finding, KeyFacts, QueueFacts
from streamq.core.text import count, first_few

#: Seconds after the end of a lease in which a worker should have taken over.
TAKEOVER_DUE = 60.0
#: Seconds by which a schedule may be late: a worker that is restarted is not an outage.
SCHEDULE_DUE = 60.0


def check_foreign(facts: Facts) -> Iterator[Finding]:
    advice = "another program wrote it: remove or rename the key, or use another namespace"
    for key, holds in sorted(facts.foreign.items()):
        yield Finding("foreign", "problem", f"{key} {holds}", advice)


def check_orphans(facts: Facts) -> Iterator[Finding]:
    held: dict[str, int] = {}
    for queue in facts.queues:
        for consumer, messages in queue.consumers.items():
            if consumer not in facts.leases:
                held[consumer] = held.get(consumer, 0) + messages
    late = sorted(name for name, over in facts.leases.items() if over > TAKEOVER_DUE)
    advice = "start a worker of these queues: it recovers what they hold"
    if held:
        says = f"{count(len(held), 'consumer')} without a lease, holding {sum(held.values())} "
        yield Finding("orphans", "warning", f"{says}of the messages: {first_few(held)}", advice)
    if late:
        over = f"{count(len(late), 'lease')} over for more than {TAKEOVER_DUE:.0f} s"
        says = f"{over}: {first_few(late)}"
        yield Finding("orphans", "warning", says, advice)
    if not held and not late:
        says = f"{count(len(facts.leases), 'consumer')}, each with a lease"
        yield Finding("orphans", "ok", says if facts.leases else "none: no worker holds messages")


def check_readers(facts: Facts) -> Iterator[Finding]:
    read = {name for queues in facts.workers.values() for name in queues}
    unread_levels: dict[str, int] = {}
    unread_queues: dict[str, int] = {}
    for queue in facts.queues:
        levels = unread_levels_of(queue, facts)
        unread_levels |= levels
        ready = queue.length - queue.pending - sum(levels.values())
        if ready > 0 and queue.name not in read:
            unread_queues[queue.name] = ready
    if unread_queues:
        advice = f"streamq worker -Q {','.join(sorted(unread_queues))}"
        says = f"messages wait that no living worker reads: {waiting(unread_queues)}"
        yield Finding("readers", "warning", says, advice)
    if unread_levels:
        advice = (
            "declare the queue with such a max_priority, and restart its workers; "
            f"or drop them: streamq redis DEL {facts.root}:queue:{min(unread_levels)}"
        )
        numbers = waiting(unread_levels)
        says = f"messages wait in priority levels that no living worker reads: {numbers}"
        yield Finding("readers", "warning", says, advice)
    if not unread_queues and not unread_levels:
        up = count(len(facts.workers), "worker")
        says = f"{up} up; every queue that holds messages is read"
        yield Finding("readers", "ok", says)


def unread_levels_of(queue: QueueFacts, facts: Facts) -> dict[str, int]:
    """The messages that wait in priority levels that no worker reads: stream → number.

    If no worker reports the levels that it reads, the queue's ``max_priority`` decides.
    """
    highest = facts.levels.get(queue.name, queue.max_priority)
    return {
        f"{queue.name}:p{level}": ready for level, ready in queue.levels.items() if level > highest
    }


def waiting(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({ready})" for name, ready in sorted(numbers.items()))


def check_ids(facts: Facts) -> Iterator[Finding]:
    out_of_ids = {queue.name: queue.out_of_ids for queue in facts.queues if queue.out_of_ids}
    for queue, streams in sorted(out_of_ids.items()):
        says = f"queue {queue} is out of ids, or nearly: it takes no more messages in "
        advice = f"streamq queues repair {queue}"
        yield Finding("ids", "problem", says + first_few(streams), advice)
    if not out_of_ids:
        yield Finding("ids", "ok", "every queue has ids for its next messages")


def check_backlog(facts: Facts) -> Iterator[Finding]:
    length, pending = (
        sum(getattr(q, name) for q in facts.queues) for name in ("length", "pending")
    )
    later = "" if facts.scheduled is None else f", {facts.scheduled} scheduled"
    queues = count(len(facts.queues), "queue")
    yield Finding("backlog", "ok", f"{queues}: {length - pending} ready, {pending} running{later}")
    if facts.dead:
        says = f"{count(sum(facts.dead.values()), 'dead letter')} in {first_few(facts.dead)}"
        yield Finding("dead letters", "warning", says, "streamq dead ls")
    else:
        yield Finding("dead letters", "ok", "none")


def check_schedules(facts: Facts) -> Iterator[Finding]:
    if facts.schedules is None:
        yield Finding("schedules", "ok", "they may not be read")
        return
    late = sorted(name for name, over in facts.schedules.items() if over > SCHEDULE_DUE)
    paused = sum(over == -math.inf for over in facts.schedules.values())
    if late:
        over = f"{count(len(late), 'schedule')} late by more than {SCHEDULE_DUE:.0f} s"
        advice = "streamq schedules ls  says why; start a worker whose code declares them"
        yield Finding("schedules", "warning", f"{over}: {first_few(late)}", advice)
    elif facts.schedules:
        says = f"{count(len(facts.schedules), 'schedule')}, none is late"
        yield Finding("schedules", "ok", says + (f", {paused} paused" if paused else ""))
    else:
        yield Finding("schedules", "ok", "none")


def check_leaks(facts: Facts) -> Iterator[Finding]:
    if facts.keys is None:
        yield Finding("leaks", "ok", "SCAN is not permitted: keys were not looked at")
        return
    found = list(leaks(facts.keys))
    part = "all" if facts.keys.all_of_them else "the first"
    seen = f"nothing left behind among {part} {count(facts.keys.looked_at, 'key')}"
    yield from found or [Finding("leaks", "ok", seen)]


def leaks(keys: KeyFacts) -> Iterator[Finding]:
    if keys.lost_records:
        tasks = keys.lost_records
        says = f"{count(len(tasks), 'record')} of tasks that no queue holds: {first_few(tasks)}"
        advice = "messages were deleted by hand: send them again, or streamq redis DEL the keys"
        yield Finding("leaks", "warning", says, advice)
    if keys.undeclared:
        says = f"{count(len(keys.undeclared), 'stream')} of no declared queue: "
        advice = "streamq worker -Q NAME reads one; streamq redis DEL drops it"
        yield Finding("leaks", "warning", says + first_few(keys.undeclared), advice)
    if keys.marks_without_lease:
        says = "marks of early-acknowledged messages of consumers without a lease: "
        advice = "start a worker: it reports these tasks as WorkerLost"
        yield Finding("leaks", "warning", says + first_few(keys.marks_without_lease), advice)


def check_deleted_pending(facts: Facts) -> Iterator[Finding]:
    if facts.deleted_pending is None:
        yield Finding(
            "deleted_pending", "ok", "messages may not be read: pending entries were not checked"
        )
    elif facts.deleted_pending:
        numbers = ", ".join(
            f"{stream} ({number})" for stream, number in facts.deleted_pending.items()
        )
        advice = "never XDEL or XTRIM a queue; a restart of its workers clears them"
        says = f"pending entries whose message is deleted: {numbers}"
        yield Finding("deleted_pending", "warning", says, advice)
    else:
        yield Finding("deleted_pending", "ok", "every pending message is there")


def check_clients(facts: Facts) -> Iterator[Finding]:
    if facts.clients is None:
        yield Finding("clients", "ok", "CLIENT LIST is not permitted: connections were not counted")
        return
    ours = [f"{number} {name}" for name, number in sorted(facts.clients.items())]
    others = facts.number("connected_clients") - sum(facts.clients.values())
    says = ", ".join(ours) or "none of ours"
    yield Finding("clients", "ok", f"connections by name: {says}; {max(others, 0)} others")
