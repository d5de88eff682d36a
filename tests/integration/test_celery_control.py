"""``app.control``: what Redis answers and does, and what to type instead of the rest."""

import time

import pytest

from streamq import Queue
from streamq.celery.app.control import Control
from streamq.errors import ConfigError
from streamq.states import State

PONG = {"ok": "pong"}


@pytest.fixture
def control(app):
    return Control(app)


@pytest.fixture
def up(app, redis):
    """Let workers of these names have leases for so many seconds, as a renewal does."""

    def up(*nodes, seconds=60):
        until = (time.time() + seconds) * 1000
        redis.zadd(app.broker.keys.workers, dict.fromkeys(nodes, until))

    return up


def test_without_workers_nobody_answers(control):
    assert control.ping(timeout=0.5) == []
    assert control.inspect().ping() is None


def test_workers_with_a_lease_answer_and_others_do_not(control, up):
    up("w2@web", "w1@web")
    up("dead@web", seconds=-1)

    assert control.ping() == [{"w1@web": PONG}, {"w2@web": PONG}]
    assert control.inspect(timeout=2).ping() == {"w1@web": PONG, "w2@web": PONG}


def test_a_worker_may_be_chosen_by_its_name(control, up):
    up("w1@web", "w2@web")
    heard = []

    assert control.ping(destination=["w2@web", "w3@web"]) == [{"w2@web": PONG}]
    assert control.inspect(["w1@web"], callback=heard.append).ping() == {"w1@web": PONG}
    assert control.inspect("w3@web").ping() is None
    assert heard == [{"w1@web": PONG}]
    up("w1", "web")
    assert control.inspect("w1@web").ping() == {"w1@web": PONG}


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_asked(app, control, monkeypatch):
    def limited(self, deadline):
        raise TimeoutError(round(deadline - time.monotonic()))

    monkeypatch.setattr(type(app.broker.client), "limited", limited)

    for ask, seconds in ((lambda: control.ping(timeout=7), 7), (control.inspect().ping, 1)):
        with pytest.raises(TimeoutError, match=f"^{seconds}$"):
            ask()


def test_to_terminate_is_to_revoke_what_runs(app, control, monkeypatch):
    told = []
    monkeypatch.setattr(app, "revoke", lambda ids, **options: told.append((ids, options)))

    control.terminate(["a", "b"], signal="SIGKILL")

    assert told == [(["a", "b"], {"terminate": True, "signal": "SIGKILL"})]


def test_one_id_and_many_are_revoked(app, control):
    @app.task
    def never():
        raise AssertionError

    one, two, three = (never.enqueue() for _ in range(3))

    control.revoke(one.id)
    control.revoke([two.id, three.id], terminate=True, signal="SIGKILL")

    assert [each.state for each in (one, two, three)] == [State.REVOKED] * 3


def test_purge_removes_what_waits_in_the_queues_of_the_app(app, make_app, control):
    @app.task
    def later():
        pass

    app.queues = [Queue("default"), Queue("mail")]
    app.declare()
    other = make_app()
    other.enqueue(other.signature("t", queue="elsewhere"))
    later.enqueue()
    app.enqueue(later.options(queue="mail"))

    assert control.purge() == 2
    assert control.discard_all() == 0


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda c: c.inspect().active(), "not in this version: inspect().active()"),
        (lambda c: c.inspect().active_queues(), "→ streamq workers ls"),
        (lambda c: c.shutdown(), "not in this version: control.shutdown()"),
        (lambda c: c.broadcast("x", arguments={}), "not in this version: control.broadcast()"),
        (lambda c: c.ping(pattern="w*"), "destination="),
        (lambda c: c.revoke("a", terminate=True, signal="SIGNOT"), "no task is ended by"),
    ],
)
def test_the_rest_says_what_to_type_instead(control, ask, says):
    with pytest.raises(ConfigError) as error:
        ask(control)

    assert says in str(error.value)


def test_a_name_that_celery_does_not_know_is_no_attribute(control):
    with pytest.raises(AttributeError, match="no attribute 'actives'"):
        control.inspect().actives()
