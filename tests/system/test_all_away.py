"""All workers lose Redis for two leases under load: nobody takes from the living."""

import contextlib
import signal
import threading
import time

import pytest
import redis as redis_py

from tests.proxy import Proxy
from tests.system.traffic import LEASE, TASKS, runs_through

PREFORK, GEVENT = ("-c", 3), ("-P", "gevent", "--processes", 1, "-c", 20)
POOLS = [
    pytest.param(PREFORK, id="prefork"),
    pytest.param(GEVENT, id="gevent"),
]
OUTAGE = 2 * LEASE


@pytest.fixture
def short(site):
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    return site


@pytest.mark.parametrize("flags", POOLS)
def test_a_server_that_is_stopped(short, server, flags):
    server.write_through()

    runs_through(short, flags, [server.url], lambda: server.restart(signal.SIGKILL, down=OUTAGE))


@contextlib.contextmanager
def all_cut_off(server):
    """Two ways to the server, and what blackholes them both for a while."""
    with Proxy(server.url) as near, Proxy(server.url) as far:

        def trouble():
            near.blackhole()
            far.blackhole()
            time.sleep(OUTAGE)
            near.heal()
            time.sleep(LEASE / 2)  # who is back first sees that the others' leases are over
            far.heal()

        yield [near.url, far.url], trouble


@pytest.mark.parametrize("flags", POOLS)
def test_a_network_that_swallows_everything(short, server, flags):
    with all_cut_off(server) as (urls, trouble):
        runs_through(short, flags, urls, trouble)


# A server that is there, and does not answer

#: Answers that it loads, of which there are to be more.
REFUSALS = int(OUTAGE / 0.2)

LONG_SCRIPT = """
local function now()
  local time = redis.call("TIME")
  return time[1] + time[2] / 1e6
end
local began = now()
while now() - began < tonumber(ARGV[1]) do end
"""


@pytest.mark.parametrize("flags", [PREFORK, GEVENT], ids=["prefork", "gevent"])
def test_a_server_that_is_busy_with_a_long_script(short, server, flags):
    server.client.config_set("busy-reply-threshold", 50)
    client = redis_py.Redis.from_url(server.url, socket_timeout=60)
    refused = []

    def trouble():
        script = threading.Thread(target=client.eval, args=(LONG_SCRIPT, 0, OUTAGE))
        script.start()
        while script.is_alive():
            try:
                server.client.get("x")
            except redis_py.ResponseError as error:
                refused.append(str(error))
            time.sleep(0.05)
        script.join()

    runs_through(short, flags, [server.url], trouble)

    assert refused
    assert all("BUSY" in each for each in refused)
    client.close()


@pytest.mark.parametrize("flags", [PREFORK, GEVENT], ids=["prefork", "gevent"])
def test_a_server_that_loads_a_large_file(short, server, flags):
    """It takes half a millisecond for each key, so that a short file is a large one."""
    server.options = ["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"]
    pipeline = server.client.pipeline(transaction=False)
    for number in range(int(OUTAGE / 0.0005)):
        pipeline.set(f"filler:{number}", "x" * 100, ex=600)
    refused = []

    def trouble():
        pipeline.execute()
        server.client.bgrewriteaof()
        short.until(lambda: not server.client.info("persistence")["aof_rewrite_in_progress"])
        server.write_through()
        server.stop(signal.SIGKILL)
        server.launch()
        while not is_up(server.client, refused):
            if len(refused) == REFUSALS:
                far.blackhole()
            time.sleep(0.05)
        time.sleep(LEASE / 2)  # who is back first sees that the others' leases are over
        far.heal()

    with Proxy(server.url) as far:
        runs_through(short, flags, [server.url, far.url], trouble)

    assert len(refused) > REFUSALS


def is_up(client, refused):
    try:
        return client.ping()
    except redis_py.exceptions.BusyLoadingError as error:
        refused.append(error)
    except redis_py.ConnectionError:
        return False
