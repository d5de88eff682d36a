"""Folders that a worker needs and that are not as they should be."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import needs_namespaces

PREFORK, GEVENT = ("-c", "1"), ("-P", "gevent", "-c", "4")

TASKS = """
@app.task
def quick(number):
    return number
"""


def whole(folder):
    """The folder for temporary files itself."""
    shutil.rmtree(folder)


def inside(folder):
    """What is in it."""
    for each in folder.iterdir():
        shutil.rmtree(each)


def files(folder):
    """The files of the worker alone."""
    for each in folder.glob("*/*"):
        each.unlink()


@pytest.mark.parametrize("tidy", [whole, inside, files])
@pytest.mark.parametrize("flags", [PREFORK, GEVENT], ids=["prefork", "gevent"])
def test_a_worker_whose_files_are_tidied_away_while_it_waits_for_redis_goes_on(
    site, server, flags, tidy
):
    site.write(TASKS)
    folder = site.folder / "tmp"
    folder.mkdir()
    site.env["TMPDIR"] = str(folder)
    server.stop(signal.SIGKILL)
    worker = site.worker(*flags, ready=False)
    site.until(lambda: "trying again" in worker.said, "it waits")
    assert list(folder.glob("streamq-worker-*/slots"))

    tidy(folder)
    server.start()

    site.until(lambda: worker.process.poll() is not None or "streamq 0" in worker.said)
    assert site.send("quick", 7).get(timeout=10) == 7, worker.said
    assert worker.stop() == 0


def in_read_only(site, also, *words):
    """A command for which the file system is read-only, in a namespace of its own."""
    mounts = "".join(f"mount -o remount,bind,ro {each} && " for each in ("/", *also))
    prepared = f'mount --bind / / && cd "$PWD" && {mounts} exec "$@"'
    return [
        "unshare",
        "--mount",
        "sh",
        "-c",
        prepared,
        "sh",
        sys.executable,
        "-m",
        "streamq",
        *words,
    ]


def start_read_only(site, *flags, also=()):
    log = site.folder / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            in_read_only(site, also, "worker", "-A", "tasks", *flags),
            cwd=site.folder,
            env={**site.env, "TMPDIR": str(site.folder)},
            stdout=file,
            stderr=file,
        )
    site.helpers.append(process)
    return process, log


@needs_namespaces
@pytest.mark.parametrize("flags", [PREFORK, GEVENT], ids=["prefork", "gevent"])
def test_a_worker_on_a_read_only_file_system_keeps_its_files_in_memory(site, flags):
    site.write(TASKS)

    process, log = start_read_only(site, *flags)

    site.until(lambda: process.poll() is not None or "streamq 0" in log.read_text())
    assert process.poll() is None, log.read_text()
    assert site.send("quick", 7).get(timeout=10) == 7
    mine = f"streamq-worker-at-{process.pid}-*"
    assert list(Path("/dev/shm").glob(mine))
    process.terminate()
    assert process.wait(20) == 0
    assert not list(Path("/dev/shm").glob(mine))


@needs_namespaces
def test_without_any_place_for_its_files_it_names_what_to_set(site):
    site.write(TASKS)

    process, log = start_read_only(site, *PREFORK, also=["/dev/shm"])

    assert process.wait(20) == 78
    assert "TMPDIR" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "command", [("worker", "-A", "tasks"), ("queues", "ls"), ("server", "status")]
)
def test_a_working_folder_that_is_gone_is_named(site, command):
    gone = site.folder / "gone"
    gone.mkdir()
    words = [sys.executable, "-m", "streamq", *command]
    done = subprocess.run(
        ["sh", "-c", f'rmdir {gone} && exec "$@"', "sh", *words],
        cwd=gone,
        env=site.env,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 78
    assert f"the working folder is gone: {gone}" in done.stderr
    assert "Traceback" not in done.stderr
