"""Messages for later, as a supervisor moves them."""

import logging
import time

import pytest

from streamq import Queue
from streamq.broker.worker_names import Nodes
from streamq.transport.replies import Refused
from streamq.worker.boot import duties
from streamq.worker.services.due_messages import PAUSE
from streamq.worker.services.heartbeat import ourselves


@pytest.fixture
def timetable(app, tmp_path):
    """A timetable that believes that something is due."""
    parts = duties(app, "node", [], 1, tmp_path / "turn")
    parts.timetable.moment = 0.0
    yield parts.timetable
    parts.recovery.client.close()


def test_a_message_that_cannot_be_moved_is_an_error_in_the_log_and_blocks_nothing(
    app, redis, timetable, caplog
):
    for name, queue in (("a", "gone"), ("b", "default")):
        fields = {"id": name, "task": "t", "scheduled_for": queue}
        redis.hset(app.store.keys.later(name), mapping=fields)
        redis.zadd(app.store.keys.scheduled, {name: 1})
    app.store.topology.declare([Queue("default")])
    redis.set(app.store.keys.dead("gone"), "not ours")

    with caplog.at_level(logging.ERROR, logger="streamq.worker"):
        timetable.move()

    assert [fields["id"] for _, fields in redis.xrange(app.store.keys.queue("default"))] == ["b"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("a is due and cannot be moved; it is tried again: WRONGTYPE")
    assert app.store.keys.dead("gone") in said


def test_a_move_that_is_refused_is_not_tried_again_at_once_whatever_is_heard(app, redis, timetable):
    redis.set(app.store.keys.scheduled, "not ours")
    began = time.monotonic()

    with pytest.raises(Refused):
        timetable.move()
    timetable.learn(0.0, 1000.0)
    timetable.hear(0.0, 1000.0)

    assert timetable.moment >= began + PAUSE


@pytest.mark.parametrize("score", [4e12 + 0.5, 1e20, float("inf")])
def test_a_moment_that_is_no_whole_number_hides_nothing_from_supervisors(
    app, redis, timetable, score
):
    redis.zadd(app.store.keys.scheduled, {"odd": score})

    news = timetable.recovery.renew("node", [], {})

    assert news.due == timetable.recovery.promote().due == score / 1000
    timetable.learn(news.due, news.now)
    assert timetable.moment > time.monotonic() + 1e9


def test_signing_off_leaves_what_somebody_else_has_written(app, redis):
    redis.hset(app.store.keys.worker("node"), "pid", b"\xff")

    Nodes(app.store.client, app.store.keys).sign_off("node", ourselves())

    assert redis.exists(app.store.keys.worker("node"))


def test_a_retry_waits_for_a_foreign_key_to_go_and_is_not_lost(
    app, redis, working, eventually, monkeypatch
):
    monkeypatch.setattr("streamq.runner.pauses.ASIDE", 0.1)
    tries, key = [], app.store.keys.scheduled

    @app.task(name="work", autoretry_for=(ValueError,), default_retry_delay=0.01)
    def work():
        tries.append(1)
        raise ValueError

    redis.set(key, "not ours")
    with working(app) as pool:
        work.enqueue()
        eventually(lambda: pool.desk.ledger.aside)
        redis.delete(key)
        eventually(lambda: redis.zcard(key) == 1)
        assert tries == [1]
