"""Tried again, for later, revoked, expired: as a producer and a task see it."""

import logging
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

import streamq
from streamq import Exchange, Queue
from streamq.broker.consumer import MOST_REVOKED
from streamq.core.termination import signal_name
from streamq.errors import ConfigError, MaxRetriesExceeded, Retry, Revoked
from streamq.transport.scripts import load

HOUR = 3600.0


@pytest.fixture
def pass_time(app):
    """``pass_time(seconds)`` moves what is due by then, by a clock that goes ahead."""

    def move(seconds, app=app):
        ahead = (
            "local function clock() local t = redis.call('TIME') "
            f"return t[1] * 1000 + math.floor(t[2] / 1000) + {int(seconds * 1000)} end"
        )
        promote = load("promote", ahead)
        return app.broker.client.call(promote, app.broker.keys.root, 100, 60_000, 100, 60_000)[0]

    return move


def test_a_task_with_a_countdown_waits_for_its_moment(app, drain, pass_time):
    add = app.task(name="add")(lambda x, y: x + y)

    result = add.options(countdown="1h").enqueue(2, 3)

    assert result.state == "SCHEDULED"
    assert drain(app) == 0
    assert pass_time(HOUR - 10) == 0
    assert pass_time(HOUR + 10) == 1
    assert drain(app) == 1
    assert result.get(timeout=1) == 5


@pytest.mark.parametrize("countdown", [0, -5, timedelta(seconds=-1), None])
def test_what_was_due_before_is_due_now(app, drain, countdown):
    result = app.task(name="t")(lambda: 1).apply_async(countdown=countdown)

    assert result.state == "QUEUED"
    assert drain(app) == 1


@pytest.mark.parametrize("here", ["UTC", "America/New_York"])
@pytest.mark.parametrize(
    ("moment", "due"),
    [
        ("2033-07-01T12:00", "2033-07-01T10:00Z"),
        ("2033-01-01T12:00", "2033-01-01T11:00Z"),
        ("2033-10-30T02:30", "2033-10-30T00:30Z"),  # twice that night: the first of them
        ("2033-03-27T02:30", "2033-03-27T01:30Z"),  # not that night: an hour was left out
        ("2033-07-01T12:00+09:00", "2033-07-01T03:00Z"),
    ],
)
def test_summer_time_and_the_zone_of_the_machine_move_no_moment(
    make_app, redis, monkeypatch, here, moment, due
):
    monkeypatch.setenv("TZ", here)
    time.tzset()
    app = make_app(timezone="Europe/Berlin")
    app.declare()

    app.task(name="t")(lambda: 1).apply_async(eta=moment)

    monkeypatch.undo()
    time.tzset()
    ((_, score),) = redis.zrange(app.broker.keys.scheduled, 0, -1, withscores=True)
    assert score == datetime.fromisoformat(due).timestamp() * 1000


def test_an_eta_without_a_zone_is_in_the_zone_of_the_app(make_app, redis):
    app = make_app(timezone="Asia/Tokyo")
    app.declare()
    moment = datetime(2033, 5, 18, 12, 0)

    app.task(name="t")(lambda: 1).apply_async(eta=moment)

    ((_, due),) = redis.zrange(app.broker.keys.scheduled, 0, -1, withscores=True)
    assert due == (moment - timedelta(hours=9)).replace(tzinfo=UTC).timestamp() * 1000


def test_many_calls_for_later_are_sent_together(app, drain, pass_time):
    add = app.task(name="add")(lambda x: x)

    results = app.enqueue_many(add.options(countdown=60).s(n) for n in range(50))
    assert {result.state for result in results} == {"SCHEDULED"}
    assert pass_time(61) == 50
    drain(app)

    assert [result.get(timeout=1) for result in results] == list(range(50))


def test_a_task_that_asks_for_it_is_tried_again_with_what_it_had(app, drain, pass_time):
    seen = []

    @app.task(name="t", bind=True)
    def flaky(self, word):
        request = self.request
        seen.append((request.id, request.retries, request.headers, request.args))
        if request.retries < 2:
            raise self.retry(exc=ValueError("not yet"), countdown=60)
        return word

    result = flaky.options(headers={"h": 1}).enqueue("done")
    for _ in range(2):
        drain(app)
        assert (result.state, repr(result.info)) == ("RETRY", "ValueError('not yet')")
        pass_time(61)
    drain(app)

    assert result.get(timeout=1) == "done"
    assert seen == [(result.id, number, {"h": 1}, ("done",)) for number in range(3)]
    assert "error" not in result.record()


