"""Whether what lies in a namespace is looked after: consumers, queues, records, clients."""

from collections.abc import Iterator, Mapping, Sequence

from streamq.admin.doctor.facts import Facts, Finding, KeyFacts, QueueFacts
from streamq.core.text import count

#: Seconds after the end of a lease in which somebody should have noticed.
NOTICED = 60.0


def check_foreign(facts: Facts) -> Iterator[Finding]:
    advice = "somebody else wrote there: remove or rename it, or use another namespace"
    for key, holds in sorted(facts.foreign.items()):
        yield Finding("foreign", "problem", f"{key} {holds}", advice)


def check_orphans(facts: Facts) -> Iterator[Finding]:
    held: dict[str, int] = {}
    for queue in facts.queues:
        for consumer, messages in queue.consumers.items():
            if consumer not in facts.leases:
                held[consumer] = held.get(consumer, 0) + messages
    late = sorted(name for name, over in facts.leases.items() if over > NOTICED)
    advice = "start a worker of these queues: it recovers what they hold"
    if held:
        says = f"{count(len(held), 'consumer')} without a lease, holding {sum(held.values())} "
        yield Finding("orphans", "warning", f"{says}of the messages: {names(held)}", advice)
    if late:
        says = f"{count(len(late), 'lease')} over for more than {NOTICED:.0f} s: {names(late)}"
        yield Finding("orphans", "warning", says, advice)
    if not held and not late:
        says = f"{count(len(facts.leases), 'consumer')}, each with a lease"
        yield Finding("orphans", "ok", says if facts.leases else "none: no worker holds messages")


def check_readers(facts: Facts) -> Iterator[Finding]:
    read = {name for queues in facts.workers.values() for name in queues}
    unread: dict[str, int] = {}
    alone: dict[str, int] = {}
    for queue in facts.queues:
        levels = unread_levels(queue, facts)
        unread |= levels
        ready = queue.length - queue.pending - sum(levels.values())
        if ready > 0 and queue.name not in read:
            alone[queue.name] = ready
    if alone:
        advice = f"streamq worker -Q {','.join(sorted(alone))}"
        says = f"messages wait that no living worker reads: {waiting(alone)}"
        yield Finding("readers", "warning", says, advice)
    if unread:
        advice = (
            "declare the queue with such a max_priority, and start its workers anew; "
            f"or drop them: streamq redis DEL {facts.root}:queue:{min(unread)}"
        )
        says = f"messages wait in priority levels that no living worker reads: {waiting(unread)}"
        yield Finding("readers", "warning", says, advice)
    if not alone and not unread:
        up = count(len(facts.workers), "worker")
        says = f"{up} up; every queue that holds messages is read"
        yield Finding("readers", "ok", says)


def unread_levels(queue: QueueFacts, facts: Facts) -> dict[str, int]:
    """What waits in levels above those that workers read, or that the queue is to have."""
    highest = facts.levels.get(queue.name, queue.max_priority)
    return {
        f"{queue.name}:p{level}": ready for level, ready in queue.levels.items() if level > highest
    }


def waiting(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({ready})" for name, ready in sorted(numbers.items()))


def check_ids(facts: Facts) -> Iterator[Finding]:
    spent = {queue.name: queue.spent for queue in facts.queues if queue.spent}
    for queue, streams in sorted(spent.items()):
        says = f"queue {queue} is out of ids, or nearly: it takes no more messages in "
        advice = f"streamq queues repair {queue}"
        yield Finding("ids", "problem", says + names(streams), advice)
    if not spent:
        yield Finding("ids", "ok", "every queue has ids for its next messages")


def check_backlog(facts: Facts) -> Iterator[Finding]:
    length, pending = (
        sum(getattr(q, name) for q in facts.queues) for name in ("length", "pending")
    )
    later = "" if facts.scheduled is None else f", {facts.scheduled} scheduled"
    queues = count(len(facts.queues), "queue")
    yield Finding("backlog", "ok", f"{queues}: {length - pending} ready, {pending} running{later}")
    if facts.dead:
        says = f"{count(sum(facts.dead.values()), 'dead letter')} in {names(facts.dead)}"
        yield Finding("dead letters", "warning", says, "streamq dead ls")
    else:
        yield Finding("dead letters", "ok", "none")


def check_leaks(facts: Facts) -> Iterator[Finding]:
    if facts.keys is None:
        yield Finding("leaks", "ok", "SCAN is not permitted: keys were not looked at")
        return
    found = list(leaks(facts.keys))
    part = "all" if facts.keys.all_of_them else "the first"
    seen = f"nothing left behind among {part} {count(facts.keys.looked_at, 'key')}"
    yield from found or [Finding("leaks", "ok", seen)]


def leaks(keys: KeyFacts) -> Iterator[Finding]:
    if keys.forgotten_tasks:
        tasks = keys.forgotten_tasks
        says = f"{count(len(tasks), 'record')} of tasks that no queue holds: {names(tasks)}"
        advice = "somebody deleted messages by hand: send them again, or streamq redis DEL the keys"
        yield Finding("leaks", "warning", says, advice)
    if keys.undeclared:
        says = f"{count(len(keys.undeclared), 'stream')} of no declared queue: "
        advice = "streamq worker -Q NAME reads one; streamq redis DEL drops it"
        yield Finding("leaks", "warning", says + names(keys.undeclared), advice)
    if keys.unknown_starters:
        says = "marks of early-acknowledged messages of consumers without a lease: "
        advice = "start a worker: it reports these tasks as WorkerLost"
        yield Finding("leaks", "warning", says + names(keys.unknown_starters), advice)


def check_ghosts(facts: Facts) -> Iterator[Finding]:
    if facts.ghosts is None:
        yield Finding("ghosts", "ok", "messages may not be read: pending lists were not compared")
    elif facts.ghosts:
        ghosts = ", ".join(f"{stream} ({number})" for stream, number in facts.ghosts.items())
        advice = "never XDEL or XTRIM a queue; a restart of its workers clears them"
        says = f"pending entries whose message is deleted: {ghosts}"
        yield Finding("ghosts", "warning", says, advice)
    else:
        yield Finding("ghosts", "ok", "every pending message is there")


def check_clients(facts: Facts) -> Iterator[Finding]:
    if facts.clients is None:
        yield Finding("clients", "ok", "CLIENT LIST is not permitted: connections were not counted")
        return
    ours = [f"{number} {name}" for name, number in sorted(facts.clients.items())]
    others = facts.number("connected_clients") - sum(facts.clients.values())
    says = ", ".join(ours) or "none of ours"
    yield Finding("clients", "ok", f"connections by name: {says}; {max(others, 0)} others")


#: Things that are named; the rest are counted.
MOST_NAMED = 5


def names(things: Sequence[str] | Mapping[str, int]) -> str:
    """The first few, and how many more there are."""
    all_of_them = list(things)
    more = len(all_of_them) - MOST_NAMED
    return ", ".join(all_of_them[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
