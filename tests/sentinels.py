"""A master, its replica and three Sentinels on loopback, for tests that kill the master."""

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis as redis_py

from tests.conftest import free_ports
from tests.processes import die_with_parent, until

SERVICE = "shop"
#: Milliseconds of silence after which a Sentinel takes a server for dead.
DOWN_AFTER = 1000


class Node:
    """One server or Sentinel."""

    def __init__(self, folder: Path, command: list[str], port: int) -> None:
        self.folder, self.command, self.port = folder, command, port
        self.client: Any = redis_py.Redis(port=port, protocol=2, decode_responses=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.folder / f"{self.port}.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        until(self.answers, f"{self.port} answers", seconds=60)

    def answers(self) -> bool:
        with suppress(redis_py.RedisError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None

    def close(self) -> None:
        self.kill()
        self.client.close()


class Trio:
    """Two servers and three Sentinels; ``url`` is for apps.  Starts at once."""

    def __init__(self, program: str, *, password: str = "") -> None:
        self.program, self.password = program, password
        self.folder = Path(tempfile.mkdtemp(prefix="streamq-sentinel-"))
        ports = free_ports(5)
        self.servers = [self.server(port) for port in ports[:2]]
        self.sentinels = [self.sentinel(port, ports[0]) for port in ports[2:]]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        query = f"?sentinel_password={password}" if password else ""
        self.url = f"sentinel://{hosts}/{SERVICE}/0{query}"
        self.master, self.replica = self.servers
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        self.replica.client.replicaof("127.0.0.1", self.master.port)
        until(lambda: self.master.client.wait(1, 100) == 1, "the replica follows")
        for sentinel in self.sentinels:
            sentinel.start()
        until(self.watched, "the Sentinels watch")

    def watched(self) -> bool:
        """Whether all Sentinels know each other and the replica."""
        states = [sentinel.client.sentinel_master(SERVICE) for sentinel in self.sentinels]
        return all(s["num-other-sentinels"] == 2 and s["num-slaves"] == 1 for s in states)

    def fail_over(self) -> None:
        """Kill the master; the replica will be the next one."""
        self.master.kill()
        self.master, self.replica = self.replica, self.master

    def promoted(self) -> bool:
        """Whether the server that is to be the master is one, and every Sentinel says so."""
        named = [each.client.sentinel_get_master_addr_by_name(SERVICE) for each in self.sentinels]
        return self.master.client.role()[0] == "master" and all(
            port == self.master.port for _, port in named
        )

    def rejoin(self) -> None:
        """Start the server that was killed, as a replica.

        It has forgotten everything: as a master, until Sentinels notice, it would be an empty
        one that some of them still name.
        """
        self.replica.command += ["--replicaof", "127.0.0.1", str(self.master.port)]
        self.replica.start()

    def server(self, port: int) -> Node:
        folder = self.folder / str(port)
        folder.mkdir()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        options += ["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16mb"]
        return Node(self.folder, [self.program, *options], port)

    def sentinel(self, port: int, master: int) -> Node:
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        if self.password:
            lines += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
        path = self.folder / f"{port}.conf"
        path.write_text("\n".join(lines) + "\n")
        node = Node(self.folder, [self.program, str(path), "--sentinel"], port)
        if self.password:
            node.client = redis_py.Redis(
                port=port, protocol=2, decode_responses=True, password=self.password
            )
        return node

    def close(self) -> None:
        for node in [*self.sentinels, *self.servers]:
            node.close()
        shutil.rmtree(self.folder, ignore_errors=True)
