"""Schedules of several versions of the code, of several apps, and of old time zone data."""

import logging
import random
import re
import struct
import zoneinfo
from collections import Counter
from datetime import UTC, datetime

import pytest

from streamq import at, cron, every
from streamq.core.ticks import millis
from streamq.host import clock
from tests.integration.test_schedules import (
    HOUR,
    make_due,
    sent,
)

DAY = 24 * HOUR


@pytest.fixture
def versions(make_app):
    """Two versions of an app, with another cron and another argument each."""

    def versions(old="0 1 * * *", new="0 2 * * *"):
        apps = make_app(), make_app()
        for app, text, word in zip(apps, (old, new), ("old", "new"), strict=True):
            app.schedule("nightly", "add", cron(text), (word,))
        return apps

    return versions


def fire(app, redis, services, moment):
    """Let a moment be due just now, and all supervisors look twice; the arguments of what is sent.

    They know it as if nothing had changed.
    """
    before = len(sent(app, redis))
    make_due(app, redis, "nightly", moment)
    for service in services:
        service.server_ms = lambda: moment
        service.watched["nightly"].due = moment
    for service in services * 2:
        service.run()
    return [message["args"] for message in sent(app, redis)[before:]]


def today():
    return int(clock.time()) * 1000 // DAY * DAY


