"""Rows 12, 13 and 28: periodic tasks as Celery's users write them, fired by a worker."""

import importlib
from datetime import UTC, datetime, timedelta

import pytest

from streamq import every
from streamq.celery import signature
from streamq.celery.schedules import BaseSchedule, crontab, schedule, solar
from streamq.context import NotInThisVersion
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.producer.schedules import ScheduleSource
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.scheduler import Scheduler

BEGIN = datetime(2026, 12, 1, 7, 45, tzinfo=UTC)


@pytest.fixture
def fire(redis):
    """``fire(app)`` starts the scheduler of a worker, to which every schedule is due at once."""

    def fire(app):
        app.import_tasks()
        view, store = LeaseView(15.0), app.schedules.store
        view.record_answer(store.now() / 1000, sent=clock.monotonic(), now=clock.monotonic())
        service = Scheduler(store, ScheduleSource(app, app.schedules), view, order=0)
        service.begin()
        redis.zadd(app.broker.keys.schedules, dict.fromkeys(service.watched, store.now() - 10))
        service.refresh()
        service.run()
        return service.watched

    return fire


@pytest.fixture
def ran(app):
    """The arguments of each run of the task ``note``."""
    found = []

    @app.task(name="note")
    def note(*args, **kwargs):
        found.append((*args, kwargs) if kwargs else args)

    return found


def sent(app, redis, queue="celery"):
    return [fields for _, fields in redis.xrange(app.broker.keys.queue(queue))]


def test_row_12_a_worker_fires_entries_with_all_their_keys(app, ran, redis, fire, drain):
    app.conf.beat_schedule = {
        "every-30-seconds": {"task": "note", "schedule": 30.0, "args": (1, "a")},
        "timedelta": {"task": "note", "schedule": timedelta(hours=1), "kwargs": {"b": 2}},
        "whole": {"task": "note", "schedule": 60, "args": [3], "relative": True, "options": None},
        "mine": {"task": "note", "schedule": schedule(90), "relative": False, "args": None},
        "crontab": {"task": "note", "schedule": crontab(minute=0, hour="*/3"), "options": {}},
    }

    fire(app)
    drain(app)

    assert sorted(ran, key=repr) == [(), (), (1, "a"), (3,), ({"b": 2},)]


def test_row_12_options_of_an_entry_are_those_of_the_call(app, redis, fire):
    app.conf.beat_schedule = {
        "report": {
            "task": "elsewhere.report",  # which this app does not know
            "schedule": 30.0,
            "options": {"queue": "slow", "expires": 3600, "priority": 7, "headers": {"a": "b"}},
        },
        "soon": {"task": "note", "schedule": 30.0, "options": {"expires": timedelta(minutes=5)}},
    }

    fire(app)

    (report,), (soon,) = sent(app, redis, "slow"), sent(app, redis)
    assert report["task"] == "elsewhere.report"
    assert report["id"].startswith("report-20")
    now = clock.time() * 1000
    assert now + 3_590_000 < float(report["expires"]) < now + 3_610_000
    assert now + 290_000 < float(soon["expires"]) < now + 310_000
    assert "b" in report["headers"]
    assert report["priority"] == "7"


def test_row_12_entries_may_come_late_and_replace_each_other(app, ran, fire, drain):
    app.conf.beat_schedule = {"first": {"task": "note", "schedule": 30.0, "args": (1,)}}
    app.conf.beat_schedule["second"] = {"task": "note", "schedule": 30.0, "args": (2,)}
    app.conf.beat_schedule.update(third={"task": "note", "schedule": 30.0, "args": (3,)})
    app.add_periodic_task(30.0, signature("note", (4,)), name="fourth")
    app.add_periodic_task(60.0, signature("note", (5,)), name="fourth")

    watched = fire(app)
    drain(app)

    assert sorted(ran) == [(1,), (2,), (3,), (5,)]
    assert watched["fourth"].schedule.when == every("1m")


def test_row_12_functions_add_some_when_the_app_is_complete(package, broker, fire, drain):
    package("periodic_shop", **{"celery.py": SHOP_APP, "tasks.py": SHOP_TASKS})
    shop = importlib.import_module("periodic_shop.celery")
    shop.app.conf.broker_url = broker

    watched = fire(shop.app)
    drain(shop.app)

    tasks = importlib.import_module("periodic_shop.tasks")
    assert sorted(tasks.ran) == [("hello", 1), ("more", 2), ("world", 1)]
    assert [each.schedule.when for each in watched.values()] == [
        *(every("1h"), every("10s"), every("30s"), every("30s")),
    ]
    assert watched["add every 10"].schedule.call.name == "periodic_shop.tasks.note"


