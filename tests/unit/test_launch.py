"""Which folder and path a process began with, by the names that the user gave."""

import os
import sys

import pytest

from streamq.errors import ConfigError
from streamq.host.launch import Launch, folder_before, renamed, working_folder


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A folder that was entered through a link, as after ``cd current`` in a shell."""
    (tmp_path / "one").mkdir()
    (tmp_path / "current").symlink_to("one")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    return tmp_path


def test_a_link_stays_a_link(release):
    assert Launch.here().folder == str(release / "current")


@pytest.mark.parametrize("pwd", ["/", "relative", "", "/nonexistent"])
def test_a_name_that_leads_elsewhere_is_not_believed(release, monkeypatch, pwd):
    """A program that starts another one in a folder mostly says nothing of it."""
    monkeypatch.setenv("PWD", pwd)

    assert Launch.here().folder == str(release / "one")


def test_the_path_is_the_same_wherever_we_go(release):
    sys.path[:0] = ["", "src", str(release / "one" / "lib"), "/elsewhere"]

    launch = Launch.here()

    current = str(release / "current")
    assert launch.path[:4] == (current, f"{current}/src", f"{current}/lib", "/elsewhere")
    real = str(release / "one")
    assert sys.path[:4] == [real, f"{real}/src", f"{real}/lib", "/elsewhere"]


def test_only_what_is_inside_a_folder_gets_its_other_name():
    assert renamed("/srv/one/lib", "/srv/one", "/srv/now") == "/srv/now/lib"
    assert renamed("/srv/one", "/srv/one", "/srv/now") == "/srv/now"
    assert renamed("/srv/one-more/lib", "/srv/one", "/srv/now") == "/srv/one-more/lib"
    assert renamed("/usr/lib", "/", "/") == "/usr/lib"


@pytest.mark.parametrize(
    ("file", "word", "folder"),
    [
        ("/srv/app/run.py", "run.py", "/srv/app"),
        ("/srv/app/./run.py", "./run.py", "/srv/app"),
        ("/srv/app/../bin/run.py", "../bin/run.py", "/srv/app"),
        ("/run.py", "run.py", "/"),
        ("/srv/app/run.py", "/srv/app/run.py", None),
        ("/srv/app/run.py", "un.py", None),
        ("", "run.py", None),
    ],
)
def test_a_script_with_a_relative_name_tells_where_python_was(file, word, folder):
    assert folder_before(file, ["-X", "dev", word, "worker"]) == folder


def test_a_folder_that_is_gone_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("PWD", str(gone))
    gone.rmdir()

    with pytest.raises(ConfigError, match=f"the working folder is gone: {gone}"):
        working_folder()
    os.chdir(tmp_path)


def test_python_is_that_of_the_release_of_the_day_if_there_is_one(release, monkeypatch):
    for number in ("one", "two"):
        (release / number / "bin").mkdir(parents=True)
        (release / number / "bin" / "python").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(release / "one" / "bin" / "python"))
    launch = Launch.here()
    assert launch.program == str(release / "current" / "bin" / "python")

    (release / "two" / "bin" / "python").unlink()
    (release / "next").symlink_to("two")
    (release / "next").replace(release / "current")

    assert launch.program == str(release / "one" / "bin" / "python")


def test_what_python_ignores_in_its_path_is_left_out(release):
    sys.path[:0] = [b"bytes", release / "one", "lib"]

    assert Launch.here().path[0] == str(release / "current" / "lib")
