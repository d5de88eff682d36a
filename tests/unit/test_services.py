"""The list of a supervisor's services: what runs when, and who learns of what; time by hand."""

import logging
from itertools import pairwise
from types import SimpleNamespace

import pytest

from streamq.errors import BrokerUnavailable
from streamq.transport.replies import Refused
from streamq.worker.lease_view import LeaseViews
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.heartbeat import Heartbeat
from streamq.worker.services.notices import Notices
from streamq.worker.services.service import CHECK, EACH_ROUND, Service
from streamq.worker.services.services import LOG_AGAIN, Services

LEASE = 15.0


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    for module in ("service", "services", "heartbeat"):
        monkeypatch.setattr(f"streamq.worker.services.{module}.clock", clock)
    return clock


def list_of(*services):
    """The list of these services."""
    made = Services(LEASE)
    made.add(*services)
    return made


class Renewing(Service):
    """Renews every third of a lease."""

    urgent = True
    moment = 0.0

    def __init__(self, clock):
        self.clock, self.renewals = clock, []

    def run(self):
        self.renewals.append(self.clock.now)
        self.moment = self.clock.now + LEASE / 3


class Late(Service):
    """Has always more to do; a portion of it takes two seconds."""

    moment = EACH_ROUND

    def __init__(self, clock):
        self.clock = clock

    def run(self):
        for _ in range(100):
            self.clock.now += 2.0
            if self.time_is_up():
                break


def test_services_that_are_late_delay_no_renewal_by_more_than_a_sixth_of_a_lease(clock):
    renewing, end = Renewing(clock), clock.now + 20 * LEASE
    services = list_of(Late(clock), renewing, *(Late(clock) for _ in range(5)))

    while clock.now < end:
        services.run_due()

    pauses = [after - before for before, after in pairwise(renewing.renewals)]
    assert max(pauses) <= LEASE / 3 + LEASE / 6, "renewed late"


class Noting(Service):
    """Notes what it learns and when it runs."""

    def __init__(self, name="it", notes=None):
        self.name = name
        self.notes = [] if notes is None else notes
        self.error = None

    def note(self, what, *details):
        self.notes.append((self.name, what, *details))
        if self.error:
            raise self.error

    def begin(self):
        self.note("begin")

    def run(self):
        self.note("run")

    def on_renewal(self, news):
        self.note("renewal", news)

    def on_notice(self, words):
        self.note("notice", *words)

    def on_exit(self, ended, *, stopped):
        self.note("exit", ended, stopped)

    def on_disconnect(self):
        self.note("disconnect")

    def finish(self):
        self.note("finish")

    def fileno(self):
        return 0


def test_a_service_that_is_added_learns_of_everything_and_runs_when_it_is_due(clock):
    added = Noting()
    services = list_of(Noting("other"), added)

    services.begin()
    services.on_renewal("news")
    services.on_notice(["due", "1"])
    services.on_exit("a runner", stopped=True)
    services.on_disconnect()
    services.run_due()  # not due yet
    added.moment = clock.now
    services.run_due()
    services.finish()

    assert [rest for name, *rest in added.notes] == [
        ["begin"],
        ["renewal", "news"],
        ["notice", "due", "1"],
        ["exit", "a runner", True],
        ["disconnect"],
        ["run"],
        ["finish"],
    ]


class Redis:
    """A Redis that renews leases, and has sent a notice."""

    def __init__(self, clock):
        self.clock, self.error = clock, None

    def renew(self, node, consumers, about):
        if self.error:
            raise self.error
        now = self.clock.now
        return SimpleNamespace(now=now, sent=now, received=now, consumers=consumers)

    def notices(self):
        return [["due", "1"]]

    def listen(self):
        pass


