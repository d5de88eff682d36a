"""Fifty schedulers and one store, in a time that the test moves: who looks when, and how late."""

import logging

import pytest

from streamq import every
from streamq.broker.leases import Renewal
from streamq.broker.schedules import Declared, Standing
from streamq.core.ticks import Timing
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.producer.scheduling import Schedule
from streamq.tasks import Signature
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.scheduler import (
    LONGEST_EARLY,
    LONGEST_GATHER,
    LONGEST_STEP,
    PAUSE,
    STEP,
    Scheduler,
)

#: Twenty ticks a second.
SCHEDULES, INTERVAL = 200, 10_000
WORKERS = 50
START = 1_000_000
#: How often fifty workers look in a second, all together.
LOOKS = 70
#: Milliseconds by which a tick is late that is on time: the time is rounded.
ON_TIME = 1


class Store:
    """Schedules as Redis would hold them, which note what is asked and how late ticks are."""

    def __init__(self, now):
        self.now = now
        self.moments = {}
        self.asked = []
        self.late = []

    def declare(self, declarations, *, order):
        for each in declarations:
            self.moments.setdefault(each.name, each.first)
        return [Declared("same", self.moments[each.name], "", "") for each in declarations]

    def names(self):
        return dict(self.moments)

    def due(self, names):
        return {name: self.moments.get(name) for name in names}

    def standing(self, due):
        return [Standing(name, "code", "", "", moment) for name, moment in due.items()]

    def about(self, names):
        assert not names
        return []

    def revisions(self):
        return set()

    def note_undeclared(self, name):
        self.asked.append("note")

    def due_between(self, first, last):
        self.asked.append("look")
        return {name: each for name, each in self.moments.items() if first <= each <= last}

    def tick(self, attempt, publication, *, final=False):
        self.asked.append("tick")
        if self.moments[attempt.name] != attempt.expected:
            return "moved", str(self.moments[attempt.name])
        if attempt.expected > self.now():
            return "early", str(self.now())
        self.late.append(self.now() - attempt.expected)
        self.moments[attempt.name] = attempt.next
        return "done", attempt.id


