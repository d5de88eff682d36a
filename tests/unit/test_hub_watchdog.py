"""Handing back beside a hub: a message is started or handed back, never both."""

from types import SimpleNamespace

import gevent
import pytest

from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable
from streamq.runner.lifetime import Lifetime
from streamq.runner.pools.base import PoolParts
from streamq.runner.pools.gevent import GREENLETS, GreenletLimits
from streamq.runner.pools.hub_watchdog import LATE, PAUSE_AFTER_PARKED, HubWatchdog
from streamq.runner.pools.task_threads import TaskThreads
from streamq.runner.prefetch import PrefetchBuffer
from streamq.runner.shared_memory import SharedMemory
from streamq.runner.sources import QueueStreams, ReadOrder

STREAM = "mail"


class Consumer:
    """Says what is held, and keeps what is handed back."""

    name = "me"

    def __init__(self, *entries):
        self.places = [(STREAM, entry) for entry in entries]
        self.released = []
        self.away = False
        self.connection = SimpleNamespace(drop=lambda: None, socket=None)

    def held(self, streams, most):
        return self.places

    def release(self, places, expires, ack="late"):
        if self.away:
            raise BrokerUnavailable("away")
        self.released += places if ack == "late" else [(ack, *place) for place in places]
        return len(places)

    def has_lease(self):
        return True

    def read_command(self, streams, count, *, since=">"):
        return (streams, since)

    def deliveries(self, reply):
        return [delivery(entry) for _, entry in reply or ()]


class Executor:
    """Runs nothing but notes it."""

    outcomes = SimpleNamespace(expires=b"0")

    def __init__(self):
        self.ran = []

    def admit(self, delivery):
        pass

    def run(self, delivery):
        self.ran.append(delivery.entry)
        return SimpleNamespace(
            release=False, then=None, fields=(), delivery=delivery, reason=b"", expected=False
        )


def delivery(entry=b"1-1"):
    found = Delivery(STREAM, entry, {b"id": b"a", b"task": b"t"})
    found.seen = 1 << 62
    return found


@pytest.fixture
def site(tmp_path):
    """A hub with three messages in hand, and what looks after it."""
    consumer = Consumer(b"1-1", b"1-2", b"1-3")
    prefetch = PrefetchBuffer(
        consumer,
        ReadOrder([QueueStreams(STREAM)]),
        Executor(),
        lease=15,
        declare=lambda: None,
        repairs_itself=False,
    )
    slots = SharedMemory(tmp_path / "slots", 1, 8).of(0)
    watch = HubWatchdog(consumer, prefetch, slots, consumer.connection)
    watch.asleep = False
    parts = PoolParts(prefetch=prefetch, slots=slots, lifetime=Lifetime(), concurrency=4)
    limits = GreenletLimits(slots, GREENLETS)
    tasks = TaskThreads(parts, GREENLETS, limits, watch, lambda act: act())
    tasks.guard = SimpleNamespace(descriptors_closed=False)
    return SimpleNamespace(
        consumer=consumer, prefetch=prefetch, slots=slots, watch=watch, tasks=tasks
    )


def number_of(site):
    return site.watch.stream_numbers[STREAM]


def test_what_is_running_or_has_just_ended_does_not_go_back(site):
    site.slots.note_start(0, number_of(site), b"1-1")
    site.slots.note_start(1, number_of(site), b"1-2")
    site.slots.clear(1)

    site.watch.hand_back()

    assert site.consumer.released == [(STREAM, b"1-3")]
    assert site.slots.is_taken()


def test_what_starts_while_redis_is_asked_does_not_go_back(site, monkeypatch):
    """The hub has not seen the mark: it was not there yet."""
    leave = site.slots.mark_taken

    def start_one_first():
        site.slots.note_start(0, number_of(site), b"1-2")
        leave()

    monkeypatch.setattr(site.slots, "mark_taken", start_one_first)
    site.watch.hand_back()

    assert site.consumer.released == [(STREAM, b"1-1"), (STREAM, b"1-3")]


def test_where_everything_has_started_there_is_no_mark(site):
    for slot, (_, entry) in enumerate(site.consumer.places):
        site.slots.note_start(slot, number_of(site), entry)

    site.watch.hand_back()

    assert not site.slots.is_taken()
    assert site.consumer.released == []


def test_what_starts_behind_the_mark_does_not_run(site):
    site.slots.mark_taken()

    site.tasks.start(delivery())

    assert site.prefetch.executor.ran == []
    assert not site.prefetch.running
    assert (number_of(site), b"1-1") not in site.slots.started_entries()


