"""A publish, and everything in it, ends within ``publish_timeout``.

Each test waits out a timeout of a second or so: that is what it is about.
"""

import asyncio
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from streamq import Exchange, Queue
from streamq.errors import BrokerUnavailable, NotConfirmed, PartlyPublished, PublishUnknown
from streamq.transport.connection import identity
from tests.faults import BUSY, LOADING, code_of
from tests.proxy import calls_of

pytestmark = pytest.mark.timing

TIMEOUT = 1.0
#: Seconds beside it, on a machine that is busy with other things.
MARGIN = 0.6

DECLARING = calls_of("declare_queue")


@pytest.fixture
def app(make_app, proxy):
    app = make_app(url=proxy.url, publish_timeout=TIMEOUT, confirm_timeout=5)
    app.enqueue("warm.up")
    app.enqueue(app.signature("warm.up", priority=1))
    return app


def short_way(app):
    app.enqueue("any.task")


def long_way(app):
    app.enqueue(app.signature("any.task", priority=1))


def many(app):
    app.enqueue_many([app.signature("any.task", (n,)) for n in range(1200)])


def confirmed(app):
    app.enqueue(app.signature("any.task", confirm="fsync"))


def many_threads(app):
    with ThreadPoolExecutor(12) as threads:
        sent = [threads.submit(app.enqueue, "any.task") for _ in range(12)]
    raise next(one.exception() for one in sent if one.exception() is not None)


def from_asyncio(app, **options):
    async def main():
        await app.aenqueue("warm.up")
        FREEZE[0]()
        began = time.monotonic()
        try:
            await app.aenqueue(app.signature("any.task", **options))
        finally:
            TOOK[:] = [time.monotonic() - began]
            await app.aclose()

    asyncio.run(main())


def many_from_asyncio(app):
    async def main():
        await app.aenqueue("warm.up")
        FREEZE[0]()
        began = time.monotonic()
        sent = await asyncio.gather(
            *(app.aenqueue("any.task") for _ in range(12)), return_exceptions=True
        )
        TOOK[:] = [time.monotonic() - began]
        await app.aclose()
        raise next(one for one in sent if isinstance(one, Exception))

    asyncio.run(main())


FREEZE, TOOK = [], []
WAYS = [short_way, long_way, many, confirmed, many_threads, from_asyncio, many_from_asyncio]


@pytest.mark.parametrize("ends", ["blackhole", "hold", "refuse"])
@pytest.mark.parametrize("send", WAYS, ids=lambda way: way.__name__)
def test_a_server_that_says_nothing_is_waited_for_so_long(app, proxy, send, ends):
    def freeze():
        if ends == "refuse":
            proxy.refuse()
            proxy.reset()
        else:
            getattr(proxy, ends)()

    FREEZE[:], TOOK[:] = [freeze], []
    if "asyncio" not in send.__name__:
        freeze()
    began = time.monotonic()

    with pytest.raises((BrokerUnavailable, PartlyPublished)) as error:
        send(app)

    took = TOOK[0] if TOOK else time.monotonic() - began
    assert TIMEOUT / 2 < took < TIMEOUT + MARGIN
    if isinstance(error.value, PartlyPublished):
        assert len(error.value.accepted) + len(error.value.remaining) == 1200


def test_an_answer_that_takes_its_time_is_asked_for_again(app, proxy, streams):
    """A connection that died in silence is replaced before the time is over."""
    lost = proxy.drop_reply(calls_of("publish_plain"), hang=True)

    app.enqueue("any.task")

    assert lost.hits == 1
    assert streams(app) == {"default": 3}


def in_pieces(peer):
    """Answer byte by byte, each well in time for somebody who waits for some byte."""
    with suppress(OSError):
        peer.recv(65536)
        for byte in b"$7\r\ndefault\r\n":
            time.sleep(TIMEOUT / 4)
            peer.send(bytes([byte]))