def test_in_rolling_turns_the_newest_start_counts(versions, redis, supervisor, caplog):
    app, newer = versions()
    old = supervisor(app)
    moment = today() - HOUR
    assert fire(app, redis, [old], moment) == ['["old"]']

    new = supervisor(newer)
    assert fire(app, redis, [old, new], moment + 1000) == ['["new"]']
    assert fire(app, redis, [new, old], moment + 2000) == ['["new"]']

    caplog.clear()
    late = supervisor(app)
    (line,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert re.fullmatch(
        r"schedule nightly: cron.*1 \* .*replaces cron.* 2 \* .*older version.*", line
    )
    assert fire(app, redis, [new, late], moment + 3000) == ['["old"]']
    assert fire(app, redis, [late, new], moment + 4000) == ['["old"]']

    new = supervisor(newer)
    assert fire(app, redis, [late, new], moment + 5000) == ['["new"]']
    ids = [message["id"] for message in sent(app, redis)]
    assert len(set(ids)) == len(ids) == 6


def test_with_a_revision_old_code_that_starts_late_stands_back(versions, redis, supervisor, caplog):
    app, newer = versions()
    new = supervisor(newer, order=2)
    caplog.clear()

    late = supervisor(app, order=1)

    (line,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert re.fullmatch(r"schedule nightly: cron.*2 \* .*stays.*; not cron.* 1 \* .*", line)
    for services in ([late, new], [new, late]):
        moment = today() - HOUR + len(sent(app, redis)) * 1000
        assert fire(app, redis, services, moment) == ['["new"]']
    assert late.watched["nightly"].stands_back


@pytest.mark.parametrize(
    ("new", "stays"),
    [("30 0 * * *", True), ("30 0,12 * * *", True), ("45 0 * * *", False)],
    ids=["the same cron", "one that has the moment too", "another cron"],
)
def test_what_was_due_before_new_code_came_is_not_lost(versions, redis, supervisor, new, stays):
    """All workers are replaced while a moment passes: nobody has sent it."""
    app, newer = versions(old="30 0 * * *", new=new)
    supervisor(app)
    moment = today() - DAY + HOUR // 2
    make_due(app, redis, "nightly", moment)

    service = supervisor(newer)
    service.run()

    messages = [(each["args"], each.get("missed")) for each in sent(app, redis)]
    assert len(messages) == stays
    assert all(args == '["new"]' for args, _ in messages)
    assert redis.zscore(app.broker.keys.schedules, "nightly") > clock.time() * 1000


def test_what_has_been_sent_meanwhile_is_not_due_again(versions, redis, supervisor, monkeypatch):
    """Another worker fires a moment between the look and the declaration of new code."""
    app, newer = versions(old="30 0 * * *", new="30 0 * * *")
    old = supervisor(app)
    make_due(app, redis, "nightly", today() - DAY + HOUR // 2)
    old.refresh()
    declare = newer.schedules.store.__class__.declare

    def late(store, *args, **named):
        old.run()
        return declare(store, *args, **named)

    monkeypatch.setattr(newer.schedules.store.__class__, "declare", late)
    new = supervisor(newer)

    assert [each["args"] for each in sent(app, redis)] == ['["old"]']
    assert new.watched["nightly"].due > clock.time() * 1000


def test_a_single_moment_that_was_due_before_new_code_came_is_not_lost(make_app, redis, supervisor):
    moment, apps = today() - HOUR, (make_app(), make_app())
    for app, word in zip(apps, ("old", "new"), strict=True):
        when = at(datetime.fromtimestamp(moment / 1000, UTC))
        app.schedule("nightly", "add", when, (word,))
    supervisor(apps[0])
    make_due(apps[0], redis, "nightly", moment)  # it was declared before that

    supervisor(apps[1]).run()

    assert [each["args"] for each in sent(apps[0], redis)] == ['["new"]']


def test_what_was_due_before_it_was_added_again_is_not_lost(app, redis, supervisor):
    for word in ("old", "new"):
        app.schedules.add("nightly", "add", every("24h"), (word,), queue="default")
        make_due(app, redis, "nightly", today())
    app.schedules.add("nightly", "add", every("24h"), ("newest",), queue="default")

    service = supervisor(app)
    service.run()

    assert [each["args"] for each in sent(app, redis)] == ['["newest"]']


def test_what_waits_for_its_jitter_waits_on_when_new_code_comes(make_app, redis, supervisor):
    apps = make_app(), make_app()
    for app, word in zip(apps, ("old", "new"), strict=True):
        app.schedule("nightly", "add", every("24h"), (word,), jitter="48h")
    timing = supervisor(apps[0]).watched["nightly"].timing
    due = timing.due(today())
    make_due(apps[0], redis, "nightly", due)

    assert supervisor(apps[1]).watched["nightly"].due == due


def test_a_class_that_fails_for_what_is_due_keeps_no_worker_from_starting(
    make_app, redis, supervisor
):
    class Broken:
        def next_after(self, moment):
            if moment.year < 2000:
                raise ValueError("no idea")
            return datetime(2100, 1, 1, tzinfo=UTC)

        def __repr__(self):
            return "broken"

    apps = make_app(), make_app()
    for app, word in zip(apps, ("old", "new"), strict=True):
        app.schedule("broken", "add", Broken(), (word,))
    supervisor(apps[0])
    make_due(apps[0], redis, "broken", DAY)

    assert supervisor(apps[1]).watched["broken"].due == 4_102_444_800_000


def test_two_apps_fire_their_own(make_app, redis, supervisor):
    apps = make_app(), make_app()
    for app, word in zip(apps, ("one", "two"), strict=True):
        app.schedule(word, f"{word}.task", every("24h"), (word,))
    services = [supervisor(app) for app in apps]
    for word in ("one", "two"):
        make_due(apps[0], redis, word, today() - DAY)
    for service in services * 2:
        service.refresh()
        service.run()

    assert [sorted(service.watched) for service in services] == [["one"], ["two"]]
    found = [(each["task"], each["args"]) for each in sent(apps[0], redis)]
    assert sorted(found) == [("one.task", '["one"]'), ("two.task", '["two"]')]
    assert sorted(each.name for each in apps[1].schedules.stored()) == ["one", "two"]

    make_due(apps[0], redis, "two", today() - 2 * DAY)
    services[0].refresh()
    services[0].run()
    assert len(sent(apps[0], redis)) == 2


# Time zone data of two ages

#: A zone that has summer time from a Sunday in March, or from one in April a week later.
NEWER, OLDER = b"CET-1CEST,M3.5.0,M10.5.0/3", b"CET-1CEST,M4.1.0,M10.5.0/3"
SPRING = datetime(2026, 3, 26, tzinfo=UTC)


def zone_data(rule):
    """A file of a time zone that has nothing but a rule."""
    head = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4)
    body = struct.pack(">lbB4s", 3600, 0, 0, b"CET\0")
    return head + body + head + body + b"\n" + rule + b"\n"


@pytest.fixture
def of_two_ages(make_app, supervisor, tmp_path):
    """Two supervisors of one schedule, of which one has older data of its time zone."""

    def of_two_ages(text, **rules):
        found = []
        for number, rule in enumerate((NEWER, OLDER)):
            folder = tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            (folder / "Utopia").write_bytes(zone_data(rule))
            zoneinfo.reset_tzpath([folder])
            zoneinfo.ZoneInfo.clear_cache()
            app = make_app()
            app.schedule("nightly", "add", cron(text, tz="Utopia"), **rules)
            found.append(supervisor(app))
        return app, found

    yield of_two_ages
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


def play(app, redis, services, orders, monkeypatch):
    """Let two weeks pass for these supervisors, who look every ten minutes, each time in an order.

    Returns the moments that were sent.
    """
    key = app.broker.keys.schedules
    first = services[0].watched["nightly"].timing.first_due(millis(SPRING))
    redis.zadd(key, {"nightly": first})
    now = 0
    for service in services:
        monkeypatch.setattr(service, "server_ms", lambda: now)
    for step in range(14 * 144):
        now = millis(SPRING) + step * HOUR // 6
        if redis.zscore(key, "nightly") <= now:
            for service in orders(step, services):
                service.refresh()
                service.run()
    ticks = [int(message["tick"]) for message in sent(app, redis)]
    assert not any("missed" in message for message in sent(app, redis))
    return ticks


def moments(service):
    """The moments of these two weeks by the data of one supervisor."""
    found, timing = [], service.watched["nightly"].timing
    end = millis(SPRING) + 14 * DAY - HOUR // 6
    while (moment := timing.next_after(found[-1] if found else millis(SPRING))) <= end:
        found.append(moment)
    return found


ORDERS = {
    "the newer first": lambda step, services: services,
    "the older first": lambda step, services: services[::-1],
    "at random": lambda step, services: random.Random(step).sample(services, 2),
    "one at a time": lambda step, services: random.Random(step).sample(services, 1),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", ["30 2 * * *", "*/30 * * * *", "0 1-4 * * *", "0 0 * * *"])
def test_time_zone_data_of_two_ages(of_two_ages, redis, monkeypatch, text, order):
    """A moment of one of the two is sent once, and no day is without one."""
    app, services = of_two_ages(text)
    newer, older = map(moments, services)

    ticks = play(app, redis, services, ORDERS[order], monkeypatch)

    assert newer == older if text.startswith("*") else newer != older
    assert ticks == sorted(set(ticks))
    assert set(newer) & set(older) <= set(ticks) <= set(newer) | set(older)
    assert {tick // DAY for tick in ticks} == {moment // DAY for moment in newer}
    for first, expected in (("the newer first", newer), ("the older first", older)):
        if order == first:
            assert ticks == expected


@pytest.mark.parametrize("order", ORDERS)
def test_time_zone_data_of_two_ages_with_jitter(of_two_ages, redis, monkeypatch, order):
    """Who does not know a moment takes it as it is due; each day has one, or two that differ."""
    app, services = of_two_ages("30 2 * * *", jitter="3h")

    ticks = play(app, redis, services, ORDERS[order], monkeypatch)

    days = Counter(tick // DAY for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert len(days) == 14
    assert set(days.values()) <= {1, 2}
    assert [days[tick // DAY] for tick in ticks[:2] + ticks[-2:]] == [1] * 4
