"""Handing back beside a hub: a message is started or handed back, never both."""

from types import SimpleNamespace

import gevent
import pytest

from streamq.core.delivery import Delivery
from streamq.errors import BrokerUnavailable
from streamq.runner.pools.greenlets import Crowd
from streamq.runner.pools.hub_watchdog import AFTER_AN_ODD_ONE, LATE, HubWatch
from streamq.runner.prefetch import Desk
from streamq.runner.shared_memory import Board
from streamq.runner.sources import Intake, Source

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


class Execution:
    """Runs nothing but notes it."""

    endings = SimpleNamespace(expires=b"0")

    def __init__(self):
        self.ran = []

    def admit(self, delivery):
        pass

    def run(self, delivery):
        self.ran.append(delivery.entry)
        return SimpleNamespace(
            release=False, follow=(), fields=(), delivery=delivery, reason=b"", expected=False
        )


def delivery(entry=b"1-1"):
    found = Delivery(STREAM, entry, {b"id": b"a", b"task": b"t"})
    found.seen = 1 << 62
    return found


@pytest.fixture
def site(tmp_path):
    """A hub with three messages in hand, and what looks after it."""
    consumer = Consumer(b"1-1", b"1-2", b"1-3")
    desk = Desk(
        consumer,
        Intake([Source(STREAM)]),
        Execution(),
        lease=15,
        declare=lambda: None,
        repairs_itself=False,
    )
    slots = Board(tmp_path / "slots", 1, 8).of(0)
    watch = HubWatch(consumer, desk, slots, consumer.connection)
    watch.asleep = False
    crowd = Crowd(desk, slots, watch, lambda act: act(), 4, isolated=False)
    crowd.property = SimpleNamespace(stolen=False)
    return SimpleNamespace(consumer=consumer, desk=desk, slots=slots, watch=watch, crowd=crowd)


def number_of(site):
    return site.watch.numbers[STREAM]


def test_what_is_running_or_has_just_ended_does_not_go_back(site):
    site.slots.start(0, number_of(site), b"1-1")
    site.slots.start(1, number_of(site), b"1-2")
    site.slots.clear(1)

    site.watch.hand_back()

    assert site.consumer.released == [(STREAM, b"1-3")]
    assert site.slots.taken_away()


def test_what_starts_while_redis_is_asked_does_not_go_back(site, monkeypatch):
    """The hub has not seen the mark: it was not there yet."""
    leave = site.slots.take_away

    def start_one_first():
        site.slots.start(0, number_of(site), b"1-2")
        leave()

    monkeypatch.setattr(site.slots, "take_away", start_one_first)
    site.watch.hand_back()

    assert site.consumer.released == [(STREAM, b"1-1"), (STREAM, b"1-3")]


def test_where_everything_has_started_there_is_no_mark(site):
    for slot, (_, entry) in enumerate(site.consumer.places):
        site.slots.start(slot, number_of(site), entry)

    site.watch.hand_back()

    assert not site.slots.taken_away()
    assert site.consumer.released == []


def test_what_starts_behind_the_mark_does_not_run(site):
    site.slots.take_away()

    site.crowd.start(delivery())

    assert site.desk.execution.ran == []
    assert not site.desk.running
    assert (number_of(site), b"1-1") not in site.slots.noted()


def test_nothing_is_taken_from_the_desk_behind_the_mark(site):
    site.desk.unstarted.append(delivery())
    assert site.crowd.startable()

    site.slots.take_away()

    assert site.crowd.next_in_hand() is None
    assert len(site.desk.unstarted) == 1


def test_the_mark_stays_until_the_look_is_over_and_nothing_in_hand_outlives_it(site):
    site.desk.unstarted.append(delivery())
    site.slots.take_away()
    site.watch.looking = True
    waiting = gevent.spawn(site.watch.remove_mark)
    gevent.sleep(0.01)
    assert site.slots.taken_away()

    site.watch.looking = False
    waiting.join(2)

    assert not site.slots.taken_away()
    assert not site.desk.unstarted
    assert site.desk.broken


def test_the_mark_goes_only_when_nothing_is_in_hand(site, monkeypatch):
    """Whoever settles speaks with Redis just then, and others run meanwhile."""
    seen = []
    monkeypatch.setattr(site.slots, "notice", lambda: seen.append(len(site.desk.unstarted)))
    site.desk.unstarted.append(delivery())
    site.slots.take_away()
    gate = gevent.event.Event()

    def settle():
        with site.desk.lock:
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
    site.watch.beat = clock.now

    clock.now += LATE / 2
    site.watch.look()
    assert site.consumer.released == []

    clock.now += LATE
    site.watch.look()
    assert len(site.consumer.released) == 3
    site.watch.look()  # behind the same task not again at once
    assert len(site.consumer.released) == 3


def test_nothing_goes_back_while_it_is_not_known_what_has_run(site, monkeypatch):
    """What could not be settled has run, and is neither running nor settled."""
    site.desk.ledger.aside.waiting.append((0.0, None))
    beating = gevent.spawn(site.watch.beat_on)
    gevent.sleep(0.01)

    monkeypatch.setattr("streamq.runner.pools.hub_watchdog.monotonic", lambda: 1e9)
    site.watch.look()

    assert site.slots.silent == 0
    assert site.consumer.released == []
    assert AFTER_AN_ODD_ONE > 30.0  # until it has been tried again
    beating.kill()


def test_what_is_settled_while_redis_is_asked_what_we_hold_is_not_found_again(site):
    """The answer is older than what we know by then."""
    running = delivery(b"1-1")
    site.desk.running.add(running)

    def settle_and_answer(commands, timeout):
        if commands[0][0] != [STREAM]:
            return [None]
        site.desk.running.clear()
        return [[(STREAM, b"1-1")]]

    site.consumer.perform = settle_and_answer

    site.desk.compare()

    assert list(site.desk.unstarted) == []


def acknowledged(site, *entries):
    for entry in entries:
        each = delivery(entry)
        each.early = True
        site.desk.acknowledged.append(each)


def test_what_was_acknowledged_and_has_not_begun_goes_back_in_its_order(site):
    site.consumer.places = []
    acknowledged(site, b"1-1", b"1-2", b"1-3")
    site.crowd.start(site.crowd.next_in_hand())

    site.watch.hand_back()

    assert site.desk.execution.ran == [b"1-1"]
    assert site.consumer.released == [("early", STREAM, b"1-2"), ("early", STREAM, b"1-3")]
    assert site.crowd.next_in_hand() is None


def test_who_takes_an_acknowledged_message_off_the_desk_asks_until_it_is_answered(site):
    """Else nobody would know whether it may still start."""
    site.consumer.places = []
    acknowledged(site, b"1-1")
    site.consumer.away = True
    with pytest.raises(BrokerUnavailable):
        site.watch.hand_back()
    assert site.crowd.next_in_hand() is None

    site.consumer.away = False
    site.watch.look()
    site.watch.look()

    assert site.consumer.released == [("early", STREAM, b"1-1")]
