"""Census, rows about tasks: options of the decorator, what a running task has, and its hooks."""

import logging

import pytest

from streamq.celery import Task
from streamq.celery.contrib.testing.worker import start_worker
from streamq.celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerShutdown,
)
from streamq.celery.utils.log import get_task_logger
from streamq.errors import ConfigError


@pytest.fixture
def seen():
    return []


@pytest.fixture
def failing(app):
    """Makes a task with these options that raises KeyError."""

    def make(**options):
        @app.task(name="failing", **options)
        def fails():
            raise KeyError("gone")

        return fails

    return make


def test_row_9_the_name_of_a_task(app, streams):
    task = app.task(name="shop.mail")(lambda: None)

    assert (task.name, app.tasks["shop.mail"]) == ("shop.mail", task)


def test_row_11_bind(app, drain):
    @app.task(bind=True)
    def look(self, x):
        return [self.name, self.request.task, x]

    result = look.delay(1)
    drain(app)

    assert result.get(timeout=5) == [look.name, look.name, 1]


def test_row_17_exceptions(app):
    assert issubclass(SoftTimeLimitExceeded, Exception)
    assert issubclass(NotRegistered, KeyError)
    kinds = (TimeLimitExceeded, MaxRetriesExceededError, TaskRevokedError, Ignore, Reject, Retry)
    assert all(issubclass(kind, Exception) for kind in kinds)
    assert issubclass(WorkerShutdown, SystemExit)
    with pytest.raises(NotRegistered):
        _ = app.tasks["nobody.knows"]


def test_row_21_retry_options(app, seen):
    @app.task(
        bind=True, autoretry_for=(KeyError,), max_retries=2, default_retry_delay=0,
        retry_backoff=False, retry_jitter=False,
    )  # fmt: skip
    def flaky(self):
        seen.append(self.request.retries)
        raise KeyError("again")

    with start_worker(app), pytest.raises(KeyError):
        flaky.delay().get(timeout=5)

    assert seen == [0, 1, 2]


def test_row_24_the_id_in_the_request(app, drain):
    result = app.task(bind=True, name="t")(lambda self: self.request.id).delay()
    drain(app)

    assert result.get(timeout=5) == result.id


def test_row_29_hooks(app, seen, drain):
    class Hooks(Task):
        def __call__(self, *args, **kwargs):
            seen.append("call")
            return super().__call__(*args, **kwargs)

        def before_start(self, task_id, args, kwargs):
            seen.append(("before_start", task_id, args, kwargs))

        def on_success(self, retval, task_id, args, kwargs):
            seen.append(("on_success", retval))

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            seen.append(("on_failure", exc, "KeyError" in str(einfo), einfo.exception is exc))

        def on_retry(self, exc, task_id, args, kwargs, einfo):
            seen.append(("on_retry", exc))

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            seen.append(("after_return", status, retval))

    error = KeyError("x")

    @app.task(base=Hooks, bind=True, max_retries=1)
    def work(self, how):
        if how == "retry":
            raise self.retry(exc=error, countdown=600)
        if how == "fail":
            raise error
        return how

    ids = [work.delay(how).id for how in ("good", "fail", "retry")]
    drain(app)

    assert [seen[:4], seen[4:8], seen[8:]] == [
        [("before_start", ids[0], ("good",), {}), "call", ("on_success", "good"),
         ("after_return", "SUCCESS", "good")],
        [("before_start", ids[1], ("fail",), {}), "call", ("on_failure", error, True, True),
         ("after_return", "FAILURE", error)],
        [("before_start", ids[2], ("retry",), {}), "call", ("on_retry", error)],
    ]  # fmt: skip


def test_row_34_self_retry(app, seen):
    @app.task(bind=True)
    def flaky(self):
        seen.append(self.request.retries)
        try:
            raise KeyError("x")
        except KeyError as error:
            raise self.retry(exc=error, countdown=0, max_retries=1) from error

    with start_worker(app), pytest.raises(KeyError):
        flaky.delay().get(timeout=5)
    assert seen == [0, 1]