def test_nothing_is_taken_from_the_prefetch_buffer_behind_the_mark(site):
    site.prefetch.unstarted.append(delivery())
    assert site.tasks.startable()

    site.slots.mark_taken()

    assert site.tasks.next_in_hand() is None
    assert len(site.prefetch.unstarted) == 1


def test_the_mark_stays_until_the_look_is_over_and_nothing_in_hand_outlives_it(site):
    site.prefetch.unstarted.append(delivery())
    site.slots.mark_taken()
    site.watch.looking = True
    waiting = gevent.spawn(site.watch.remove_mark)
    gevent.sleep(0.01)
    assert site.slots.is_taken()

    site.watch.looking = False
    waiting.join(2)

    assert not site.slots.is_taken()
    assert not site.prefetch.unstarted
    assert site.prefetch.broken


def test_the_mark_goes_only_when_nothing_is_in_hand(site, monkeypatch):
    """Whoever settles speaks with Redis just then, and others run meanwhile."""
    seen = []
    monkeypatch.setattr(
        site.slots, "clear_taken", lambda: seen.append(len(site.prefetch.unstarted))
    )
    site.prefetch.unstarted.append(delivery())
    site.slots.mark_taken()
    gate = gevent.event.Event()

    def settle():
        with site.prefetch.lock:
            gate.wait()

    settling = gevent.spawn(settle)
    gevent.sleep(0)
    gevent.spawn(site.watch.remove_mark).join(2)
    gate.set()
    settling.join(2)

    assert seen == [0]


def test_a_hub_that_lives_is_left_alone_and_one_that_is_silent_is_not(site, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("streamq.runner.pools.hub_watchdog.monotonic", lambda: clock.now)
    site.watch.last_beat = clock.now

    clock.now += LATE / 2
    site.watch.check()
    assert site.consumer.released == []

    clock.now += LATE
    site.watch.check()
    assert len(site.consumer.released) == 3
    site.watch.check()  # behind the same task not again at once
    assert len(site.consumer.released) == 3


def test_nothing_goes_back_while_it_is_not_known_what_has_run(site, monkeypatch):
    """What could not be settled has run, and is neither running nor settled."""
    site.prefetch.settlements.parked.waiting.append((0.0, None))
    beating = gevent.spawn(site.watch.beat_loop)
    gevent.sleep(0.01)

    monkeypatch.setattr("streamq.runner.pools.hub_watchdog.monotonic", lambda: 1e9)
    site.watch.check()

    assert site.slots.silent == 0
    assert site.consumer.released == []
    assert PAUSE_AFTER_PARKED > 30.0  # until it has been tried again
    beating.kill()


def test_what_is_settled_while_redis_is_asked_what_we_hold_is_not_found_again(site):
    """The answer is older than what we know by then."""
    running = delivery(b"1-1")
    site.prefetch.running.add(running)

    def settle_and_answer(commands, timeout):
        if commands[0][0] != [STREAM]:
            return [None]
        site.prefetch.running.clear()
        return [[(STREAM, b"1-1")]]

    site.consumer.perform = settle_and_answer

    site.prefetch.compare_with_redis()

    assert list(site.prefetch.unstarted) == []


def acknowledged(site, *entries):
    for entry in entries:
        each = delivery(entry)
        each.early = True
        site.prefetch.acknowledged.append(each)


def test_what_was_acknowledged_and_has_not_begun_goes_back_in_its_order(site):
    site.consumer.places = []
    acknowledged(site, b"1-1", b"1-2", b"1-3")
    site.tasks.start(site.tasks.next_in_hand())

    site.watch.hand_back()

    assert site.prefetch.executor.ran == [b"1-1"]
    assert site.consumer.released == [("early", STREAM, b"1-2"), ("early", STREAM, b"1-3")]
    assert site.tasks.next_in_hand() is None


def test_who_takes_an_acknowledged_message_from_the_prefetch_buffer_asks_until_it_is_answered(site):
    """Else nobody would know whether it may still start."""
    site.consumer.places = []
    acknowledged(site, b"1-1")
    site.consumer.away = True
    with pytest.raises(BrokerUnavailable):
        site.watch.hand_back()
    assert site.tasks.next_in_hand() is None

    site.consumer.away = False
    site.watch.check()
    site.watch.check()

    assert site.consumer.released == [("early", STREAM, b"1-1")]
