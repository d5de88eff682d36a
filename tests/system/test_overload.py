"""Too many of something: connections, messages, those who wait."""

import statistics
import time

import pytest
import redis as redis_py

from streamq.errors import BrokerUnavailable
from tests.system.traffic import LEASE, TASKS, begun

STREAM = "{streamq}:queue:default"
FLAGS = pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 2), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 20), id="gevent"),
    ],
)


@pytest.fixture
def short(site):
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    return site


def names(redis):
    return {client["name"] for client in redis.client_list()}


def ours(redis):
    return [client for client in redis.client_list() if client["name"].startswith("streamq")]


# Connections


def test_a_thousand_connections_of_others_keep_nobody_waiting(short, server):
    clients = [redis_py.Redis.from_url(server.url, protocol=2) for _ in range(1000)]
    for client in clients:
        client.ping()
    assert server.client.info("clients")["connected_clients"] >= 1000

    worker = short.worker("-c", 2)
    results = short.send_many("quick", 100)

    assert [each.get(timeout=20) for each in results] == list(range(100))
    assert len(ours(server.client)) < 12
    assert worker.stop() == 0
    for client in clients:
        client.close()
    short.at_rest()


@FLAGS
def test_a_server_that_takes_no_more_clients_is_asked_again_now_and_then(short, server, flags):
    worker = short.worker(*flags)
    assert short.send("quick", 0).get(timeout=10) == 0
    runners = worker.runners()
    for app in short.apps:
        app.close()
    most = server.client.config_get("maxclients")["maxclients"]
    server.client.config_set("maxclients", 1)
    server.client.client_kill_filter(_type="normal", skipme=True)
    server.client.client_kill_filter(_type="pubsub", skipme=True)
    before = server.client.info("stats")["rejected_connections"]
    time.sleep(2 * LEASE)
    refused = server.client.info("stats")["rejected_connections"] - before
    hasty = short.new_app(publish_timeout="300ms")
    with pytest.raises(BrokerUnavailable):
        hasty.enqueue("tasks.quick", 1)
    server.client.config_set("maxclients", most)

    assert 3 <= refused <= 15 * 2 * LEASE * 3, "tried again, and no hot loop"
    assert short.send("quick", 2).get(timeout=10) == 2
    assert worker.runners() == runners
    assert "Traceback" not in worker.said
    assert worker.stop() == 0
    short.at_rest()


def test_a_notifier_that_cannot_connect_blocks_no_other_service(short, server):
    worker = short.worker("-c", 1)
    assert short.send("quick", 0).get(timeout=10) == 0
    result = short.send("quick", 1, countdown=1)
    most = server.client.config_get("maxclients")["maxclients"]
    server.client.config_set("maxclients", 1)
    try:
        server.client.client_kill_filter(_type="pubsub", skipme=True)
        # Not `get`: whoever waits may need a connection more, which it does not get either.
        short.until(result.successful, "it was promoted, and ran")
    finally:
        server.client.config_set("maxclients", most)

    assert "Notifier.listen: " in worker.said
    short.until(lambda: server.client.client_list(_type="pubsub"), "it listens again")
    short.at_rest()


@FLAGS
def test_a_process_has_three_connections_at_most_whatever_it_does(short, proxy, flags):
    short.env["STREAMQ_URL"] = proxy.url  # who is connected there is of the worker
    worker = short.worker(*flags)
    most, sent = 0, short.send_many("quick", 2000) + short.send_many("twice", 20)
    while short.held():
        most = max(most, len(proxy.links))
    assert [each.get(timeout=20) for each in sent][:2000] == list(range(2000))

    assert 0 < most <= 3 * (1 + len(worker.runners()))
    worker.stop()
    short.until(lambda: not proxy.links, "all left")


# Messages

FILL = """
for i = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], '*',
    'task', 'tasks.quick', 'args', '[' .. i .. ']', 'ignore_result', '1')
end
"""


def acknowledged(site):
    """How many messages were acknowledged so far."""
    return site.redis.info("commandstats").get("cmdstat_xack", {"calls": 0})["calls"]


def rate(site, seconds=3.0):
    """Tasks a second that run."""
    done = acknowledged(site)
    time.sleep(seconds)
    return (acknowledged(site) - done) / seconds


def median_of_enqueue(site):
    took = []
    for _ in range(200):
        began = time.perf_counter()
        site.app.enqueue(site.app.signature("tasks.quick", (0,), ignore_result=True))
        took.append(time.perf_counter() - began)
    return statistics.median(took)


# Those who wait

WAIT = """
    from gevent import monkey
    monkey.patch_all()
    import gevent
    from tasks import app, quick

    results = app.enqueue_many(quick.s(number) for number in range({count}))
    waiting = [gevent.spawn(result.get, timeout=100) for result in results]
    gevent.sleep(0.1)
    print("waits", flush=True)
    gevent.joinall(waiting, raise_error=True)
    assert [each.value for each in waiting] == list(range({count}))
    print("done", flush=True)
"""


def test_those_who_wait_in_one_process_need_one_connection(short, server):
    one_connection_for_all_who_wait(short, server, 500)


def one_connection_for_all_who_wait(short, server, count):
    short.worker("-c", 1).stop()  # the queue is there
    waiting = short.python(WAIT.format(count=count))
    assert waiting.stdout.readline() == b"waits\n"
    short.until(lambda: "streamq:waiting" in names(server.client), "it waits")
    assert [c["name"] for c in ours(server.client)].count("streamq:waiting") == 1
    assert len([c for c in ours(server.client) if "worker@" not in c["name"]]) <= 10
    short.worker("-c", 2)

    out, err = waiting.communicate(timeout=100)

    assert (out, err) == (b"done\n", b"")
    short.drained()
    short.at_rest()


def test_who_dies_while_it_waits_leaves_nothing(short, server):
    short.worker("-c", 1)
    waiting = short.python(
        """
        from tasks import hold
        result = hold.enqueue(1)
        print("waits", flush=True)
        result.get(timeout=60)
        """
    )
    assert waiting.stdout.readline() == b"waits\n"
    short.until(lambda: server.client.info("clients")["blocked_clients"], "it blocks")
    short.until(lambda: begun(short))
    theirs = {"streamq:waiting", "streamq:producer"}
    assert theirs <= names(server.client)
    waiting.kill()
    waiting.wait()
    short.until(lambda: names(server.client).isdisjoint(theirs), "its connections are gone")

    (short.folder / "go").touch()
    short.drained()

    short.at_rest()  # what was said to it expires
