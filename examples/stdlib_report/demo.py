"""Analyse the standard library of this Python, one task a file.

    make demo                      or  python demo.py [FOLDER]  for Python files elsewhere

Sends a task for each file, starts a worker for them, shows what came of it, and stops what
it started.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from streamq import Result, ResultTimeout, StreamqError, as_completed
from streamq.devserver import server

from report import Failures, Reports, console, next_steps, say, summary
from tasks import Report, analyse, app

HERE = Path(__file__).resolve().parent
INSTALLED = {"site-packages", "dist-packages"}  # by pip, by Debian
STREAMQ = (sys.executable, "-m", "streamq")
WORKER = ("worker", "-A", "tasks", "-Q", "packages,modules", "--burst", "-n", "demo@%h")


def main() -> int:
    """Run the demo; return its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # end as Ctrl-C does
    begun_in = Path.cwd()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib")).resolve()
    os.chdir(HERE)  # tasks.py is found here, and so is the project's server
    try:
        with project_server():
            names = enqueue(folder)
            subprocess.run([*STREAMQ, "queues", "ls"], check=True)
            with worker():
                reports, failures, seconds = collect(names)
            summary(reports, failures, seconds)
            next_steps(begun_in, reports, failures)
    except KeyboardInterrupt:
        say("stopped; what was not begun was taken out of the queues")
        return 130
    except StreamqError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@contextmanager
def project_server() -> Iterator[None]:
    """The project's own server, unless a URL names one; ended if we started it."""
    if app.conf.url is not None:
        yield
        return
    ours = server.find() is None
    try:
        running = server.ensure(grace=1)  # it ends a second after its last user
        say(f"server   {running.banner}")
        yield
    finally:
        if ours:
            server.leave(patience=5)


def enqueue(folder: Path) -> dict[Result[Report], str]:
    """Send a task for each file; return the results, each with the name of its file."""
    found = sorted(path.relative_to(folder) for path in folder.rglob("*.py"))
    paths = {name: folder / name for name in found if not INSTALLED.intersection(name.parts)}
    paths[Path("broken.py")] = HERE / "broken.py"
    signatures = []
    for name, path in paths.items():
        key = ".".join(["module", *name.with_suffix("").parts])  # module.json.decoder
        signatures.append(analyse.options(exchange="files", routing_key=key).s(str(path)))
    results = app.enqueue_many(signatures)
    say(f"sent     {len(results):,} tasks, one for each .py file in {folder}")
    return dict(zip(results, map(str, paths), strict=True))


@contextmanager
def worker() -> Iterator[None]:
    """A worker that ends when nothing waits any more; asked to end if we do before."""
    say(f"worker   streamq {' '.join(WORKER)}")
    with tempfile.TemporaryFile("w+") as log:
        # In a session of its own: a Ctrl-C is for us, and we pass it on once.
        process = subprocess.Popen(
            [*STREAMQ, *WORKER], stdout=log, stderr=log, start_new_session=True, text=True
        )
        try:
            yield
        except ResultTimeout:  # it does not work: what did it say?
            log.seek(0)
            shutil.copyfileobj(log, sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()
            for queue in ("packages", "modules"):  # nobody wants what was not begun
                subprocess.run([*STREAMQ, "queues", "purge", queue, "--yes"], stdout=log)


def collect(names: dict[Result[Report], str]) -> tuple[Reports, Failures, float]:
    """Wait for all results: reports and failures by file, and how long it took."""
    reports: Reports = {}
    failures: Failures = {}
    columns = TextColumn("running "), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn()
    left, began = set(names), time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(names))
        while waiting := len(left):
            try:
                for result in as_completed(left, timeout=15):
                    left.discard(result)
                    progress.advance(bar)
                    try:
                        reports[names[result]] = (result.id, result.get())
                    except Exception as error:
                        failures[names[result]] = (result.id, error)
            except ResultTimeout:  # of all that are left; has the worker stopped working?
                if len(left) == waiting:
                    raise
    return reports, failures, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
