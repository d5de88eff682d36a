"""``streamq migrate imports`` shows and writes what it changes, file by file."""

import subprocess

import pytest

from streamq.cli.command import GivenOptions
from streamq.cli.main import main


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that is the current one; give it files."""
    monkeypatch.chdir(tmp_path)

    def project(**files):
        for name, content in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return project


@pytest.fixture
def migrate(capsysbinary):
    """Run the command; its exit code, its output, and its messages."""

    def migrate(*words):
        code = main.run(["migrate", "imports", *words], GivenOptions())
        out, err = capsysbinary.readouterr()
        return code, out.decode(errors="surrogateescape"), err.decode()

    return migrate


def test_the_diff_is_shown_and_nothing_is_written(project, migrate):
    folder = project(app="from celery import Celery\n", other="import os\n")
    assert migrate(".") == (
        0,
        "--- a/app.py\n+++ b/app.py\n@@ -1 +1 @@\n"
        "-from celery import Celery\n+from streamq.celery import Celery\n",
        "1 file, 1 import; nothing written: --write writes it\n",
    )
    assert (folder / "app.py").read_text() == "from celery import Celery\n"


def test_the_diff_of_odd_files_is_one_that_git_applies(project, migrate):
    files = {
        "crlf": "import os\r\nfrom celery import Celery\r\n",
        "mixed": "from celery import Celery\r\nx = 1\n\fy = '\x1c'\n",
        "no_end": "from celery import Celery",
        "latin": "# coding: latin-1\nname = 'é'\nimport celery\n".encode("latin-1"),
        "marked": "import celery\n".encode("utf-8-sig"),
    }
    folder = project(**files)
    diff = migrate(".")[1].encode(errors="surrogateescape")
    subprocess.run(["git", "apply", "-"], input=diff, check=True)
    applied = {path.name: path.read_bytes() for path in folder.iterdir()}

    project(**files)
    assert migrate("--write", ".")[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == applied


def test_encodings_and_rights_stay(project, migrate):
    latin = "# coding: latin-1\nname = 'é'\nimport celery\n".encode("latin-1")
    marked = b"\xef\xbb\xbfimport celery\r\n"
    folder = project(latin=latin, marked=marked)
    (folder / "latin.py").chmod(0o750)

    code, _, said = migrate("--write", ".")

    assert (code, said) == (0, "2 files, 2 imports; written\n")
    new = b"import streamq.celery as celery"
    assert (folder / "latin.py").read_bytes() == latin.replace(b"import celery", new)
    assert (folder / "marked.py").read_bytes() == marked.replace(b"import celery", new)
    assert (folder / "latin.py").stat().st_mode & 0o777 == 0o750
    assert migrate("--write", ".") == (0, "", "0 files, 0 imports; nothing to write\n")


def test_a_link_stays_a_link_and_a_file_is_read_once(project, migrate):
    folder = project(app="import celery\n")
    (folder / "link.py").symlink_to("app.py")
    assert migrate("--write", "link.py", "app.py", ".")[2] == "1 file, 1 import; written\n"
    assert (folder / "link.py").is_symlink()
    assert "streamq" in (folder / "app.py").read_text()


def test_other_people_s_code_is_left_alone(project, migrate):
    others = ("venv", ".tox", "node_modules", "site-packages")
    folder = project(**{f"{name}/module": "import celery\n" for name in others})
    (folder / "venv" / "pyvenv.cfg").touch()
    assert migrate(".")[2] == "0 files, 0 imports; nothing to write\n"


def test_files_that_cannot_be_read_are_told_and_the_others_go_on(project, migrate):
    project(
        bytes=b"name = '\xff'\nimport celery\n",
        cookie=b"# coding: no-such\nimport celery\n",
        good="import celery\n",
        old="print 'celery'\n",
        zero="import celery\0\n",
    )
    code, diff, said = migrate("--write", ".")
    assert code == 1
    assert "good.py" in diff
    *failures, last = said.splitlines()
    assert [line.split(":")[0] for line in failures] == [
        f"cannot go on with {name}.py" for name in ("bytes", "cookie", "old", "zero")
    ]
    assert last == "1 file, 1 import; written"


def test_a_file_without_a_word_of_celery_need_not_be_one_that_python_can_parse(project, migrate):
    project(newer="try: ...\nexcept A, B: ...\n", template="{% if x %}\n", latin=b"name = '\xff'\n")
    assert migrate(".") == (0, "", "0 files, 0 imports; nothing to write\n")


def test_a_file_that_cannot_be_written_is_told_and_the_others_go_on(project, migrate, monkeypatch):
    folder = project(a="import celery\n", b="import celery\n")
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("a.py"))
    code, _, said = migrate("--write", ".")
    assert code == 1
    assert said.splitlines()[0] == "cannot go on with a.py: not written: it may not be written"
    assert (folder / "a.py").read_text() == "import celery\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a.py", "b.py"]


def test_what_is_left_to_do_is_told_with_file_and_line(project, migrate):
    project(
        tests='import pytest\npytest_plugins = ("celery.contrib.pytest",)\n',
        worker="from celery import bootsteps\n",
    )
    code, diff, said = migrate(".")
    assert (code, diff) == (1, "")
    assert "  worker.py:1: celery.bootsteps has no counterpart\n    → connect worker_init" in said
    assert '  tests.py:2: "celery.contrib.pytest"\n' in said
    code, diff, _ = migrate("--strings", "tests.py")
    assert code == 0
    assert '+pytest_plugins = ("streamq.celery.contrib.pytest",)\n' in diff


def test_a_celery_py_of_the_project_is_told_from_celery(project, migrate):
    folder = project(
        **{
            "celery": "from celery import Celery\napp = Celery('flat')\n",
            "tasks": "from celery import app, shared_task\n",
            "more": "from celery import shared_task\n",
            "own/celery": "def helper(): ...\n",
            "own/main": "import celery\ncelery.helper()\n",
            "package/__init__": "",
            "package/celery": "def helper(): ...\n",
            "package/main": "import celery\n",
            "package/use": "from celery import helper\n",
        }
    )
    migrate("--write", ".")
    changed = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "streamq" in path.read_text()
    }
    assert changed == {"celery.py", "more.py", "package/main.py"}


def test_a_path_that_is_not_there_is_a_mistake_in_the_command(migrate):
    assert migrate("no/such/folder")[0] == 2


#: What eighteen public projects import, but for parts of workers and for schedulers.
IMPORTED = """
from celery import Celery, Task, chain, chord, current_app, current_task, group, shared_task
from celery import signals, signature, states
from celery.app import app_or_default
from celery.app.task import Task
from celery.canvas import Signature, chain, chord, group, signature
from celery.contrib.django.task import DjangoTask
from celery.contrib.pytest import celery_app, celery_config, celery_session_worker, celery_worker
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, MaxRetriesExceededError, NotRegistered, Reject, Retry
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, TaskRevokedError
from celery.exceptions import ImproperlyConfigured, TimeoutError, WorkerLostError, WorkerShutdown
from celery.result import AsyncResult, EagerResult, GroupResult, ResultSet
from celery.schedules import crontab, schedule
from celery.signals import after_setup_logger, after_setup_task_logger, beat_init, celeryd_init
from celery.signals import after_task_publish, before_task_publish, setup_logging
from celery.signals import task_failure, task_internal_error, task_postrun, task_prerun
from celery.signals import task_received, task_rejected, task_retry, task_revoked
from celery.signals import task_success, task_unknown, worker_init, worker_process_init
from celery.signals import worker_process_shutdown, worker_ready, worker_shutdown
from celery.signals import worker_shutting_down
from celery.states import FAILURE, PENDING, READY_STATES, STARTED, SUCCESS
from celery.utils import uuid
from celery.utils.log import get_task_logger
from kombu import Exchange, Queue, binding
from kombu.exceptions import OperationalError
from kombu.serialization import register
"""


@pytest.mark.parametrize("line", IMPORTED.strip().splitlines())
def test_what_projects_import_is_there(line, project, migrate):
    project(used=f"{line}\n")
    code, diff, said = migrate(".")
    assert (code, diff.count("+from streamq.celery")) == (0, 1), said