def test_row_34_self_retry_with_other_arguments(app):
    @app.task(bind=True)
    def half(self, x, parts=()):
        if x > 1:
            raise self.retry(args=[x // 2], kwargs={"parts": [*parts, x]}, countdown=0)
        return parts

    with start_worker(app):
        assert half.delay(8).get(timeout=5) == [8, 4, 2]


def test_row_35_soft_time_limit(app, drain):
    @app.task(bind=True, time_limit=30, soft_time_limit=20)
    def look(self):
        return self.request.timelimit

    result = look.delay()
    drain(app)

    assert result.get(timeout=5) == [30, 20]
    assert (look.time_limit, look.soft_time_limit) == (30, 20)


def test_row_53_time_limit(app):
    task = app.task(lambda: None, name="t", time_limit=30)

    assert task.time_limit == 30
    assert app.task(lambda: None, name="none").time_limit == 0  # Celery's default: none


def test_row_36_get_task_logger(app, drain, caplog):
    logger = get_task_logger("proj.tasks")

    @app.task
    def say():
        logger.info("said")

    say.delay()
    with caplog.at_level(logging.INFO, "proj.tasks"):
        drain(app)

    assert logger.name == "proj.tasks"
    assert "said" in caplog.text


def test_row_43_ignore_result(app, drain):
    result = app.task(lambda: 1, name="t", ignore_result=True).delay()
    drain(app)

    assert (result.state, result.get(timeout=5)) == ("PENDING", None)


def test_row_44_max_retries(app, seen):
    @app.task(bind=True, max_retries=1, default_retry_delay=0)
    def again(self):
        seen.append(self.request.retries)
        self.retry()

    with start_worker(app), pytest.raises(MaxRetriesExceededError):
        again.delay().get(timeout=5)
    assert (seen, again.max_retries) == ([0, 1], 1)


def test_row_47_request_attributes(app, seen):
    @app.task(bind=True, max_retries=4)
    def look(self):
        request = self.request
        request.chain = None  # IntelOwl ends the rest of a chain so
        seen.append(
            (request.delivery_info["routing_key"], request.delivery_info["exchange"],
             request.called_directly, request.is_eager, self.max_retries,
             unbound.request.id, look.request.id == request.id)
        )  # fmt: skip

    @app.task
    def unbound():
        seen.append((unbound.request.id, unbound.request.called_directly))

    with start_worker(app, queues=["celery", "mail"]):
        look.apply_async(queue="mail").get(timeout=5)
        result = unbound.delay()
        result.get(timeout=5)
    look()
    look.apply()

    assert seen == [
        ("mail", "", False, False, 4, None, True),
        (result.id, False),
        (None, None, True, False, 4, None, True),
        (None, None, False, True, 4, None, True),
    ]


def test_row_47_a_function_that_is_called_has_no_id(app, seen):
    task = app.task(name="t", bind=True)(lambda self: seen.append(self.request.id))
    task()
    result = task.apply()

    assert seen == [None, result.id]


def test_row_48_autoretry_for(app, seen):
    @app.task(autoretry_for=(OSError,), max_retries=3, default_retry_delay=0)
    def flaky():
        seen.append(1)
        if len(seen) < 3:
            raise ConnectionError
        return len(seen)

    with start_worker(app):
        assert flaky.delay().get(timeout=5) == 3


def test_row_49_retry_backoff(app, redis, drain):
    task = app.task(
        name="t", bind=True, autoretry_for=(KeyError,), retry_backoff=100, retry_jitter=False,
        retry_backoff_max=600,
    )(lambda self: {}["x"])  # fmt: skip
    result = task.delay()
    drain(app)

    assert result.state == "RETRY"
    assert isinstance(result.info, KeyError)
    assert task.retry_backoff == 100


def test_row_51_the_queue_of_a_task(app, streams):
    task = app.task(name="t", queue="mail")(lambda: None)
    task.delay()
    task.apply_async(queue="other")

    assert task.queue == "mail"
    assert streams(app) == {"mail": 1, "other": 1}


def test_row_63_other_attributes_of_a_task(app, drain, caplog):
    task = app.task(name="t", trail=False, interval_start=0, my_own="x")(lambda: 1)
    likely = app.task(name="typo", ignore_results=True)(lambda: 1)
    result = task.delay()
    drain(app)

    assert result.get(timeout=5) == 1
    assert (task.trail, task.interval_start, task.my_own) == (False, 0, "x")
    assert likely.ignore_results
    assert "ignore_results is no option" in caplog.text
    assert "is ignore_result meant?" in caplog.text


def test_row_64_request_retries(app, seen):
    @app.task(bind=True)
    def twice(self):
        seen.append(self.request.retries)
        if self.request.retries == 0:
            self.retry(countdown=0)

    with start_worker(app):
        twice.delay().get(timeout=5)
    twice.apply(retries=3)

    assert seen == [0, 1, 3]


def test_row_67_retry_kwargs(app, seen):
    @app.task(bind=True, autoretry_for=(KeyError,), retry_kwargs={"max_retries": 1, "countdown": 0})
    def fails(self):
        seen.append(self.request.retries)
        raise KeyError("x")

    with start_worker(app), pytest.raises(KeyError):
        fails.delay().get(timeout=5)
    assert seen == [0, 1]


def test_row_68_acks_late_by_setting_and_option(make):
    app = make()
    early, late = (
        app.task(name="early")(lambda: 1),
        app.task(name="late", acks_late=True)(lambda: 1),
    )

    assert (early.acks_late, late.acks_late) == (False, True)
    assert "ack early (Celery's default; acks_late=True is streamq's)" in " ".join(app.conf.notes())
    app.conf.task_acks_late = True
    assert early.acks_late


def test_row_83_throws(app, failing, drain, caplog):
    task = failing(throws=(KeyError,))
    result = task.delay()
    with caplog.at_level(logging.INFO):
        drain(app)

    assert result.state == "FAILURE"
    lines = [each for each in caplog.records if "KeyError" in each.getMessage()]
    assert lines
    assert {(each.levelname, each.exc_info) for each in lines} == {("INFO", None)}


def test_row_86_async_functions(app):
    with pytest.raises(ConfigError, match="not in this version"):

        @app.task
        async def later():
            pass
