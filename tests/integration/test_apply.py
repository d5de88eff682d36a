"""Running a call where it is made: ``apply`` and eager mode, through serializer and result."""

from dataclasses import dataclass
from datetime import date

import pytest

import streamq
from streamq.core.delivery import Delivery
from streamq.errors import DecodeError, EncodeError, Overdue, TaskError, Terminated
from streamq.execution.outcomes import past_soft_limit


@pytest.fixture
def offline(make_app):
    """Makes apps that have no Redis."""
    return lambda **settings: make_app(url="redis://localhost:1", **settings)


@dataclass
class Order:
    day: date
    price: float = 0.0


def test_apply_runs_here_without_redis(offline):
    app = offline()

    @app.task
    def add(x: int, y: int = 0) -> int:
        return x + y

    result = add.apply((1,), {"y": 2})

    assert (result.state, result.ready(), result.get()) == ("SUCCESS", True, 3)
    assert len(result.id) == 26


def test_values_go_through_the_serializer(offline):
    app = offline()

    @app.task
    def echo(order: Order, plain):
        return [type(order).__name__, order.day.year, type(plain).__name__]

    order = Order(date(2024, 1, 1))

    assert echo.apply((order, (1, 2))).get() == ["Order", 2024, "list"]


def test_the_result_is_turned_back_by_its_annotation(offline):
    app = offline()

    @app.task
    def today() -> date:
        return date(2024, 1, 1)

    assert today.apply().get() == date(2024, 1, 1)


def test_a_result_of_here_is_awaited_forgotten_and_revoked_like_others(offline):
    app = offline(task_always_eager=True)
    double = app.task(name="double")(lambda x: x * 2)
    failing = app.task(name="failing")(lambda: 1 / 0)
    results = [double.enqueue(1), failing.enqueue()]

    assert list(streamq.as_completed(results, timeout=1)) == results
    results[0].revoke(terminate=True)
    results[0].forget()

    assert results[0].get() == 2


def test_what_cannot_be_sent_cannot_be_applied(offline):
    task = offline().task(name="t")(lambda x: x)

    with pytest.raises(EncodeError):
        task.apply((object(),))
    with pytest.raises(TypeError, match="before sending"):
        task.apply((1, 2))


def test_a_failure_is_kept_in_the_result(offline):
    def fail():
        raise KeyError("k")

    result = offline().task(name="t")(fail).apply()

    assert result.failed()
    assert "KeyError: 'k'" in result.traceback
    with pytest.raises(KeyError):
        result.get()


def test_a_bound_task_has_its_request(offline):
    app = offline()

    @app.task(bind=True)
    def ask(self, x):
        self.update_state("HALF")
        return [self.request.id, self.request.task, streamq.current_task() is self]

    result = ask.apply((1,), task_id="order-1")

    assert result.get() == ["order-1", ask.name, True]


def test_pickle_goes_through_too(offline):
    app = offline(task_serializer="pickle", accept_content=["pickle", "json"])

    assert app.task(name="t")(lambda x: sorted(x)).apply(({3, 1},)).get() == [1, 3]


def test_in_eager_mode_nothing_is_sent(offline):
    app = offline(task_always_eager=True)
    task = app.task(name="t")(lambda x: x + 1)

    results = [
        task.enqueue(1),
        task.delay(1),
        task.options(queue="mail").enqueue(1),
        task.apply_async((1,)),
        app.enqueue("t", 1),
        *app.enqueue_many([task.s(1)]),
    ]

    assert [result.get() for result in results] == [2] * 6


def test_in_eager_mode_an_unknown_task_is_an_error_here(offline):
    with pytest.raises(streamq.TaskNotFound):
        offline(task_always_eager=True).enqueue("no.such.task")


def test_in_eager_mode_errors_may_be_raised_where_the_call_is_made(offline):
    def fail():
        raise KeyError("k")

    kept = offline(task_always_eager=True).task(name="t")(fail).enqueue()
    raising = offline(task_always_eager=True, task_eager_propagates=True).task(name="t")(fail)

    assert kept.failed()
    with pytest.raises(KeyError):
        raising.enqueue()


def test_an_ignored_result_is_none_here_too(offline):
    task = offline().task(name="t", ignore_result=True)(lambda: 5)

    assert task.apply().get() is None


def test_a_type_that_is_not_accepted_is_refused_here_too(offline):
    app = offline(task_serializer="pickle")
    result = app.task(name="t")(lambda x: x).apply((1,))

    with pytest.raises(DecodeError):
        result.get()


def test_one_task_may_call_another_in_eager_mode(offline):
    app = offline(task_always_eager=True)
    inner = app.task(name="inner")(lambda x: x * 2)
    outer = app.task(name="outer")(lambda x: inner.enqueue(x).get(allow_join=True) + 1)

    assert outer.enqueue(5).get() == 11


def test_a_task_is_tried_again_here_as_often_as_it_may_be(offline):
    runs = []

    def fail(self):
        runs.append(self.request.retries)
        self.retry(exc=KeyError("k"))

    result = offline().task(name="t", bind=True, max_retries=2)(fail).apply()

    assert runs == [0, 1, 2]
    assert isinstance(result.info, KeyError)


def test_a_task_that_would_be_tried_for_ever_ends_here(offline):
    runs = []

    def fail(self):
        runs.append(1)
        self.retry()

    result = offline().task(name="t", bind=True, max_retries=None)(fail).apply()

    assert len(runs) == 1000
    with pytest.raises(streamq.MaxRetriesExceeded, match="1,000 times at once"):
        result.get()


def test_a_failure_is_seen_here_though_its_result_is_ignored(offline):
    def fail():
        raise KeyError("k")

    kept = offline(task_always_eager=True).task(name="t", ignore_result=True)(fail).enqueue()
    raising = offline(task_always_eager=True, task_eager_propagates=True)

    assert (kept.state, kept.failed(), kept.get()) == ("FAILURE", True, None)
    with pytest.raises(KeyError):
        raising.task(name="t", ignore_result=True)(fail).enqueue()


def test_a_result_that_is_ignored_need_not_fit_here_either(offline):
    assert offline().task(name="t", ignore_result=True)(object).apply().state == "SUCCESS"


@pytest.mark.parametrize("requeue", [True, False])
def test_a_message_that_is_rejected_here_has_failed(offline, requeue):
    def reject():
        raise streamq.Reject("not here", requeue=requeue)

    result = offline().task(name="t")(reject).apply()

    assert result.state == "FAILURE"
    assert isinstance(result.info, streamq.Reject)


@pytest.mark.parametrize(
    "limit", [Overdue(), Terminated(), past_soft_limit(Delivery("q", b"", {}))]
)
def test_the_limits_of_the_task_around_it_pass_through(offline, limit):
    def stop():
        raise limit

    with pytest.raises(type(limit)):
        offline().task(name="t", autoretry_for=(Exception,))(stop).apply()


def test_a_soft_limit_that_a_result_tells_of_is_a_failure_like_others(offline):
    def fail():
        raise streamq.SoftTimeLimitExceeded("elsewhere")

    assert offline().task(name="t")(fail).apply().failed()


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit])
def test_the_end_of_a_loop_that_a_task_raised_does_not_end_the_loop_of_who_asks(offline, kind):
    app = offline()

    @app.task
    def fail():
        raise kind("over")

    with pytest.raises(TaskError, match=f"{kind.__name__}: over"):
        list(map(lambda result: result.get(), [fail.apply()]))  # noqa: C417  # a loop in C
