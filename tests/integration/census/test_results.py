"""Census, rows about results: states, values, and what ``info`` is in each of them."""

import threading
from datetime import datetime

import pytest

from streamq.celery.contrib.testing.worker import start_worker
from streamq.celery.exceptions import Ignore
from streamq.celery.result import AsyncResult
from streamq.errors import ResultTimeout, TaskError


def test_row_22_attributes_of_a_result(app, drain):
    @app.task
    def work(x):
        return 10 / x

    good, bad = work.delay(5), work.delay(0)
    for result in (good, AsyncResult("nobody-knows")):
        assert (result.state, result.status, result.info, result.result) == (
            "PENDING", "PENDING", None, None,
        )  # fmt: skip
        assert (result.traceback, result.ready(), result.date_done) == (None, False, None)
    drain(app)

    assert (good.status, good.state, good.result, good.info, good.traceback) == (
        "SUCCESS", "SUCCESS", 2.0, 2.0, None,
    )  # fmt: skip
    assert (good.ready(), good.successful(), good.failed()) == (True, True, False)
    assert isinstance(good.date_done, datetime)
    assert (bad.status, bad.failed()) == ("FAILURE", True)
    for error in (bad.result, bad.info, bad.get(propagate=False)):
        assert isinstance(error, ZeroDivisionError)
    assert "10 / x" in bad.traceback


def test_row_22_the_moment_of_the_end_is_known_to_who_waited(app, drain):
    result = app.task(lambda: 1, name="t").delay()
    drain(app)
    result.get(timeout=5)

    assert result.date_done == AsyncResult(result.id).date_done
    assert result.date_done is not None


def test_row_22_counts_by_number_are_sent_with_text_as_keys(app, drain):
    result = app.task(lambda found: found, name="t").delay({1: {2: "a"}})
    drain(app)

    assert result.get(timeout=5) == {"1": {"2": "a"}}


def test_row_30_results_by_id(app, drain):
    task = app.task(lambda: [1], name="t")
    sent = task.delay()
    drain(app)

    for found in (AsyncResult(sent.id), app.AsyncResult(sent.id), task.AsyncResult(sent.id)):
        assert (found.id, found.task_id, found.status, found.result) == (
            sent.id, sent.id, "SUCCESS", [1],
        )  # fmt: skip
        assert found.get(timeout=1) == [1]
    assert AsyncResult(sent.id, app=app) == sent


def test_row_59_update_state(app, drain):
    seen = []

    @app.task(bind=True)
    def work(self):
        self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
        found = AsyncResult(self.request.id)
        seen.append((found.state, found.info, found.info.get("current", 0), found.ready()))

    work.delay()
    drain(app)

    assert seen == [("PROGRESS", {"current": 1, "total": 2}, 1, False)]


@pytest.mark.parametrize(
    ("meta", "kind", "text"),
    [
        ({"exc_type": "KeyError", "exc_message": "gone"}, KeyError, "gone"),
        ({"exc_type": "ValueError", "exc_message": ["a", "b"], "exc_module": "builtins"},
         ValueError, "a\nb"),
        ({"exc_type": "ParserError", "exc_message": "<", "exc_module": "configparser"},
         TaskError, "configparser.ParserError: <"),
        ({"error": "the disk is full"}, Exception, "{'error': 'the disk is full'}"),
        ("the disk is full", Exception, "the disk is full"),
        (None, Exception, ""),
    ],
)  # fmt: skip
def test_row_59_a_task_that_sets_failure_and_raises_ignore(app, drain, meta, kind, text):
    @app.task(bind=True)
    def work(self):
        self.update_state(state="FAILURE", meta=meta)
        raise Ignore

    result = work.delay()
    drain(app)

    assert (result.state, result.failed()) == ("FAILURE", True)
    assert isinstance(result.info, kind)
    assert str(result.info) == text
    assert result.date_done is not None


def test_after_ignore_alone_the_task_is_pending_and_has_no_end(app, drain):
    @app.task
    def work():
        raise Ignore

    result = work.delay()
    drain(app)

    assert (result.state, result.info, result.date_done) == ("PENDING", None, None)


def test_waiting_too_long_is_celerys_timeout(app):
    result = app.task(lambda: 1, name="t").delay()

    with pytest.raises(result.TimeoutError):
        result.get(timeout=0.01)
    assert issubclass(ResultTimeout, TimeoutError)


def test_a_status_page_works_in_every_state(app, eventually):
    """The page of Flask's example: ``info`` is None, a mapping or an exception."""

    def page(result):
        if result.state == "PENDING":
            return {"state": result.state, "current": 0}
        if result.state not in ("FAILURE", "RETRY"):
            return {"state": result.state, "current": result.info.get("current", 0)}
        return {"state": result.state, "status": str(result.info)}

    go_on = threading.Event()

    @app.task(bind=True, track_started=True, max_retries=1)
    def work(self, how):
        assert go_on.wait(5)
        if how == "retry":
            raise self.retry(countdown=600, exc=ValueError("later"))
        if how == "fail":
            raise ValueError("no")
        self.update_state(state="PROGRESS", meta={"current": 50})
        seen.append(page(AsyncResult(self.request.id)))
        return {"current": 100}

    seen = []
    results = [work.delay(how) for how in ("good", "fail", "retry")]
    assert [page(each) for each in results] == [{"state": "PENDING", "current": 0}] * 3
    with start_worker(app):
        eventually(lambda: results[0].state == "STARTED")
        assert page(results[0]) == {"state": "STARTED", "current": 0}
        assert {"hostname", "pid"} <= set(results[0].info)
        go_on.set()
        results[1].get(timeout=5, propagate=False)
        eventually(lambda: results[2].state == "RETRY")

    assert seen == [{"state": "PROGRESS", "current": 50}]
    assert [page(each) for each in results] == [
        {"state": "SUCCESS", "current": 100},
        {"state": "FAILURE", "status": "no"},
        {"state": "RETRY", "status": "later"},
    ]
