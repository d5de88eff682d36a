"""Task ids that are used again, and tasks that end without a word, as producers see them."""

import asyncio

import pytest

from streamq import Binding, Exchange, Ignore, Queue, as_completed
from streamq.admin.dead_letters import DeadLetters
from streamq.errors import Revoked


@pytest.fixture
def daily(make_app):
    """An app without a window, whose task fails as often as it is told before it returns."""

    def make(**settings):
        app = make_app(dedup_window=0, **settings)
        app.queues = [Queue("default")]
        app.declare()

        @app.task(name="t.daily", bind=True, default_retry_delay=0, max_retries=5)
        def daily(self, day, tries=0):
            if self.request.retries < tries:
                self.retry()
            return [day, self.request.generation, self.request.retries]

        @app.task(name="t.silent", bind=True)
        def silent(self, meta=None):
            if meta is not None:
                self.update_state("HALFWAY", meta)
            raise Ignore

        return app

    return make


def send(app, *args, task="t.daily", **options):
    return app.enqueue(app.signature(task, args, task_id="report", **options))


KEYS = {"signing": "required", "signing_keys": {"k1": "1" * 32}}


@pytest.mark.parametrize("settings", [{}, KEYS], ids=["plain", "signed"])
def test_every_day_it_runs_is_tried_again_and_tells_its_own_end(daily, drain, settings):
    app = daily(**settings)
    for day in (1, 2, 3):
        result = send(app, day, day)
        again = send(app, 99)
        assert (result.state, again.state, again.id) == ("QUEUED", "QUEUED", result.id)
        drain(app)
        assert result.get(timeout=5) == again.get(timeout=5) == [day, day, day]


@pytest.mark.parametrize("settings", [{}, KEYS], ids=["plain", "signed"])
@pytest.mark.parametrize("keep", [True, False])
def test_what_was_revoked_and_is_sent_again_runs(daily, drain, settings, keep):
    app = daily(**settings)
    ran = []
    app.task(name="t.note")(ran.append)
    options = {"task": "t.note", "ignore_result": not keep}
    for day in (1, 3, 5):
        send(app, day, **options).revoke()
        send(app, day + 1, **options)
        drain(app)

    assert ran == [2, 4, 6]


def test_a_result_tells_of_the_last_generation(daily, drain):
    app = daily()
    first = send(app, 1)
    first.revoke()
    with pytest.raises(Revoked):
        first.get(timeout=5)
    second = send(app, 2)
    drain(app)

    assert second.get(timeout=5) == [2, 2, 0]
    assert app.result("report").get(timeout=5) == [2, 2, 0]
    assert first.state == "REVOKED"  # it has ended, and was not asked about again


def test_a_letter_whose_id_is_used_again_stays_and_tells_of_itself(daily, drain, redis):
    app = daily()
    send(app, 1)
    key = app.broker.keys
    entry, fields = redis.xrange(key.queue("default"))[0]
    redis.xdel(key.queue("default"), entry)
    redis.hset(key.task("report"), mapping={"state": "FAILURE", "error": "old", "traceback": "T"})
    letters = DeadLetters(app.broker.client, key)
    redis.zadd(key.dead("default"), {"report": 2000})
    told = {**fields, "dead_reason": "rejected", "dead_error": "old", "dead_enqueued": "1000"}
    redis.hset(key.dead_letter("default", "report"), mapping={**told, "dead_at": 2000})
    assert letters.get("default", "report").traceback == "T"

    send(app, 2)

    found = letters.get("default", "report")
    assert (found.traceback, found.enqueued) == (None, 1.0)
    done = letters.retry("default", [b"report"])
    assert (done.waiting, done.in_use) == (0, {"report": "QUEUED"})
    drain(app)
    assert letters.retry("default", [b"report"]).waiting == 1
    assert redis.hget(key.task("report"), "generation") == "3"


# Ending without a word


@pytest.mark.parametrize("meta", [None, {"at": 3}])
def test_who_waits_for_a_task_that_ends_without_a_word_gets_none(daily, drain, meta):
    app = daily()
    result = send(app, meta, task="t.silent")
    others = [app.enqueue(app.signature("t.daily", (n,))) for n in range(2)]
    assert not result.ready()
    drain(app)

    assert result.get(timeout=1) is None
    assert result.ready()
    assert (result.successful(), result.failed()) == (False, False)
    assert result.info == meta
    assert set(as_completed([result, *others], timeout=1)) == {result, *others}
    assert asyncio.run(waited_for(app, result.id)) is None
    assert result.state in (("HALFWAY",) if meta else ("QUEUED", "STARTED"))


async def waited_for(app, id):
    try:
        return await app.result(id).aget(timeout=1)
    finally:
        await app.aclose()


def test_who_waits_already_is_told_at_once(daily, working):
    app = daily()
    result = send(app, {"at": 1}, task="t.silent")
    with working(app):
        assert result.get(timeout=5) is None
    assert result.ready()


def test_copies_that_end_without_a_word_end_the_fan_out(daily, drain):
    app = daily()
    fan = Exchange("fan", type="fanout")
    app.queues = [Queue(name, bindings=[Binding(fan)]) for name in ("one", "two")]
    app.declare()
    result = send(app, task="t.silent", exchange="fan")
    assert not result.ready()
    drain(app)

    assert result.ready()
    assert result.get(timeout=1) == {"one": None, "two": None}
    assert app.result("report").get(timeout=1) == {"one": None, "two": None}
    assert send(app, 5, exchange="fan").state == "QUEUED"
    drain(app)
    assert app.result("report").get(timeout=1) == {"one": [5, 2, 0], "two": [5, 2, 0]}
