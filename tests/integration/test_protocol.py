"""A producer writes only where its protocol is spoken; it asks once in a process."""

import asyncio
import threading

import pytest

from streamq import PartlyPublished, Queue
from streamq.cli import enqueue as command
from streamq.cli.command import GivenOptions
from streamq.cli.main import main
from streamq.errors import ConfigError

OTHER = {"sha": "5f3e", "protocol": "2"}
REFUSED = "used with protocol 2, this streamq speaks 3"


def one(app, **options):
    return app.enqueue(app.signature("any.task", **options))


def the_long_way(app):
    return one(app, priority=1)


def confirmed(app):
    return one(app, confirm="replica")


def many(app):
    try:
        return app.enqueue_many([app.signature("any.task")] * 3)
    except PartlyPublished as stopped:
        raise stopped.__cause__ from None


def from_asyncio(app):
    async def main():
        try:
            return await app.aenqueue("any.task")
        finally:
            await app.aclose()

    return asyncio.run(main())


@pytest.fixture
def app(make_app, proxy):
    """An app behind the proxy, whose queue another one has declared."""
    make_app().enqueue("warm.up")
    return make_app(url=proxy.url)


WAYS = [one, the_long_way, many, from_asyncio]


@pytest.mark.parametrize("send", [*WAYS, confirmed], ids=lambda way: way.__name__)
def test_a_namespace_of_another_protocol_is_refused_and_left_alone(make_app, redis, send):
    app = make_app()
    redis.hset(app.broker.keys.script("publish"), mapping=OTHER)

    with pytest.raises(ConfigError, match=REFUSED):
        send(app)

    assert redis.keys() == [app.broker.keys.script("publish")]
    redis.delete(app.broker.keys.script("publish"))
    assert send(app) if send is not confirmed else True


def test_nothing_is_declared_there_either(make_app, redis):
    app = make_app()
    app.queues = [Queue("mail")]
    redis.hset(app.broker.keys.script("publish"), mapping=OTHER)

    with pytest.raises(ConfigError, match=REFUSED):
        app.declare()

    assert redis.dbsize() == 1


def test_the_command_line_is_refused_as_well(make_app, redis, monkeypatch, capsys):
    app = make_app()
    redis.hset(app.broker.keys.script("publish"), mapping=OTHER)
    monkeypatch.setattr(command, "sending_app", lambda *_: app)

    assert main.run(["enqueue", "any.task"], GivenOptions()) == 78

    assert REFUSED in capsys.readouterr().err
    assert redis.dbsize() == 1


@pytest.mark.parametrize("stored", [True, False])
def test_who_may_send_asks_once_in_whatever_way_it_sends(app, make_app, proxy, stored):
    if stored:
        make_app().broker.topology.publish_interface()

    for send in WAYS:
        send(app)
        send(app)
    threads = [threading.Thread(target=one, args=(app,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert proxy.seen["HGET"] == 1


def test_a_question_that_is_not_answered_is_asked_again(app, proxy, streams):
    proxy.drop_reply("HGET")

    app.enqueue("any.task")

    assert proxy.seen["HGET"] == 2
    assert streams(app) == {"default": 2}


@pytest.mark.parametrize("send", WAYS, ids=lambda way: way.__name__)
def test_who_may_not_ask_sends_all_the_same(app, proxy, streams, send):
    denied = proxy.answer("NOPERM User x has no permissions", "HGET", times=None)

    send(app)
    one(app)

    assert denied.hits == 1
    assert streams(app)["default"] >= 3
