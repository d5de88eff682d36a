"""The proxy itself: it must do what tests believe it does, and leave nothing behind."""

import socket
import threading
import time

import pytest

from streamq.transport.connection import Connection
from streamq.transport.replies import Disconnected, Refused
from tests.proxy import Proxy, calls_of, end_of_frame, open_descriptors, sent_by


@pytest.fixture
def connection(proxy):
    connection = Connection(proxy.url, name="streamq:test", patience=0.3)
    yield connection
    connection.drop()


def test_what_is_not_spoilt_passes(proxy, connection):
    connection.send([("ECHO", "x" * 300_000), ("SET", "k", b"\xff\r\n"), ("GET", "k"), ("LPUSH",)])

    assert connection.read() == b"x" * 300_000
    assert connection.read() == b"OK"
    assert connection.read() == b"\xff\r\n"
    with pytest.raises(Refused, match="wrong number"):
        connection.read()
    assert proxy.seen["ECHO"] == proxy.seen["SET"] == 1
    assert proxy.connected == 1


def test_a_blocking_read_passes_when_its_time_comes(connection, redis):
    later = threading.Timer(0.1, redis.rpush, ("list", "x"))
    later.start()

    assert connection.ask("BLPOP", "list", 5, timeout=5) == [b"list", b"x"]
    later.join()


def test_a_black_hole_swallows_and_answers_nothing(proxy, connection, redis):
    connection.ask("PING")
    proxy.blackhole()

    with pytest.raises(Disconnected, match="no answer in time"):
        connection.ask("SET", "k", 1)
    with pytest.raises(Disconnected, match="no answer in time"):
        Connection(proxy.url, patience=0.1).ask("PING")
    proxy.heal()

    assert redis.get("k") is None
    assert connection.ask("PING") == b"PONG"


def test_a_connection_that_lost_bytes_is_broken_when_healed(proxy, connection):
    connection.ask("PING")
    proxy.blackhole()
    connection.send([("PING",)])
    proxy.heal()

    with pytest.raises(Disconnected):
        connection.read(5)


def test_what_is_held_arrives_late(proxy, connection, redis):
    connection.ask("PING")
    proxy.hold()
    connection.send([("SET", "k", 1)])
    with pytest.raises(AssertionError):
        wait_for(lambda: redis.get("k"), seconds=0.2)

    proxy.heal()

    assert connection.read() == b"OK"
    assert redis.get("k") == "1"


def wait_for(ready, *, seconds):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_delay_counts_each_way_and_keeps_the_order(proxy, connection):
    connection.ask("PING")
    proxy.delay(0.05)
    began = time.monotonic()
    connection.send([("ECHO", number) for number in range(25)])
    wait_for(lambda: proxy.seen["ECHO"] == 25, seconds=5)
    proxy.delay(0.0)
    connection.unread += 1
    connection.socket.sendall(b"*2\r\n$4\r\nECHO\r\n$2\r\n25\r\n")

    assert [connection.read(2) for _ in range(26)] == [str(n).encode() for n in range(26)]
    assert 0.05 <= time.monotonic() - began < 0.05 * 25, "they are not delayed one after another"
    proxy.delay(0.05)
    began = time.monotonic()
    connection.ask("PING")
    assert 0.1 <= time.monotonic() - began < 1.0


def test_a_reset_is_one_and_hits_who_is_connected(proxy, connection):
    connection.ask("PING")
    assert proxy.reset() == 1

    with pytest.raises(Disconnected, match="reset by peer"):
        connection.ask("PING")
    assert connection.ask("PING") == b"PONG"


def test_who_is_stranded_hears_nothing_and_who_is_new_does(proxy, connection):
    connection.ask("PING")
    assert proxy.strand() == 1

    with pytest.raises(Disconnected, match="no answer in time"):
        connection.ask("PING")
    assert connection.ask("PING") == b"PONG"


def test_who_is_new_is_refused_and_who_is_there_stays(proxy, connection):
    connection.ask("PING")
    proxy.refuse()

    with pytest.raises(Disconnected, match="refused"):
        Connection(proxy.url).ask("PING")
    assert connection.ask("PING") == b"PONG"
    proxy.heal()
    connection.drop()
    assert connection.ask("PING") == b"PONG"