def test_a_task_that_was_tried_as_often_as_it_may_be_fails(app, drain):
    @app.task(name="t", bind=True, max_retries=2, default_retry_delay=0)
    def never(self):
        seen.append(1)
        self.retry()

    @app.task(name="u", autoretry_for=(KeyError,), default_retry_delay=0)
    def by_itself():
        raise KeyError("x")

    seen = []
    mine, other = never.enqueue(), by_itself.enqueue()
    assert drain(app) == 3 + 4

    with pytest.raises(MaxRetriesExceeded, match="tried again 2 times"):
        mine.get(timeout=1)
    with pytest.raises(KeyError):
        other.get(timeout=1)


def test_any_task_may_raise_retry(app, drain):
    runs = []

    @app.task(name="t")
    def t():
        runs.append(streamq.current_task().request.retries)
        if len(runs) < 3:
            raise Retry(countdown=0)

    t.enqueue()
    drain(app)

    assert runs == [0, 1, 2]


def test_a_task_may_go_on_after_it_asked_for_a_retry(app, drain):
    after = []

    @app.task(name="t", bind=True)
    def t(self):
        if not self.request.retries:
            assert isinstance(self.retry(countdown=0, throw=False, args=(), kwargs={}), Retry)
            after.append("went on")
            return "first"
        return "second"

    result = t.enqueue()
    drain(app)

    assert after == ["went on"]
    assert result.get(timeout=1) == "second"


def test_a_task_knows_that_it_may_have_run_before(app, drain):
    seen = []

    def third_time(self):
        seen.append((self.request.redelivered, self.request.deliveries))
        if len(seen) < 3:
            raise streamq.Reject(requeue=True)

    app.task(name="t", bind=True)(third_time).enqueue()
    drain(app)

    assert seen == [(False, 1), (True, 1), (True, 1)]  # given back, not charged


def test_new_arguments_are_used_when_it_is_tried_again(app, drain):
    @app.task(name="t", bind=True)
    def t(self, x, y=0):
        if not self.request.retries:
            self.retry(args=(7,), kwargs={"y": 5}, countdown=0)
        return x + y

    result = t.enqueue(1)
    drain(app)

    assert result.get(timeout=1) == 12


def test_where_no_worker_runs_it_a_retry_raises_its_reason(app):
    @app.task(name="t", bind=True)
    def t(self, exc=None):
        try:
            raise KeyError("handled")
        except KeyError:
            self.retry(exc=exc)

    with pytest.raises(KeyError, match="handled"):
        t()
    with pytest.raises(ValueError, match="given"):
        t(ValueError("given"))


def test_in_place_a_task_is_tried_again_at_once(app):
    runs = []

    @app.task(name="t", bind=True)
    def t(self, x):
        runs.append(x)
        if len(runs) < 3:
            self.retry(countdown=3600, args=(x + 1,))
        return x

    assert t.apply((1,)).get() == 3
    assert runs == [1, 2, 3]


def test_what_a_retry_cannot_change_is_said(app):
    @app.task(name="t", bind=True)
    def t(self):
        self.retry(exchange="x")

    with pytest.raises(ConfigError, match="retry cannot change exchange"):
        t.apply(()).get()


def test_a_retry_goes_to_another_queue(app, drain, redis):
    app.add_queue(Queue("slow"))
    app.add_queue(Queue("default"))

    @app.task(name="t", bind=True, queue="default")
    def t(self):
        if self.request.queue == "default":
            self.retry(queue="slow", countdown=60)
        return self.request.queue

    result = t.enqueue()
    drain(app)
    assert redis.hget(app.broker.keys.later(result.id), "scheduled_for") == "slow"


def test_a_task_that_has_expired_is_not_run(app, drain, caplog):
    caplog.set_level(logging.INFO, "streamq.worker")
    ran = []
    t = app.task(name="t")(lambda: ran.append(1))

    results = [t.options(expires=expires).enqueue() for expires in (0, -1, timedelta(0))]
    results.append(t.options(expires=datetime.now(UTC) - timedelta(seconds=1)).enqueue())
    alive = t.options(expires=60).enqueue()
    drain(app)

    assert ran == [1]
    assert alive.state == "SUCCESS"
    for result in results:
        with pytest.raises(Revoked, match="expired"):
            result.get(timeout=1)
        assert f"t[{result.id}] is not run: expired" in caplog.messages


def test_a_retry_after_its_expiry_is_not_run(app, drain, pass_time):
    ran = []

    @app.task(name="t", bind=True)
    def t(self):
        ran.append(self.request.expires)
        self.retry(countdown=60)

    result = t.options(expires=30).enqueue()
    drain(app)
    pass_time(61)
    drain(app)

    assert len(ran) == 1
    assert ran[0].tzinfo is not None
    assert result.state == "REVOKED"


def test_a_queue_may_say_how_long_its_messages_wait(app, drain):
    app.add_queue(Queue("brief", message_ttl="1ms"))
    ran = []
    result = app.task(name="t", queue="brief")(lambda: ran.append(1)).enqueue()

    drain(app)

    assert ran == []
    assert result.state == "REVOKED"


