"""The disk of the server is full: nothing is lost, and work goes on when there is room again."""

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import redis as redis_py

from streamq.errors import BrokerUnavailable
from tests.servers import running
from tests.system.traffic import TASKS, begun


@pytest.fixture
def disk():
    """A disk of 24 MiB."""
    if os.geteuid():
        pytest.skip("only root may mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="streamq-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        folder.rmdir()
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture
def server(disk, server_program):
    with running(server_program, disk) as server:
        yield server


def fill(disk):
    """Leave no room; the file that takes it."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    with open(ballast, "ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x")
    return ballast


def refuses_writes(server):
    try:
        server.client.set("probe", "x" * 1000, ex=60)
    except redis_py.ResponseError as error:
        return "MISCONF" in str(error)
    return False


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_server_that_cannot_write_is_waited_for(site, server, disk, pool):
    site.write(TASKS)
    worker = site.worker("-P", pool, "-c", 2)
    held = site.send("hold", 1)
    site.until(lambda: begun(site))
    runners = worker.runners()
    ballast = fill(disk)
    site.until(lambda: refuses_writes(server), "it takes no writes")

    with pytest.raises(BrokerUnavailable, match="nothing was written") as said:
        site.send("quick", 1)
    (site.folder / "go").touch()
    site.until(lambda: "takes no writes" in worker.said, "the worker says why it waits")
    ballast.unlink()

    assert "free the disk" in str(said.value)
    assert held.get(timeout=20)[0] == 1
    assert site.send("quick", 2).get(timeout=20) == 2
    assert len(begun(site)) == 1
    assert worker.runners() == runners
    assert worker.stop() == 0
    site.at_rest()


def test_a_server_that_ends_because_it_must_not_lose_anything_is_waited_for(site, server, disk):
    """With ``appendfsync always`` it ends rather than answer for what is not on disk."""
    site.write(TASKS)
    server.write_through()
    worker = site.worker("-c", 2)
    held = site.send("hold", 1)
    site.until(lambda: begun(site))
    ballast = fill(disk)

    with pytest.raises(redis_py.RedisError):
        site.until(lambda: server.client.set("probe", "x" * 1000, ex=60) and False)
    server.process.wait(timeout=10)
    server.process = None
    (site.folder / "go").touch()
    ballast.unlink()
    server.start()

    assert held.get(timeout=20)[0] == 1
    assert site.send("quick", 2).get(timeout=20) == 2
    assert len(begun(site)) == 1
    assert worker.stop() == 0
    site.at_rest()