def test_a_dropped_reply_belongs_to_a_command_that_was_executed(proxy, connection, redis):
    lost = proxy.drop_reply("INCR", times=2)
    for _ in range(2):
        connection.send([("PING",), ("INCR", "n"), ("PING",)])
        assert connection.read() == b"PONG"
        with pytest.raises(Disconnected):
            connection.read()

    assert connection.ask("INCR", "n") == 3
    assert lost.hits == 2


def test_a_connection_may_hang_after_a_dropped_reply(proxy, connection, redis):
    lost = proxy.drop_reply("INCR", hang=True)

    with pytest.raises(Disconnected, match="no answer in time"):
        connection.ask("INCR", "n")

    assert redis.get("n") == "1"
    assert lost.hits == 1
    assert connection.ask("INCR", "n") == 2


def test_an_answer_stands_where_the_reply_would_have_come(proxy, connection, redis):
    rule = proxy.answer("READONLY no", "INCR n", times=2)
    connection.send([("PING",), ("INCR", "n"), ("ECHO", "a"), ("INCR", "n"), ("INCR", "n")])
    replies = [connection.read(raising=False) for _ in range(5)]

    assert [str(reply) for reply in replies[1::2]] == [str(replies[1])] * 2
    assert "READONLY no" in str(replies[1])
    assert [replies[0], replies[2], replies[4]] == [b"PONG", b"a", 1]
    assert rule.hits == 2


def test_rules_find_scripts_clients_and_end(proxy, app, connection):
    behind = app.conf
    behind.url = proxy.url
    with proxy.answering("ERR not today", calls_of("publish", "publish_plain")) as rule:
        with pytest.raises(Exception, match="not today"):
            app.enqueue("any.task")
        assert rule.hits == 1
    app.enqueue("any.task")

    other = proxy.answer("ERR no", sent_by("streamq:test", "PING"))
    app.broker.client.ask("PING")
    with pytest.raises(Refused):
        connection.ask("PING")
    assert other.hits == 1


def test_a_server_that_is_away_is_a_connection_that_breaks():
    with Proxy("redis://127.0.0.1:1") as proxy, pytest.raises(Disconnected):
        Connection(proxy.url).ask("PING")


def test_it_starts_again_where_it_was(proxy, connection):
    connection.ask("PING")
    url = proxy.url
    proxy.stop()
    with pytest.raises(Disconnected):
        connection.ask("PING")

    proxy.start()

    assert proxy.url == url
    assert connection.ask("PING") == b"PONG"


@pytest.mark.parametrize("mode", ["heal", "hold", "blackhole", "refuse"])
def test_nothing_is_left_behind(server_url, mode):
    threads, descriptors = threading.active_count(), open_descriptors()
    with Proxy(server_url) as proxy:
        clients = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(20)]
        proxy.delay(5)
        for client in clients:
            client.sendall(b"PING\r\n")
        getattr(proxy, mode)()
        proxy.reset() if mode == "hold" else None
    for client in clients:
        client.close()

    assert threading.active_count() == threads
    assert open_descriptors() == descriptors
    assert proxy.connected == 0


def test_many_threads_may_use_it_at_once(proxy):
    def use(number):
        connection = Connection(proxy.url)
        for n in range(200):
            assert connection.ask("ECHO", f"{number}:{n}") == f"{number}:{n}".encode()
            if n % 50 == 0:
                proxy.answer("ERR x", f"GET {number}")
        connection.drop()
        done.append(number)

    done = []
    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(done) == list(range(8))


@pytest.mark.parametrize(
    "frame",
    [
        *(b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$3\r\na\r\n\r\n", b"*-1\r\n", b"*0\r\n"),
        *(b"*2\r\n*1\r\n$1\r\na\r\n:2\r\n", b"%1\r\n+a\r\n*1\r\n_\r\n", b"-ERR no\r\n"),
    ],
)
def test_frames_are_found_whole(frame):
    assert end_of_frame(b"x" + frame + b"+next\r\n", 1) == 1 + len(frame)
    assert [end_of_frame(frame[:n], 0) for n in range(len(frame))] == [-1] * len(frame)
