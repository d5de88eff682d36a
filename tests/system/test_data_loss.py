"""Redis loses data: no more than it says, and everybody goes on with what is left."""

import shutil
import signal
import time

import pytest

from streamq.errors import NotConfirmed
from tests.system.traffic import LEASE, TASKS, Traffic, begun

STREAM = "{streamq}:queue:default"
#: Seconds after which a server with ``appendfsync everysec`` writes, whatever the disk does.
HELD_BACK = 2.0


@pytest.fixture
def short(site):
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    return site


def file_of(server):
    """The file to which the server appends."""
    (found,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    return found


def truncate(file, size):
    with open(file, "r+b") as opened:
        opened.truncate(size)


def runs_of(site):
    """The moments at which each number ran."""
    found = {}
    for line in site.notes():
        word, number, _, moment = line.split()
        if word == "quick":
            found.setdefault(int(number), []).append(float(moment))
    return found


def what_is_lost_is_young(traffic, since):
    """Everything accepted before that moment has its result; what ran again had run after it."""
    accepted = traffic.stop()
    traffic.site.drained()
    moments = {number: moment for _, number, moment in accepted}
    lost = traffic.without_result(accepted)
    assert [number for number in lost if moments[number] < since] == []
    again = {number: runs for number, runs in runs_of(traffic.site).items() if len(runs) > 1}
    assert [number for number, runs in again.items() if runs[0] < since] == []
    return lost, again


def test_a_killed_server_has_lost_at_most_what_it_held_back(short, server):
    """Everything that it wrote is in the memory of the kernel, which goes on living."""
    short.worker("-c", 2)
    traffic = Traffic(short)
    traffic.flows()

    killed = time.monotonic()
    server.stop(signal.SIGKILL)
    server.start()
    traffic.flows()

    what_is_lost_is_young(traffic, killed - HELD_BACK)


def test_a_power_failure_costs_what_was_not_yet_on_disk(short, server):
    """What the server had written in its last second never reached the disk."""
    short.worker("-c", 2)
    traffic = Traffic(short)
    held = short.send("hold", 1)
    short.until(lambda: begun(short))
    traffic.flows()
    server.client.config_set("appendfsync", "always")  # the file tells that it runs
    began, size = time.monotonic(), file_of(server).stat().st_size
    server.client.config_set("appendfsync", "everysec")
    (short.folder / "go").touch()
    assert held.get(timeout=10)[0] == 1
    time.sleep(1.0)

    server.stop(signal.SIGKILL)
    truncate(file_of(server), size)
    server.start()
    traffic.flows()

    short.until(lambda: len(begun(short)) == 2, "what was settled in vain runs again")
    lost, again = what_is_lost_is_young(traffic, began - HELD_BACK)
    assert len(lost) + len(again) > 20, "the fault has cost something"
    short.redis.delete(*[f"{{streamq}}:task:{id}" for id, *_ in traffic.accepted()])
    short.at_rest()


def test_what_is_confirmed_to_be_on_disk_survives_a_power_failure(short, server):
    """From some moment on nothing reaches the disk; whoever asks for more is told so."""
    if "valkey_version" not in server.client.info("server"):
        pytest.skip("this server has no WAITAOF")
    sure = short.new_app(confirm="fsync", confirm_timeout="300ms")

    def send(app, name):
        return app.enqueue(app.signature("tasks.quick", (1,), task_id=name))

    for number in range(20):
        send(sure, f"sure-{number}")
    server.client.config_set("appendfsync", "no")
    size = file_of(server).stat().st_size
    for number in range(20):
        send(short.app, f"unsure-{number}")
    with pytest.raises(NotConfirmed):
        send(sure, "told")

    server.stop(signal.SIGKILL)
    truncate(file_of(server), size)
    server.start()

    there = {key.removeprefix("{streamq}:task:") for key in short.redis.keys("{streamq}:task:*")}
    assert there == {f"sure-{number}" for number in range(20)}
    short.worker("-c", 2)
    assert send(sure, "told").get(timeout=20) == 1, "sent again, with the same id"
    short.drained()
    assert len(begun(short, "quick")) == 21


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 2), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 20), id="gevent"),
    ],
)
def test_a_server_that_comes_back_empty_is_served(short, server, flags):
    """What ran when it went ends unsettled: there is nothing that it would be the end of."""
    short.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "2s"
    worker = short.worker(*flags)
    old = short.send("hold", 1)
    short.until(lambda: begun(short))
    traffic = Traffic(short)
    traffic.flows()

    server.stop(signal.SIGKILL)
    shutil.rmtree(server.folder / "appendonlydir")
    server.start()
    traffic.flows()

    traffic.stop()
    short.drained()
    assert short.redis.hget(f"{{streamq}}:task:{old.id}", "state") is None
    assert len(begun(short)) == 1
    assert short.send("quick", 10**6).get(timeout=10) == 10**6
    ((_, holder),) = begun(short)
    short.until(lambda: not short.alive(holder), "what waits for it is ended")
    assert "Traceback" not in worker.said
    assert worker.said.count("it stops") <= 2, "each is told once"
    (short.folder / "go").touch()
    assert worker.stop() == 0
    short.at_rest()


# Somebody deletes what is ours


def stream_deleted(redis):
    redis.delete(STREAM)


def group_destroyed(redis):
    redis.xgroup_destroy(STREAM, "workers")


BY_HAND = pytest.mark.parametrize("fault", [stream_deleted, group_destroyed])


@BY_HAND
def test_a_reader_that_waits_finds_what_was_taken_from_it(short, server, fault):
    worker = short.worker("-c", 2)
    assert short.send("quick", 0).get(timeout=10) == 0
    runners = worker.runners()
    for number in range(1, 4):
        short.until(lambda: server.client.info("clients")["blocked_clients"], "somebody waits")
        fault(server.client)
        assert short.send("quick", number).get(timeout=10) == number

    assert worker.runners() == runners
    assert "Traceback" not in worker.said
    short.at_rest()


@BY_HAND
def test_under_load_it_costs_no_more_than_what_was_deleted(short, server, fault):
    """One call may be under way when it happens: it is in the stream, and answered later."""
    worker = short.worker("-c", 2)
    traffic = Traffic(short)
    for _ in range(3):
        traffic.flows()
        fault(server.client)
    last = time.monotonic()
    traffic.flows()

    accepted = traffic.stop()
    short.drained()
    lost = traffic.without_result(accepted)
    if fault is group_destroyed:
        assert lost == [], "what had not been settled was there, and is read again"
    under_way = min(number for _, number, moment in accepted if moment > last)
    assert [number for number in lost if number > under_way] == []
    assert "Traceback" not in worker.said
