"""Schedules of several versions of the code, of several apps, and of old time zone data."""

import logging
import re

import pytest

from streamq import cron, every
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


def test_what_waits_for_its_jitter_waits_on_when_new_code_comes(make_app, redis, supervisor):
    apps = make_app(), make_app()
    for app, word in zip(apps, ("old", "new"), strict=True):
        app.schedule("nightly", "add", every("24h"), (word,), jitter="48h")
    timing = supervisor(apps[0]).watched["nightly"].timing
    due = timing.due(today())
    make_due(apps[0], redis, "nightly", due)

    assert supervisor(apps[1]).watched["nightly"].due == due


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
