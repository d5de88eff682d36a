"""Where no server of ours can be had: refused at once, with the reason, by whoever wants one."""

import os
import subprocess
import sys
import time

import pytest

from streamq.devserver import server
from streamq.devserver.project import NoServer, ProjectFolder
from tests.edits import CHECKOUT

OTHER = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user")


@pytest.fixture
def project(tmp_path):
    (tmp_path / "tasks.py").write_text("import streamq\napp = streamq.App('shop')\n")
    (tmp_path / "streamq.toml").touch()
    return tmp_path


def refused(project, command=("worker", "-A", "tasks")):
    """What a command says that ends at once."""
    env = {name: value for name, value in os.environ.items() if "STREAMQ" not in name}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "streamq", *command],
        cwd=project,
        env={**env, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 69, done.stderr
    assert "trying again" not in done.stderr
    assert time.monotonic() - began < 15
    return done.stderr


@needs_root
@pytest.mark.parametrize("command", [("worker", "-A", "tasks"), ("enqueue", "tasks.add")])
def test_the_folder_of_another_user_is_refused_at_once(project, command):
    (project / ".streamq").mkdir()
    os.chown(project / ".streamq", OTHER, OTHER)

    said = refused(project, command)

    assert "the folder belongs to another user" in said
    assert str(project / ".streamq") in said


def test_what_is_no_folder_is_refused_at_once(project):
    (project / ".streamq").touch()

    assert "File exists" in refused(project)


@needs_root
def test_a_folder_for_the_socket_that_another_user_has_made_is_named(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    project = ProjectFolder.nearest(deep)
    socket = project.new_socket().parent
    assert socket != project.folder
    socket.mkdir()
    os.chown(socket, OTHER, OTHER)

    try:
        with pytest.raises(NoServer, match="belongs to another user") as caught:
            server.ensure(deep)
    finally:
        socket.rmdir()
    assert str(socket) in str(caught.value)


@needs_root
def test_a_folder_behind_one_that_may_not_be_looked_into_is_refused(tmp_path):
    """Such as one in the home of another user, where ``sudo`` has left us."""
    behind = tmp_path / "home" / "project"
    behind.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            (tmp_path / "home").chmod(0o700)
            os.chdir(behind)
            os.setresuid(OTHER, OTHER, OTHER)
            server.ensure()
        except NoServer as error:
            code = 0 if "ermission denied" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
