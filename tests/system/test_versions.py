"""The server is replaced by a newer one, with the same data, under load."""

import shutil
import signal
import subprocess

import pytest

from tests.conftest import server_binary
from tests.system.traffic import TASKS, Traffic


def is_redis_7(program):
    said = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True, text=True)
    return "Redis server v=7." in said.stdout


def test_an_upgrade_of_the_server_under_load_loses_nothing(site, server):
    old, new = shutil.which("redis-server"), server_binary()
    if old is None or not is_redis_7(old) or is_redis_7(new):
        pytest.skip("this needs Redis 7.0 on PATH, and a newer server to test with")
    site.write(TASKS)
    server.stop(signal.SIGKILL)
    shutil.rmtree(server.folder / "appendonlydir")
    server.program = old
    server.start()
    server.write_through()
    worker = site.worker("-c", 2)
    traffic = Traffic(site)
    traffic.flows()
    assert "valkey_version" not in server.client.info("server")

    server.stop()
    server.program = new
    server.start()
    traffic.flows()

    assert server.client.info("server")["redis_version"] != "7.0.15"
    assert max(traffic.end().values()) == 1
    site.at_rest()
    assert worker.stop() == 0
