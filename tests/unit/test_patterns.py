"""Patterns of names of files, and the log file and the pid file that have such names."""

import os

import pytest

from streamq.errors import ConfigError
from streamq.runner.log_file import LogFile
from streamq.worker.patterns import file_name
from streamq.worker.pidfile import PidFile
from tests.processes import until


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("/run/%n.pid", "/run/w1.pid"),
        ("/log/%p.log", "/log/w1@web.shop.example.log"),
        ("/log/%h-%d.log", "/log/web.shop.example-shop.example.log"),
        ("/log/%%n%%I.log", "/log/w1.log"),
        ("/log/%n-%i.log", "/log/w1-0.log"),
        ("/log/50%.log", "/log/50%.log"),
    ],
)
def test_signs_in_the_name_of_a_file_stand_for_the_worker(pattern, name):
    assert file_name(pattern, "w1@web.shop.example") == name


def in_child(act):
    """Run this in a forked process; its exit code is what it returns."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = act()
        finally:
            os._exit(code)
    return pid


def code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_log_file_that_was_moved_away_is_opened_again(tmp_path):
    path, moved = tmp_path / "w.log", tmp_path / "w.log.1"

    def act():
        log = LogFile()
        log.open(str(path))
        os.write(2, b"one\n")
        path.rename(moved)
        log.follow()
        os.write(1, b"two\n")
        path.unlink()
        log.follow()
        os.write(2, b"three\n")
        return 0

    assert code_of(in_child(act)) == 0
    assert moved.read_text() == "one\n"
    assert path.read_text() == "three\n"


def test_a_log_file_leaves_alone_what_a_task_has_redirected(tmp_path):
    path, other = tmp_path / "w.log", tmp_path / "other"

    def act():
        log = LogFile()
        log.open(str(path))
        os.dup2(os.open(other, os.O_WRONLY | os.O_CREAT), 2)
        path.unlink()
        log.follow()
        os.write(2, b"caught\n")
        return 0

    assert code_of(in_child(act)) == 0
    assert other.read_text() == "caught\n"


def test_a_log_file_may_be_one_of_the_standard_outputs():
    reader, writer = os.pipe()

    def act():
        os.dup2(writer, 1)
        LogFile().open("/dev/stdout")
        os.write(2, b"both\n")
        return 0

    assert code_of(in_child(act)) == 0
    assert os.read(reader, 10) == b"both\n"
    os.close(reader)
    os.close(writer)


def test_a_log_file_in_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"cannot write the log file .*/gone/w\.log: No such file"
    ):
        LogFile().open(str(tmp_path / "gone" / "w.log"))


def test_a_pid_file_holds_the_pid_and_is_removed(tmp_path):
    path = tmp_path / "w.pid"

    file = PidFile(str(path))
    held = path.read_text()
    file.remove()

    assert held == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_pid_file_of_a_living_worker_is_refused_with_its_pid(tmp_path):
    path, go_on = tmp_path / "w.pid", tmp_path / "go-on"

    def act():
        PidFile(str(path))
        until(go_on.exists, "the test is done")
        return 0

    child = in_child(act)
    try:
        until(lambda: path.exists() and path.read_text(), "the child has its file")
        with pytest.raises(ConfigError, match="another worker has the pid file") as error:
            PidFile(str(path))
    finally:
        go_on.touch()
        code_of(child)

    assert f"its pid  {child}" in str(error.value)


@pytest.mark.parametrize("left", ["1\n", "not a number", ""])
def test_a_pid_file_that_a_dead_worker_has_left_is_taken(tmp_path, left):
    path = tmp_path / "w.pid"
    path.write_text(left)  # 1 lives, and is no worker

    PidFile(str(path)).remove()

    assert not path.exists()
