"""Small rules of tasks, calls, schedules and requests that code written for Celery relies on."""

import pickle
from datetime import UTC, datetime
from uuid import UUID

import pytest

from streamq.celery import Task, schedules, shared_task
from streamq.celery.exceptions import Ignore
from streamq.celery.request import CeleryRequest
from streamq.celery.signals import SignalNotSent, task_success
from streamq.context import Request
from streamq.errors import ConfigError


def plain(x=None):
    return x


# Options


def test_attributes_of_celerys_tasks_are_not_taken_for_mistakes(app, caplog):
    task = app.task(name="t", store_eager_result=True, exchange_type="topic")(plain)

    assert (task.store_eager_result, task.exchange_type) == (True, "topic")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"countdown": -3}, {"countdown": 0}),
        ({"task_id": UUID(int=1)}, {"task_id": str(UUID(int=1))}),
        ({"queue": "q", "exchange": "e", "routing_key": "k"},
         {"exchange": "e", "routing_key": "k"}),
        ({"queue": "q", "routing_key": "k"}, {"queue": "q"}),
    ],
    ids=str,
)  # fmt: skip
def test_options_of_a_call_mean_what_they_mean_to_celery(app, given, taken):
    task = app.task(name="t")(plain)

    assert dict(app.call_of(task.s().set(**given)).options) == taken


# Eager runs


def test_an_eager_task_that_raises_ignore_has_no_result(app):
    @app.task
    def ignored():
        raise Ignore

    result = ignored.apply()

    assert (result.state, result.successful(), result.get()) == ("IGNORED", False, result.result)


def test_a_retry_with_other_arguments_gives_them_to_the_eager_task(app):
    @app.task(bind=True)
    def again(self, x, y=0):
        told.append((x, y))
        if not self.request.retries:
            self.retry(args=[2], kwargs={"y": 3}, countdown=0)

    told = []
    again.apply((1,))

    assert told == [(1, 0), (2, 3)]


def test_an_eta_of_a_retry_goes_before_its_countdown(app):
    @app.task(bind=True)
    def again(self):
        if not self.request.retries:
            self.retry(eta=datetime(2026, 1, 2, tzinfo=UTC), countdown=5)
        return "done"

    assert again.apply().get() == "done"


def test_a_task_sets_the_state_of_no_other(app):
    @app.task(bind=True)
    def work(self):
        self.update_state(task_id="other", state="PROGRESS")

    with pytest.raises(ConfigError, match="of no other"):
        work.apply().get()


def test_requests_are_pushed_one_upon_the_other(app):
    task = app.task(name="t")(plain)

    task.push_request(id="1")
    task.push_request(id="2")

    assert task.request.id == "2"
    task.pop_request()
    assert task.request.id == "1"


def test_a_call_to_an_exchange_tells_its_key_and_one_to_a_queue_its_queue():
    routed = Request(id="1", task="t", queue="mail", exchange="media", routing_key="image.png")
    direct = Request(id="2", task="t", queue="mail", routing_key="mail")

    told = [CeleryRequest.of(each).delivery_info for each in (routed, direct)]

    assert [(way["exchange"], way["routing_key"]) for way in told] == [
        ("media", "image.png"),
        ("", "mail"),
    ]
    assert routed.delivery_info.items() <= told[0].items()


# Shared tasks


def test_the_tasks_of_an_app_take_in_what_is_shared_later_and_unused(app):
    assert len(app.tasks) == 0

    shared_task(name="later")(plain)

    assert list(app.tasks) == ["later"]


def test_one_function_may_be_shared_by_two_names(app):
    for name in ("one", "two"):
        shared_task(name=name)(plain)

    assert sorted(app.tasks) == ["one", "two"]


def test_a_shared_task_may_be_assigned_to_a_name_and_be_the_sender_of_a_signal(app):
    def note(sender, result, **kwargs):
        told.append(result)

    told, shared = [], shared_task(name="shared")(plain)
    app.tasks["old"] = shared
    task_success.connect(note, sender=shared)
    shared.apply((1,))
    app.task(name="other")(plain).apply((2,))
    task_success.disconnect(note, sender=shared)

    assert isinstance(app.tasks.tasks["old"], Task)
    assert type(app.tasks.tasks["old"]) is type(app.tasks["shared"])
    assert told == [1]


# Schedules


def test_fields_of_a_crontab_may_have_names_and_steps():
    found = schedules.crontab(minute="5/20", month_of_year="jan,dec", day_of_week="sat-mon")

    assert (found.minute, found.month_of_year) == ({5, 25, 45}, {1, 12})
    assert found.day_of_week == {6, 0, 1}
    every = schedules.crontab(1, 2, 3, 4, 5)
    assert str(every) == "1 2 4 5 3"
    assert pickle.loads(pickle.dumps(every)) == every


# Settings and signals


def test_objects_of_settings_add_up_and_the_last_one_wins_also_for_unknown_names(app):
    app.config_from_object({"CELERY_MINE": 1, "CELERY_ONE": 1}, namespace="celery")
    app.config_from_object({"CELERY_MINE": 2}, namespace="CELERY_")

    assert (app.conf.mine, app.conf.one) == (2, 1)


def test_a_signal_that_is_never_sent_says_so_once(caplog):
    signal = SignalNotSent("late", advice="wait")
    for _ in range(2):
        signal.connect(lambda **kwargs: None, weak=False)

    assert caplog.text.count("the signal late is never sent: wait") == 1
