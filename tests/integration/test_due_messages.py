"""Messages for later, as a supervisor moves them."""

import logging
import time

import pytest

from streamq import Queue
from streamq.broker.leases import Leases
from streamq.broker.scheduled import ScheduledMessages
from streamq.broker.worker_names import WorkerNames
from streamq.transport.replies import Refused
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.due_messages import PAUSE, DueMessages
from streamq.worker.services.heartbeat import this_worker


@pytest.fixture
def due_messages(app):
    """A service that believes that a message is due."""
    scheduled = ScheduledMessages(
        app.broker.client, app.broker.keys, result_expires=60, dead=(100, 60_000)
    )
    service = DueMessages(scheduled, LeaseView(15.0))
    service.moment = 0.0
    return service


def test_a_message_that_cannot_be_moved_is_an_error_in_the_log_and_blocks_nothing(
    app, redis, due_messages, caplog
):
    for name, queue in (("a", "gone"), ("b", "default")):
        fields = {"id": name, "task": "t", "scheduled_for": queue}
        redis.hset(app.broker.keys.later(name), mapping=fields)
        redis.zadd(app.broker.keys.scheduled, {name: 1})
    app.broker.topology.declare([Queue("default")])
    redis.set(app.broker.keys.dead("gone"), "not ours")

    with caplog.at_level(logging.ERROR, logger="streamq.worker"):
        due_messages.move()

    assert [fields["id"] for _, fields in redis.xrange(app.broker.keys.queue("default"))] == ["b"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("a is due and cannot be moved; it is tried again: WRONGTYPE")
    assert app.broker.keys.dead("gone") in said


def test_a_move_that_is_refused_is_not_tried_again_at_once_whatever_is_heard(
    app, redis, due_messages
):
    redis.set(app.broker.keys.scheduled, "not ours")
    began = time.monotonic()

    with pytest.raises(Refused):
        due_messages.move()
    due_messages.set_next(0.0, 1000.0)
    due_messages.add_due(0.0, 1000.0)

    assert due_messages.moment >= began + PAUSE


@pytest.mark.parametrize("score", [4e12 + 0.5, 1e20, float("inf")])
def test_a_moment_that_is_no_whole_number_hides_nothing_from_supervisors(
    app, redis, due_messages, score
):
    redis.zadd(app.broker.keys.scheduled, {"odd": score})

    news = Leases(app.broker.client, app.broker.keys, lease=15.0).renew("node", [], {})

    assert news.due == due_messages.scheduled.promote().due == score / 1000
    due_messages.set_next(news.due, news.now)
    assert due_messages.moment > time.monotonic() + 1e9


def test_signing_off_leaves_what_somebody_else_has_written(app, redis):
    redis.hset(app.broker.keys.worker("node"), "pid", b"\xff")

    WorkerNames(app.broker.client, app.broker.keys).sign_off("node", this_worker())

    assert redis.exists(app.broker.keys.worker("node"))


def test_a_retry_waits_for_a_foreign_key_to_go_and_is_not_lost(
    app, redis, working, eventually, monkeypatch
):
    monkeypatch.setattr("streamq.runner.parked_outcomes.RETRY_PARKED", 0.1)
    tries, key = [], app.broker.keys.scheduled

    @app.task(name="work", autoretry_for=(ValueError,), default_retry_delay=0.01)
    def work():
        tries.append(1)
        raise ValueError

    redis.set(key, "not ours")
    with working(app) as pool:
        work.enqueue()
        eventually(lambda: pool.prefetch.settlements.parked)
        redis.delete(key)
        eventually(lambda: redis.zcard(key) == 1)
        assert tries == [1]
