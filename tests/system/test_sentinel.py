"""Behind Sentinels: the master dies under load, and work resumes by itself."""

import asyncio
import re
import socket
import threading
import time

import pytest

import streamq
from streamq.errors import BrokerUnavailable, NotConfirmed, PublishUnknown
from streamq.transport.connection import Connection
from streamq.transport.replies import Disconnected
from tests.sentinels import Trio

TASKS = """
@app.task
def work(number):
    note(number)
    return number
"""


@pytest.fixture
def trio(server_program):
    trio = Trio(server_program)
    yield trio
    trio.close()


@pytest.fixture
def make_app(trio):
    made = []

    def make(**settings):
        app = streamq.App("producer", **{"url": trio.url, **settings})
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()
        app.broker.results.waiter.connection.drop()


def test_each_connection_is_made_to_the_master_and_nothing_else(trio, make_app):
    connection = Connection(trio.url, name="streamq:test")

    assert connection.ask("ROLE")[0] == b"master"
    connection.drop()
    first, *others = re.findall(r"127[^,/]+", trio.url)
    trio.sentinels[0].kill()
    assert connection.ask("ROLE")[0] == b"master", "the next Sentinel knows as well"
    connection.drop()
    assert first
    assert others
    assert make_app().enqueue("any.task").state == "QUEUED"


def test_a_server_that_sentinels_name_and_that_is_no_master_is_not_used(trio):
    """Between a failover and its news, a Sentinel names the old master."""
    connection = Connection(trio.url)
    for sentinel in trio.sentinels:
        sentinel.kill()
    trio.master.client.replicaof("127.0.0.1", trio.replica.port)
    with (
        FakeSentinel(trio.sentinels[0].port, trio.master.port),
        pytest.raises(Disconnected, match="not the master") as lost,
    ):
        connection.ask("PING")

    assert not lost.value.sent


class FakeSentinel:
    """Names one address to whoever asks."""

    def __init__(self, port, master):
        self.listening = socket.create_server(("127.0.0.1", port))
        number = str(master)
        self.answer = f"*2\r\n$9\r\n127.0.0.1\r\n${len(number)}\r\n{number}\r\n".encode()
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(5)

    def serve(self):
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            with client:
                while data := client.recv(4096):
                    asked = data.upper()
                    sets = asked.count(b"SETINFO")
                    client.sendall(b"+OK\r\n" * sets)
                    if b"SENTINEL" in asked:
                        client.sendall(self.answer)


def test_a_service_that_nobody_knows_is_named(trio, make_app):
    app = make_app(url=trio.url.replace("/shop/", "/other/"))

    with pytest.raises(BrokerUnavailable, match=r"no Sentinel knows a master of 'other'") as lost:
        app.enqueue("any.task")

    assert "SENTINEL MASTER other" in str(lost.value)
    assert not isinstance(lost.value, PublishUnknown)


def test_sentinels_may_have_a_password_and_it_is_not_shown(server_program):
    trio = Trio(server_program, password="s3cret")
    try:
        connection = Connection(trio.url)
        assert connection.ask("ROLE")[0] == b"master"
        connection.drop()
        with pytest.raises(streamq.ConfigError, match="refused the connection") as refused:
            Connection(trio.url.replace("s3cret", "wr0ng")).ask("PING")
        assert "wr0ng" not in str(refused.value)
        for sentinel in trio.sentinels:
            sentinel.kill()
        with pytest.raises(Disconnected) as lost:
            connection.ask("PING")
        assert "s3cret" not in str(lost.value)
    finally:
        trio.close()


@pytest.fixture
def loop():
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def produce():
    """``produce(send)`` starts a Producer; each is stopped in the end."""
    started = []

    def start(send):
        started.append(Producer(send))
        return started[-1]

    yield start
    for producer in started:
        producer.stopping = True
        producer.thread.join(40)


class Producer:
    """Sends numbered calls until it is stopped; what was accepted, and how long it took."""

    def __init__(self, send):
        self.send, self.accepted, self.unsure = send, [], []
        self.longest, self.number, self.stopping = 0.0, 0, False
        self.error = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping:
                began = time.monotonic()
                try:
                    self.send(self.number)
                    self.accepted.append(self.number)
                except (NotConfirmed, PublishUnknown):
                    self.unsure.append(self.number)
                except BrokerUnavailable:  # a slow failover; it goes on, and nothing is accepted
                    pass
                self.longest = max(self.longest, time.monotonic() - began)
                self.number += 1
        except BaseException as error:
            self.error = error

    def stop(self):
        self.stopping = True
        self.thread.join(40)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


def sender(app):
    return lambda number: app.enqueue(app.signature("tasks.work", (number,)))


def async_sender(app, loop):
    def send(number):
        call = app.aenqueue(app.signature("tasks.work", (number,)))
        asyncio.run_coroutine_threadsafe(call, loop).result(40)

    return send


@pytest.mark.timeout(180)
def test_a_killed_master_is_replaced_under_producers_and_a_worker(
    trio, make_app, site, loop, produce
):
    site.write(TASKS)
    site.env["STREAMQ_URL"] = trio.url
    site.redis = trio.master.client
    worker = site.worker("-c", 2)
    asynchronous = make_app(confirm="replica", confirm_timeout="200ms")
    producers = [
        produce(sender(make_app(confirm="replica", confirm_timeout="200ms"))),
        produce(async_sender(asynchronous, loop)),
    ]
    site.until(lambda: all(len(each.accepted) > 100 for each in producers), "accepted")
    site.until(lambda: len(site.notes()) > 100, "run")

    before = len(site.notes())
    trio.fail_over()
    killed = time.monotonic()
    site.until(trio.promoted, "the replica is the master now")
    trio.rejoin()
    site.until(lambda: len(site.notes()) > before + 100, "tasks run again")
    resumed = time.monotonic() - killed
    goal = [len(each.accepted) + 100 for each in producers]
    site.until(
        lambda: all(len(p.accepted) > g for p, g in zip(producers, goal, strict=True)),
        "messages are accepted and confirmed again",
        seconds=40,
    )
    for producer in producers:
        producer.stop()
    site.redis = trio.master.client
    site.until(lambda: site.held() == 0, "everything has run", seconds=40)

    assert resumed < 8
    asyncio.run_coroutine_threadsafe(asynchronous.aclose(), loop).result(10)
    ran = {int(number) for number in site.notes()}
    lost = [number for each in producers for number in each.accepted if number not in ran]
    assert lost == []
    assert "Traceback" not in worker.said
    assert worker.stop() == 0
    site.until(lambda: site.pending() == 0, "nothing is pending")