def test_an_answer_that_comes_in_pieces_is_waited_for_no_longer(app):
    (channel,) = app.broker.publisher.channels.idle
    ours, peer = socket.socketpair()
    os.dup2(ours.fileno(), channel.connection.fileno())
    channel.connection.identity = identity(channel.connection.socket)
    answering = threading.Thread(target=in_pieces, args=(peer,))
    answering.start()
    began = time.monotonic()

    with pytest.raises(PublishUnknown):
        app.enqueue("any.task")

    assert time.monotonic() - began < TIMEOUT + MARGIN
    ours.close()
    answering.join()
    peer.close()


def test_a_disk_that_is_slow_is_waited_for_no_longer(app, proxy):
    began = time.monotonic()

    with pytest.raises(NotConfirmed):
        app.enqueue(app.signature("any.task", confirm="replica"))

    assert TIMEOUT / 2 < time.monotonic() - began < TIMEOUT + MARGIN


# What a publish needs beside it


def one(app):
    app.enqueue(app.signature("any.task", queue="fresh"))


def some(app):
    app.enqueue_many([app.signature("any.task", queue="fresh")])


def awaited(app):
    async def main():
        try:
            await app.aenqueue(app.signature("any.task", queue="fresh"))
        finally:
            await app.aclose()

    asyncio.run(main())


DECLARES = pytest.mark.parametrize("send", [one, some, awaited], ids=lambda way: way.__name__)


@DECLARES
@pytest.mark.parametrize("error", [BUSY, LOADING], ids=code_of)
def test_a_topology_is_declared_again_when_the_server_can(app, proxy, streams, send, error):
    refused = proxy.answer(error, DECLARING, times=3)

    send(app)

    assert refused.hits == 3
    assert streams(app)["fresh"] == 1


@DECLARES
@pytest.mark.parametrize("declared", [True, False])
def test_a_server_that_stays_busy_is_asked_until_the_time_is_over(app, proxy, send, declared):
    if declared:
        app.queues = [Queue("fresh", Exchange("ex"), routing_key="k")]
    refused = proxy.answer(BUSY, DECLARING, times=None)
    began = time.monotonic()

    with pytest.raises((BrokerUnavailable, PartlyPublished), match="BUSY") as error:
        send(app)

    assert TIMEOUT / 2 < time.monotonic() - began < TIMEOUT + MARGIN
    assert refused.hits > 2
    assert isinstance(error.value, PartlyPublished) == (send is some)


def test_declaring_does_not_hold_up_the_event_loop(app, proxy):
    proxy.answer(BUSY, DECLARING, times=None)

    async def main():
        ticks = 0
        sending = asyncio.create_task(app.aenqueue(app.signature("any.task", queue="fresh")))
        while not sending.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await app.aclose()
        return ticks, sending.exception()

    ticks, error = asyncio.run(main())

    assert isinstance(error, BrokerUnavailable)
    assert ticks > 20


@pytest.mark.parametrize("send", ["enqueue", "enqueue_many", "aenqueue"])
def test_the_servers_clock_is_asked_for_as_long(make_app, proxy, send, streams):
    app = make_app(
        url=proxy.url, publish_timeout=TIMEOUT, signing="required", signing_keys="k1:" + "k" * 32
    )
    call = app.signature("any.task", expires=60)

    async def main():
        try:
            await app.aenqueue(call)
        finally:
            await app.aclose()

    def publish():
        if send == "aenqueue":
            asyncio.run(main())
        else:
            getattr(app, send)(call if send == "enqueue" else [call])

    publish()
    refused = proxy.answer(BUSY, "TIME", times=2)
    publish()
    assert refused.hits == 2
    proxy.answer(BUSY, "TIME", times=None)
    began = time.monotonic()

    with pytest.raises((BrokerUnavailable, PartlyPublished), match="BUSY"):
        publish()

    assert TIMEOUT / 2 < time.monotonic() - began < TIMEOUT + MARGIN
    assert streams(app) == {"default": 2}
