"""Census, rows of what is not in this version: importing it works, using it is refused by name."""

import importlib
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from streamq import every
from streamq.celery import chain, chord, group, signature
from streamq.celery.contrib.testing.worker import start_worker
from streamq.celery.schedules import crontab, schedule
from streamq.context import NotInThisVersion
from streamq.errors import ConfigError


@pytest.fixture
def add(app):
    return app.task(lambda x, y=0: x + y, name="add")


def refused(*acts):
    """Each of these is refused with the words."""
    for act in acts:
        with pytest.raises(NotInThisVersion, match="not in this version"):
            act()


def test_row_10_canvas(add):
    call = signature("add", (1, 2))

    refused(
        lambda: chain(call, call),
        lambda: group([call]),
        lambda: chord([call], call),
        lambda: call | call,
        lambda: call.link(call),
        lambda: call.on_error(call),
        lambda: add.chunks([(1, 2)], 10),
        lambda: add.starmap([(1, 2)]),
        lambda: add.map([1]),
    )


def test_row_12_periodic_tasks_are_schedules(app, add):
    app.conf.beat_schedule = {"often": {"task": "add", "schedule": 30.0, "args": (1, 2)}}
    app.add_periodic_task(crontab(minute="*/5"), add.s(1), name="rarely", expires=10)

    often, rarely = app.schedules
    assert (often.name, often.when, often.call.args) == ("often", every("30s"), (1, 2))
    assert (rarely.name, str(rarely.when)) == ("rarely", "*/5 * * * *")
    assert rarely.call.options["expires"] == 10


def test_row_13_crontab_knows_its_next_moment():
    when = crontab(
        minute="*/15",
        hour="7,19",
        day_of_week="mon-fri",
        day_of_month="1",
    )

    assert when == pickle.loads(pickle.dumps(when))
    assert when.hour == {7, 19}
    assert str(crontab()) == "* * * * *"
    assert schedule(timedelta(minutes=1)) == schedule(60)
    begin = datetime(2026, 12, 1, 7, 45, tzinfo=UTC)
    assert when.next_after(begin) == datetime(2026, 12, 1, 19, tzinfo=UTC)


def test_row_27_inspect_and_control(app):
    assert app.control.ping(timeout=1) == []
    assert app.control.inspect().ping() is None
    with start_worker(app) as worker:
        assert app.control.ping() == [{worker.hostname: {"ok": "pong"}}]
        assert app.control.inspect([worker.hostname]).ping() == {worker.hostname: {"ok": "pong"}}
    assert app.control.purge() == 0
    refused(
        app.control.inspect().active,
        app.control.inspect().reserved,
        app.control.inspect().scheduled,
        app.control.inspect().stats,
        app.control.inspect().active_queues,
        app.control.inspect().registered,
        app.control.shutdown,
        lambda: app.control.broadcast("pool_restart"),
        lambda: app.control.rate_limit("add", "1/m"),
    )


def test_row_28_django_celery_beat(app):
    app.conf.beat_scheduler = "django_celery_beat.schedulers:DatabaseScheduler"

    told = " ".join(app.conf.notes())
    assert "not fired: the schedules of django_celery_beat.schedulers:Data" in told


def test_row_41_group(add):
    refused(lambda: group(add.s(1), add.s(2)), lambda: group(add.s(n) for n in range(3)))


@pytest.mark.parametrize(
    "name", ["streamq.celery.worker", "streamq.celery.bootsteps", "streamq.celery.app.trace"]
)
def test_row_45_internals_of_celery_are_not_there(app, name):
    with pytest.raises(ImportError):
        importlib.import_module(name)
    with pytest.raises(NotInThisVersion, match=r"not in this version: app.steps\n  → "):
        _ = app.steps


def test_row_69_revoke_of_one_id_and_of_many(app, add):
    results = [add.delay(n) for n in range(3)]

    app.control.revoke(results[0].id)
    app.control.revoke([each.id for each in results[1:]], terminate=True, signal="SIGKILL")

    assert [each.state for each in results] == ["REVOKED"] * 3
    assert results[0].ready()


def test_row_76_chain(add):
    refused(
        lambda: chain(add.s(1), add.s(2)),
        lambda: add.s(1) | add.s(2),
        lambda: add.s(1) | None,
        lambda: chain([add.s(1)]).apply_async(),
    )


def test_row_78_link_and_link_error(add):
    for options in ({"link": add.s(1)}, {"link_error": add.s(1)}, {"link_error": [add.s(1)]}):
        with pytest.raises(ConfigError, match="not in this version: link"):
            add.apply_async((1,), **options)
    refused(lambda: add.s(1).on_error(add.s(2)))
    assert add.apply_async((1,), link=None, link_error=None).state == "PENDING"


def test_row_85_chord(add):
    refused(
        lambda: chord([add.s(1)])(add.s(2)),
        lambda: chord(group(add.s(1)), add.s(2)),
        lambda: group(add.s(1)) | add.s(2),
    )