SHOP_APP = """
from streamq.celery import Celery
app = Celery("shop")
app.autodiscover_tasks(["periodic_shop"])

@app.on_after_configure.connect
def hourly(sender, **kwargs):
    sender.add_periodic_task(3600.0, sender.signature("elsewhere.clean"), name="hourly")
"""
SHOP_TASKS = """
from periodic_shop.celery import app
from streamq.celery import shared_task

ran = []

@shared_task
def note(text, times=1):
    ran.append((text, times))

@app.on_after_finalize.connect
def add(sender, **kwargs):
    sender.add_periodic_task(10.0, note.s("hello"), name="add every 10")
    sender.add_periodic_task(30.0, note.s("world"), expires=10)
    sender.add_periodic_task(30, note, ("more",), {"times": 2})
"""


def test_row_13_crontab_takes_names_lists_and_text():
    for when, expected in (
        (crontab(minute="0", hour="8", day_of_week="mon-fri"), "2026-12-01T08:00"),
        (crontab(minute=0, hour=[6, 18]), "2026-12-01T18:00"),
        (crontab(minute={0, 50}, hour="7"), "2026-12-01T07:50"),
        (crontab(0, 0, day_of_week="sunday"), "2026-12-06T00:00"),
        (crontab(0, 0, day_of_week=[6, "sun"]), "2026-12-05T00:00"),
        (crontab(0, 0, day_of_month="2-7,15-21"), "2026-12-02T00:00"),
        (crontab(0, 0, day_of_month=31, month_of_year="*/3"), "2027-01-31T00:00"),
        (crontab(0, 0, 1, 1, "january"), "2029-01-01T00:00"),
        (crontab(minute="*/20"), "2026-12-01T08:00"),
    ):
        found = when.next_after(BEGIN)
        assert f"{found:%Y-%m-%dT%H:%M}" == expected, when


def test_row_13_crontab_is_in_the_zone_of_the_app(make, fire):
    app = make(timezone="Asia/Tokyo")
    app.conf.beat_schedule = {"a": {"task": "note", "schedule": crontab(minute=0, hour=9)}}

    (found,) = app.schedules

    assert found.timing(app.conf.timezone).next_after(int(BEGIN.timestamp() * 1000)) == int(
        datetime(2026, 12, 2, tzinfo=UTC).timestamp() * 1000
    )


class Mornings(BaseSchedule):
    """A schedule as people write them for Celery: due when its time has passed."""

    def is_due(self, last_run_at):
        midnight = last_run_at.replace(hour=0, minute=0, second=0, microsecond=0)
        left = (midnight + timedelta(days=1, hours=6) - self.now()).total_seconds()
        return left <= 0, left if left > 0 else 60.0

    def __repr__(self):
        return "Mornings()"


def test_row_12_an_own_class_says_by_is_due_when_it_runs(app, ran, fire, drain):
    app.conf.beat_schedule = {"mornings": {"task": "note", "schedule": Mornings(), "args": (1,)}}

    watched = fire(app)
    drain(app)

    assert ran == [(1,)]
    assert Mornings().next_after(BEGIN) == datetime(2026, 12, 2, 6, tzinfo=UTC)
    assert watched["mornings"].due > clock.time() * 1000


def test_row_12_solar_is_refused_by_name(app, fire):
    when = solar("sunset", -37.81753, 144.96715)
    app.conf.beat_schedule = {"evening": {"task": "note", "schedule": when}}

    with pytest.raises(NotInThisVersion, match=r"not in this version: solar \(sunset\)"):
        fire(app)


@pytest.mark.parametrize(
    ("name", "value", "label"),
    [
        ("beat_scheduler", "celery.beat:PersistentScheduler", None),
        ("beat_scheduler", "redbeat.RedBeatScheduler", "not fired"),
        ("beat_schedule_filename", "/var/run/beat", "unused"),
        ("beat_max_loop_interval", 5, "unused"),
        ("beat_sync_every", 10, "unused"),
        ("beat_cron_starting_deadline", 60, None),
    ],
)
def test_row_28_settings_of_beat_have_a_fate_that_is_told(make, name, value, label):
    app = make(**{name: value})

    notes = " ".join(app.conf.notes())

    if label is None:
        assert name not in notes
        assert "not fired" not in notes
    else:
        assert label in notes
        assert (name if label == "unused" else value) in notes
    assert app.conf[name] == value


def test_row_12_a_mistake_in_an_entry_is_told_when_the_worker_starts(app, fire):
    for entry, words in (
        ({"schedule": 30.0}, "report has no task"),
        ({"task": "note"}, "report has no schedule"),
        ({"task": "note", "schedule": 30.0, "arg": (1,)}, "did you mean args"),
        ({"task": "note", "schedule": "soon"}, "soon"),
        ({"task": "note", "schedule": None}, "report: None does not say when"),
        ({"task": "note", "schedule": 30.0, "options": "slow"}, "options of report is 'slow'"),
        ({"task": "note", "schedule": 30.0, "kwargs": [1]}, r"kwargs of report is \[1\]"),
        ({"task": "note", "schedule": 30.0, "args": "one"}, "args of report is 'one'"),
        ({"task": "note", "schedule": 30.0, "args": 5}, "args of report is 5"),
        ("note", "report is 'note', not a mapping"),
    ):
        app.conf.beat_schedule = {"report": entry}
        with pytest.raises(ConfigError, match=words):
            fire(app)
