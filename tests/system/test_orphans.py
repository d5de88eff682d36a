"""What tasks leave behind, below a worker that the system hands it to."""

import ctypes
import signal
from pathlib import Path

import pytest

from tests.processes import children_of, needs_namespaces, stat
from tests.system.test_isolation import CONTAINER, SHARED_PROC, Elsewhere

TASKS = """
import subprocess, threading

def leave(session):
    \"\"\"Leave a process behind: that of a child which has ended.\"\"\"
    child = os.fork()
    if child == 0:
        if session:
            os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "0.05"])
        os._exit(0)
    os.waitpid(child, 0)

@app.task
def daemon(number):
    leave(session=number % 2)
    return number

@app.task
def die(number):
    subprocess.Popen(["sleep", "0.1"])
    subprocess.Popen(["sleep", "0.1"], start_new_session=True)
    os._exit(1)
"""

#: A module that has children of its own in the supervisor, and asks late how they ended.
ASKS = """
def ask(supervisor=os.getpid()):
    if os.getpid() != supervisor:
        return
    mine = [subprocess.Popen(["sh", "-c", "exit 7"]),
            subprocess.Popen(["sh", "-c", "exit 8"], start_new_session=True)]
    while not (HERE / "ask").exists():
        time.sleep(0.01)
    note([each.poll() for each in mine])

threading.Thread(target=ask, daemon=True).start()
"""


def zombies(pid):
    """The children of this process, of whatever thread, that nobody has waited for."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    found = " ".join((thread / "children").read_text() for thread in threads).split()
    return [int(child) for child in found if stat(int(child))[:1] == ["Z"]]


def works(site, pid, count=20):
    """Tasks leave processes behind, and none of those stays."""
    assert sorted(each.get(timeout=20) for each in site.send_many("daemon", count)) == list(
        range(count)
    )
    site.send("die", 1, max_deliveries=1)
    site.drained()
    site.until(lambda: len(children_of(pid)) == 1, "its runner alone lives", seconds=5)
    site.until(lambda: not zombies(pid), "what they have left is waited for", seconds=5)


def adopt():
    """Ask for orphans, as who starts a worker may have."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


@pytest.mark.parametrize("flags", [("-c", 1), ("-P", "gevent", "--processes", 1, "-c", 3)])
def test_a_subreaper_waits_for_what_tasks_leave_behind(site, flags):
    site.write(TASKS)
    worker = site.worker(*flags, preexec_fn=adopt)

    works(site, worker.pid)

    assert worker.stop() == 0


@needs_namespaces
@pytest.mark.parametrize("place", [CONTAINER, SHARED_PROC], ids=["own proc", "proc of outside"])
def test_a_worker_that_is_process_1_waits_for_what_tasks_leave_behind(site, place):
    site.write(TASKS)
    worker = Elsewhere(site, place, "-c", "1")
    site.until(worker.is_ready)
    (pid,) = children_of(worker.process.pid)

    works(site, pid)

    worker.end()
    assert worker.process.returncode == 0


@needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_ends_process_1_while_it_still_imports(site, number):
    """The kernel would keep it from a process that has no handler."""
    site.write("note('importing')\ntime.sleep(30)")
    worker = Elsewhere(site, CONTAINER, "-c", "1")
    site.until(site.notes)

    worker.end(number)

    assert worker.process.returncode == 128 + number
    assert "Traceback" not in worker.said


def test_children_of_a_module_are_left_to_it(site):
    site.write(TASKS + ASKS)
    worker = site.worker("-c", 1, preexec_fn=adopt)
    site.until(lambda: len(zombies(worker.pid)) == 2, "they have ended")

    assert site.send("daemon", 1).get(timeout=10) == 1
    assert site.send("daemon", 2).get(timeout=10) == 2
    site.until(lambda: len(zombies(worker.pid)) == 2, "only what tasks have left is waited for")
    (site.folder / "ask").touch()

    assert site.until(site.notes) == ["[7, 8]"]
    assert worker.stop() == 0