def test_a_revoked_task_is_never_run(app, drain, redis):
    ran = []
    t = app.task(name="t")(lambda n: ran.append(n))
    results = [t.enqueue(n) for n in range(5)]

    results[1].revoke()
    results[3].revoke(terminate=True)

    assert results[1].state == "REVOKED"
    drain(app)
    assert ran == [0, 2, 4]
    with pytest.raises(Revoked):
        results[3].get(timeout=1)
    assert not redis.exists(app.broker.keys.revoked)


def test_a_task_for_later_may_be_revoked(app, drain, pass_time):
    ran = []
    result = app.task(name="t")(lambda: ran.append(1)).options(countdown=60).enqueue()

    result.revoke()
    pass_time(61)
    drain(app)

    assert ran == []
    assert result.state == "REVOKED"


def test_all_copies_of_a_message_are_revoked(make_app, drain):
    news = Exchange("news", "fanout")
    app = make_app()
    app.queues = [Queue(name, news) for name in ("one", "two")]
    ran = []
    t = app.task(name="t", exchange="news")(lambda: ran.append(1))
    app.declare()

    result = t.enqueue()
    result.revoke()
    drain(app)

    assert ran == []
    assert result.state == "REVOKED"


def test_a_task_may_be_revoked_whose_result_nobody_keeps(app, drain):
    ran = []
    result = app.task(name="t", ignore_result=True)(lambda: ran.append(1)).enqueue()

    result.revoke()
    drain(app)

    assert ran == []


@pytest.mark.parametrize("countdown", [0, 60])
def test_copies_of_which_nobody_keeps_a_result_are_revoked_by_the_id_of_all(
    app, drain, pass_time, countdown
):
    app.queues = [Queue(name, Exchange("news", "fanout")) for name in ("one", "two")]
    ran = []
    t = app.task(name="t", exchange="news", ignore_result=True)(lambda n: ran.append(n))
    app.declare()
    kept, revoked = (t.options(countdown=countdown).enqueue(n) for n in range(2))

    app.result(revoked.id).revoke()
    pass_time(61)
    drain(app)

    assert ran == [0, 0]
    assert not app.result(kept.id).record()


def test_more_revocations_than_a_read_compares_are_applied_too(app, drain, redis):
    ran = []
    results = [app.task(name="t")(lambda n: ran.append(n)).enqueue(n) for n in range(3)]
    for number in range(2 * MOST_REVOKED):
        app.result(f"unknown-{number}").revoke()

    results[1].revoke()
    drain(app)

    assert ran == [0, 2]


def test_a_message_that_its_revoked_task_gives_back_is_not_run_again(app, drain):
    ran = []

    @app.task(name="t", bind=True)
    def t(self):
        ran.append(1)
        self.update_state("HALFWAY")
        app.result(self.request.id).revoke()
        if len(ran) < 3:
            raise streamq.Reject("not now", requeue=True)

    result = t.enqueue()
    drain(app)

    assert ran == [1]
    assert (result.state, result.record()["reason"]) == ("REVOKED", b"revoked")


def test_a_signal_that_ends_nothing_is_refused(app):
    with pytest.raises(ConfigError, match="SIGTERM"):
        app.result("x").revoke(terminate=True, signal="SIGTREM")
    for name in ("SIGSTOP", signal.SIGSTOP, 19, 4711):
        with pytest.raises(ConfigError, match="signals  SIGTERM, SIGKILL") as refused:
            app.result("x").revoke(terminate=True, signal=name)
        assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize("given", ["SIGKILL", "kill", "9", 9, signal.SIGKILL])
def test_a_signal_is_a_name_a_number_or_itself(given):
    assert signal_name(given) == "SIGKILL"


def test_options_that_contradict_each_other_are_refused(app):
    t = app.task(name="t", time_limit=5)(lambda: 1)

    with pytest.raises(ConfigError, match="exclude each other"):
        t.options(countdown=1, eta=datetime.now())
    with pytest.raises(ConfigError, match="must be less than time_limit=5"):
        t.options(soft_time_limit=6).enqueue()
    with pytest.raises(ConfigError, match="a moment"):
        t.options(eta="tomorrow")
    with pytest.raises(ConfigError, match="belongs to the call"):
        app.task(countdown=5)(lambda: 1)


def test_limits_are_known_to_the_task(app, drain):
    seen = []

    @app.task(name="t", bind=True, time_limit=9)
    def t(self):
        seen.append(self.request.timelimit)

    t.enqueue()
    t.options(time_limit=3, soft_time_limit=2).enqueue()
    t.options(time_limit=0).enqueue()
    drain(app)

    assert seen == [(9.0, None), (3.0, 2.0), (None, None)]