def test_renewals_and_notices_come_from_services_of_the_same_list(clock, caplog):
    redis, added, services = Redis(clock), Noting(), Services(LEASE)
    report = SimpleNamespace(node="node", fields=lambda *_: {})
    processes = SimpleNamespace(children={}, cannot_start=0)
    dead = CrashRecovery(None, None, None)
    heartbeat = Heartbeat(redis, report, LeaseViews(LEASE), processes, dead, services)
    services.add(heartbeat, added, Notices(redis, services))

    services.run_due()
    assert [what for _, what, *_ in added.notes] == ["renewal", "notice"]
    assert heartbeat.due() == clock.now + LEASE / 3
    processes.cannot_start = 1
    assert heartbeat.due() < clock.now, "commands that list workers show it"

    redis.error = Refused("WRONGTYPE the leases are not ours")
    services.run_due()

    assert [what for _, what, *_ in added.notes][2:] == ["disconnect", "notice"]
    assert heartbeat.due() == clock.now + services.retry_interval
    assert "is tried again: Heartbeat.run: WRONGTYPE" in caplog.text


def test_the_worker_is_shown_when_all_others_have_begun_and_until_they_have_finished(clock):
    notes = []
    showing, other = Noting("showing", notes), Noting("other", notes)
    showing.urgent = True
    services = list_of(showing, other)

    services.begin()
    services.finish()

    assert [name for name, _ in notes] == ["other", "showing", "other", "showing"]


def test_a_service_that_raises_stops_no_other_is_logged_once_and_tried_again_later(clock, caplog):
    odd, other = Noting(), Noting()
    odd.moment, other.moment = clock.now, EACH_ROUND
    odd.error = KeyError("odd data")
    services = list_of(odd, other)

    with caplog.at_level(logging.ERROR, logger="streamq.worker"):
        services.run_due()
        assert services.next_moment() == clock.now + CHECK
        services.run_due()  # at once: too soon for the odd one
        clock.now += CHECK
        services.run_due()

    assert (len(odd.notes), len(other.notes)) == (2, 3)
    (said,) = caplog.messages
    assert said.endswith("failed, and is tried again: Noting.run: 'odd data'")
    assert caplog.records[0].exc_info, "it may be a mistake of ours"
    clock.now += LOG_AGAIN + 1
    services.run_due()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("error", [KeyError("odd data"), BrokerUnavailable("away")])
def test_news_that_one_cannot_take_reach_the_others(clock, caplog, error):
    odd, other = Noting(), Noting()
    odd.error = error
    services = list_of(odd, other)

    services.on_renewal("news")
    services.on_notice(["due", "1"])
    services.on_exit("a runner", stopped=False)
    services.on_disconnect()

    assert [what for _, what, *_ in other.notes] == ["renewal", "notice", "exit", "disconnect"]
    assert "Noting.on_renewal" in caplog.text


def test_a_service_that_does_not_say_when_it_is_due_stops_no_other(clock, caplog):
    odd, other = Noting(), Noting()
    odd.moment, other.moment = None, EACH_ROUND
    services = list_of(odd, other)

    for _ in range(3):
        services.run_due()
        assert services.next_moment() > clock.now

    assert other.notes == [("it", "run")] * 3
    assert caplog.text.count("TypeError") == 1, "logged once, with its traceback"


def test_while_redis_is_away_those_run_that_do_not_need_it(clock, caplog):
    asking, after, without = Noting(), Noting(), Noting()
    for each in (asking, after, without):
        each.moment = EACH_ROUND
    without.needs_redis = False
    asking.error = BrokerUnavailable("Redis is away\nis it up?")
    services = list_of(asking, after, without)

    services.run_due()
    services.run_due()

    assert [what for _, what in asking.notes] == ["run", "disconnect"]
    assert [what for _, what in after.notes] == ["disconnect"]
    assert [what for _, what in without.notes] == ["disconnect", "run", "run"]
    assert services.next_moment() == clock.now + services.retry_interval
    assert services.waited_for() == [without], "a broken connection ends no sleep"

    clock.now += services.retry_interval
    services.run_due()
    asking.error = None
    clock.now += services.retry_interval
    services.run_due()

    assert after.notes[-1][1] == "run"
    assert services.waited_for() == [asking, after, without]
    assert [text for text in caplog.messages if "trying again" in text] == [
        "Redis is away; trying again"
    ]