class Source:
    """Schedules of one interval, each of a phase of its own."""

    def __init__(self, count):
        self.timings = [timing(number, number * INTERVAL // count) for number in range(count)]

    def declared(self):
        call = Signature("t")
        return [
            (Schedule(name=each.name, call=call, when=every("10s")), each, {})
            for each in self.timings
        ]

    def publication(self, *given):
        return ()


def timing(number, phase):
    def next_after(moment):
        return (moment - phase) // INTERVAL * INTERVAL + INTERVAL + phase

    return Timing(name=f"s{number:03}", next_after=next_after)


class World:
    """Schedulers in the order of their names, and a time that only the test moves."""

    def __init__(self, monkeypatch, *, workers=WORKERS, schedules=SCHEDULES):
        self.time = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.time)
        self.store = Store(self.server_ms)
        self.source = Source(schedules)
        self.living = {number: self.scheduler() for number in range(workers)}
        self.renew()

    def server_ms(self):
        return START + round(self.time * 1000)

    def scheduler(self):
        view = LeaseView(15.0)
        view.record_answer(self.server_ms() / 1000, sent=self.time, now=self.time)
        service = Scheduler(self.store, self.source, view, order=0)
        service.begin()
        for each in service.watched.values():
            each.revision = ""
        service.refresh()
        return service

    def renew(self):
        """Tell each how many come before it: as a renewal does, which may come much later."""
        for place, number in enumerate(sorted(self.living)):
            self.living[number].on_renewal(renewal(place))

    def end(self, *numbers):
        """End these workers, which Redis shows for a while yet: no place changes."""
        for number in numbers:
            del self.living[number]

    def run(self, seconds):
        """Let everyone run when it is due; return what was asked, and how late ticks were."""
        end, asked, late = self.time + seconds, len(self.store.asked), len(self.store.late)
        while True:
            service = min(self.living.values(), key=lambda each: each.due())
            if service.due() > end:
                self.time = end
                return self.store.asked[asked:], self.store.late[late:]
            self.time = max(self.time, service.due())
            service.run()
            assert len(self.store.asked) - asked < 10_000, "it asks without end"


def renewal(place):
    return Renewal(
        **{"sent": 0.0, "received": 0.0, "now": 0.0, "due": None, "terminating": 0},
        **dict.fromkeys(("consumers", "fenced", "quarantine"), frozenset()),
        place=place,
    )


@pytest.fixture
def world(monkeypatch):
    found = World(monkeypatch)
    found.run(10.0)  # by now nobody remembers the start
    return found


def test_the_first_is_on_time_and_the_others_ask_little(world):
    asked, late = world.run(20.0)

    assert len(late) == 400
    assert max(late) <= ON_TIME
    assert asked.count("tick") == 400
    assert asked.count("look") <= LOOKS * 20


def test_without_longer_pauses_for_later_places_they_look_seven_times_as_often(world, monkeypatch):
    """The control."""
    monkeypatch.setattr(Scheduler, "gather", 0.1)
    asked, _ = world.run(10.0)

    assert asked.count("look") > 6 * LOOKS * 10


def test_the_next_takes_over_within_its_step_and_then_is_on_time(world):
    world.end(0)
    asked, late = world.run(10.0)

    assert len(late) == 200
    assert max(late) <= 50
    assert sum(each > ON_TIME for each in late) <= 2
    assert asked.count("look") <= LOOKS * 10


def test_the_eleventh_takes_over_from_ten_that_end_together(world):
    world.end(*range(10))
    _, late = world.run(10.0)
    assert max(late) <= 1000 * (10 * STEP + LONGEST_GATHER)

    world.run(5.0)
    asked, late = world.run(10.0)
    assert len(late) == 200
    assert max(late) <= ON_TIME
    assert asked.count("look") <= LOOKS * 10


def test_the_last_of_all_takes_over_within_a_few_seconds(world):
    world.end(*range(WORKERS - 1))
    _, late = world.run(10.0)
    assert max(late) <= 1000 * (LONGEST_STEP + LONGEST_GATHER)

    _, late = world.run(10.0)
    assert len(late) == 200
    assert max(late) <= ON_TIME


def test_who_has_taken_over_gives_way_to_the_first_when_it_is_back(world):
    first = world.living[0]
    world.end(0)
    world.run(5.0)
    assert world.living[1].takes_over

    world.living = {0: first, **world.living}
    world.run(5.0)
    asked, late = world.run(10.0)

    assert not world.living[1].takes_over
    assert asked.count("tick") == len(late) == 200
    assert max(late) <= ON_TIME


def test_changes_that_come_without_end_are_read_all_the_same(world, monkeypatch):
    last, read = world.living[WORKERS - 1], []
    monkeypatch.setattr(last, "refresh", lambda: (read.append(1), Scheduler.refresh(last)))
    for _ in range(100):
        last.on_notice(["schedules"])
        world.run(0.05)

    assert 2 <= len(read) <= 5 / LONGEST_STEP


def test_a_server_that_shows_an_earlier_time_is_not_asked_all_the_time(monkeypatch):
    world = World(monkeypatch, workers=1, schedules=1)
    real, world.store.now = world.server_ms, lambda: real() - 3000  # its clock was set back
    asked, late = world.run(13.0)

    assert len(late) == 1
    assert asked.count("tick") <= 1 + 3 / LONGEST_EARLY + 1


def test_a_schedule_that_fails_where_others_have_fired_it_stops_no_other(monkeypatch, caplog):
    world = World(monkeypatch, workers=2, schedules=3)
    broken = world.living[1].watched["s001"]

    def fails(moment):
        raise ConfigError("not a moment")

    object.__setattr__(broken.timing, "next_after", fails)
    with caplog.at_level(logging.ERROR):
        world.run(1.5 * PAUSE)
    world.end(0)
    world.run(20.0)

    assert "schedule s001 cannot run, and is tried again: not a moment" in caplog.text
    assert {name for name, moment in world.store.moments.items() if moment < world.server_ms()} == {
        "s001"
    }
