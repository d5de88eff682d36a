"""Workers that cannot see each other: process namespaces with one /tmp, users behind hidepid."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.processes import HIDING, OTHER_USER, children_of, needs_namespaces

pytestmark = needs_namespaces

#: The worker is process 1 of a namespace with a /proc of its own, as in a container.
CONTAINER = ("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")
#: The same, but /proc shows the processes outside.
SHARED_PROC = ("unshare", "--pid", "--fork", "--kill-child")

TASKS = """
@app.task
def hold(number):
    note(f"begin {number}")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return number
"""


class Elsewhere:
    """A worker in a place of its own."""

    def __init__(self, site, prefix, *flags):
        self.site = site
        self.log = site.folder / f"elsewhere-{len(site.helpers)}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "streamq", "worker", "-A", "tasks", *flags],
                cwd=site.folder,
                env=site.env,
                stdout=log,
                stderr=log,
            )
        site.helpers.append(self.process)

    @property
    def said(self):
        return self.log.read_text()

    def is_ready(self):
        """Whether its runner has a lease; it says its name before."""
        assert self.process.poll() is None, self.said
        lines = [line for line in self.said.splitlines() if line.startswith("streamq 0")]
        leases = self.site.redis.zrange("{streamq}:leases", 0, -1)
        node = lines[0].split(" · ")[1] if lines else None
        return node if any(each.startswith(f"{node}:") for each in leases) else None

    def end(self, number=signal.SIGTERM):
        """Send a signal to the worker itself, and wait for it."""
        forks = "--fork" in self.process.args
        os.kill(*(children_of(self.process.pid) if forks else [self.process.pid]), number)
        self.process.wait(timeout=30)
        self.process.wait(timeout=30)


def rows(site):
    """The names in `streamq workers ls`."""
    command = [sys.executable, "-m", "streamq", "-A", "tasks", "workers", "ls", "--json"]
    out = subprocess.run(command, cwd=site.folder, env=site.env, capture_output=True, check=True)
    return sorted(each["node"] for each in json.loads(out.stdout) if each["up"])


def folders(site):
    return set((site.folder / "tmp").glob("streamq-worker-*"))


@pytest.fixture
def shared(site):
    """A site whose workers share a folder for temporary files."""
    site.write(TASKS)
    (site.folder / "tmp").mkdir()
    site.env["TMPDIR"] = str(site.folder / "tmp")
    return site


@pytest.mark.parametrize(
    ("place", "flags"),
    [
        pytest.param(CONTAINER, ("-c", "1"), id="container"),
        pytest.param(SHARED_PROC, ("-c", "1"), id="shared-proc"),
        pytest.param(CONTAINER, ("-c", "1", "-n", "twin@here"), id="chosen"),
        pytest.param(CONTAINER, ("-P", "gevent", "-c", "4"), id="gevent"),
    ],
)
def test_workers_of_two_namespaces_leave_each_others_folders_alone(shared, place, flags):
    """Both are process 1 of their namespace, in which the other one's numbers mean nothing."""
    one = Elsewhere(shared, place, *flags)
    first = shared.until(one.is_ready, "the first one works")
    result = shared.send("hold", 1)
    shared.until(lambda: shared.notes() == ["begin 1"])
    (folder,) = folders(shared)

    two = Elsewhere(shared, place, *flags)
    second = shared.until(two.is_ready, "the second one works")

    assert folder.is_dir()
    assert len(folders(shared)) == 2
    assert rows(shared) == sorted([first, second])
    assert first != second
    assert f"another worker is named {first}; this one is called {second}" in two.said
    other = shared.send("hold", 2)
    shared.until(lambda: len(shared.notes()) == 2)
    (shared.folder / "go").touch()
    assert [result.get(timeout=10), other.get(timeout=10)] == [1, 2]
    assert shared.notes() == ["begin 1", "begin 2"], "none ran twice"
    one.end()
    assert rows(shared) == [second]
    assert len(folders(shared)) == 1
    two.end()
    assert folders(shared) == set()
    shared.at_rest()


def test_the_folder_of_a_worker_that_was_killed_is_removed_whatever_its_number(shared):
    one = Elsewhere(shared, CONTAINER, "-c", "1")
    shared.until(one.is_ready)
    left = folders(shared)
    one.end(signal.SIGKILL)

    two = Elsewhere(shared, CONTAINER, "-c", "1")
    shared.until(two.is_ready)

    assert len(left) == 1
    assert len(folders(shared)) == 1
    assert folders(shared) != left
    two.end()


def test_a_worker_of_another_user_takes_nothing_from_one_that_proc_hides(shared):
    """A second supervisor starts where /proc shows no process of the first one's user."""
    (shared.folder / "tmp").chmod(0o1777)
    one = Elsewhere(shared, (), "-c", "1")
    first = shared.until(one.is_ready)
    result = shared.send("hold", 1)
    shared.until(lambda: shared.notes() == ["begin 1"])

    hidden = ("unshare", "--mount", "sh", "-c", f'{HIDING} exec "$@"', "sh", *OTHER_USER)
    two = Elsewhere(shared, hidden, "-c", "1")
    second = shared.until(two.is_ready)

    assert "is dead" not in two.said
    assert "handed back" not in two.said
    assert first != second
    assert len(folders(shared)) == 2
    (shared.folder / "go").touch()
    assert result.get(timeout=10) == 1
    assert shared.notes() == ["begin 1"]
    assert "was fenced meanwhile" not in one.said
    two.end()
    one.end()
