"""Runners and reloads begin in the world in which their worker was started."""

import json
import os
import signal
import subprocess
import sys

import pytest

PREFORK, SOLO = ("-c", "1"), ("-P", "solo")
GEVENT = ("-P", "gevent", "--processes", "1", "-c", "4")

#: Modules of a user's that go elsewhere while they are imported.
TASKS = """
import os
from pathlib import Path
import streamq
{before}
from helper import WORD
app = streamq.App("site", url=os.environ["STREAMQ_URL"])

@app.task
def tell():
    import late
    return [WORD, late.WORD, os.getpid()]
"""

#: A program of the user's that prepares the path, and is started by a relative name.
LAUNCHER = """
import os, sys
{before}
from streamq.cli.main import main
main()
"""


def lay_out(folder, tasks="", word="one"):
    """A user's modules, of which one is imported when a task runs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tasks.py").write_text(TASKS.format(before=tasks))
    (folder / "helper.py").write_text(f"WORD = {word!r}\n")
    (folder / "late.py").write_text(f"WORD = {word!r}\n")


def worker(site, *flags, cwd, command=("-m", "streamq"), **env):
    """Start a worker in a folder; wait until it works."""
    log = site.folder / f"log-{len(site.helpers)}"
    with open(log, "wb") as file:
        started = subprocess.Popen(
            [sys.executable, *command, "worker", "-A", "tasks", *flags],
            cwd=cwd,
            env={**site.env, **env},
            stdout=file,
            stderr=file,
        )
    site.helpers.append(started)
    site.until(lambda: started.poll() is not None or b"streamq 0" in log.read_bytes())
    assert started.poll() is None, log.read_text()
    return started, log


def runs(site, process, log, word):
    """What a task tells; the process that ran it."""
    result = site.send("tell")
    site.until(lambda: process.poll() is not None or result.ready(), log.read_text())
    assert process.poll() is None, log.read_text()
    *told, pid = result.get(timeout=1)
    assert told == [word, word]
    return pid


def keeps_working(site, process, log, *, after="one"):
    """Its runner works, so does the one that follows, and so do those of a reload."""
    first = runs(site, process, log, "one")
    os.kill(first, signal.SIGKILL)
    assert runs(site, process, log, after if "gevent" in process.args else "one") != first
    process.send_signal(signal.SIGHUP)
    site.until(lambda: log.read_text().count("streamq 0") == 2 or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    runs(site, process, log, after)
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("flags", "before"),
    [
        pytest.param(PREFORK, 'os.chdir("/")', id="prefork"),
        pytest.param(SOLO, 'os.chdir("data")', id="solo"),
        pytest.param(GEVENT, 'os.chdir("/")', id="gevent-away"),
        pytest.param(GEVENT, 'os.chdir("data")', id="gevent-below"),
    ],
)
def test_a_module_may_go_to_another_folder(site, flags, before):
    lay_out(site.folder / "app", tasks=before)
    (site.folder / "app" / "data").mkdir()

    keeps_working(site, *worker(site, *flags, cwd=site.folder / "app"))


RELATIVE = 'sys.path.insert(0, "src")'
AND_GOES = 'sys.path.insert(0, os.path.abspath("src")); os.chdir("/")'
GOES_THERE = 'os.chdir("src"); sys.path.insert(0, "")'


@pytest.mark.parametrize(
    ("flags", "before"),
    [
        pytest.param(PREFORK, RELATIVE, id="prefork"),
        pytest.param(GEVENT, RELATIVE, id="gevent"),
        pytest.param(GEVENT, AND_GOES, id="gevent-and-goes"),
        pytest.param(SOLO, GOES_THERE, id="solo-goes-there"),
        pytest.param(GEVENT, GOES_THERE, id="gevent-goes-there"),
    ],
)
def test_a_launcher_may_say_where_modules_are(site, flags, before):
    lay_out(site.folder / "app" / "src")
    (site.folder / "app" / "run.py").write_text(LAUNCHER.format(before=before))

    keeps_working(site, *worker(site, *flags, cwd=site.folder / "app", command=["run.py"]))


@pytest.mark.parametrize(
    ("flags", "where", "tasks"),
    [
        pytest.param(SOLO, "", "", id="solo-folder"),
        pytest.param(GEVENT, "", "", id="gevent-folder"),
        pytest.param(GEVENT, "lib", "", id="gevent-path"),
        pytest.param(PREFORK, "lib", 'os.chdir("/")', id="prefork-goes"),
    ],
)
def test_what_follows_a_release_uses_the_new_one(site, flags, where, tasks):
    """The folder is a link: what is started later sees where it leads by then."""
    for release, word in (("v1", "one"), ("v2", "two")):
        lay_out(site.folder / release / where, tasks=tasks, word=word)
        launcher = LAUNCHER.format(before=f"sys.path.insert(0, {where!r})")
        (site.folder / release / "run.py").write_text(launcher)
    current = site.folder / "current"
    current.symlink_to("v1")
    command = ["run.py"] if where else ["-m", "streamq"]
    process, log = worker(site, *flags, cwd=current, command=command, PWD=str(current))
    first = runs(site, process, log, "one")
    (site.folder / "next").symlink_to("v2")
    (site.folder / "next").replace(current)

    os.kill(first, signal.SIGKILL)
    runs(site, process, log, "two" if "gevent" in flags else "one")
    process.send_signal(signal.SIGHUP)
    site.until(lambda: log.read_text().count("streamq 0") == 2 or process.poll() is not None)

    runs(site, process, log, "two")


def test_what_a_gevent_runner_needs_may_be_found_through_the_path_alone(site):
    """streamq itself, if the launcher says where it is."""
    lay_out(site.folder / "app")
    checkout = site.env.pop("PYTHONPATH")
    before = f"sys.path.insert(0, {checkout!r})"
    (site.folder / "app" / "run.py").write_text(LAUNCHER.format(before=before))
    process, log = worker(site, *GEVENT, cwd=site.folder / "app", command=["run.py"], PYTHONPATH="")

    keeps_working(site, process, log)


#: What a module may look at, or Python's options change.
LOOKS = """
import sys
if "worker" not in sys.argv:
    sys.exit("for workers only")

@app.task
def look():
    looked = [sys.argv[1:], __debug__, sys.flags.utf8_mode, sys._xoptions, sys.warnoptions]
    return looked, sys.stdout.write_through
"""


def test_a_gevent_runner_has_the_command_line_and_the_options_of_its_worker(site):
    site.write(LOOKS)
    command = ("-O", "-Xutf8", "-X", "pycache_prefix=/x", "-W", "error::ImportWarning", "-u")

    worker(site, *GEVENT, cwd=site.folder, command=(*command, "-m", "streamq"))

    looked, unbuffered = site.send("look").get(timeout=15)
    words = ["worker", "-A", "tasks", *GEVENT]
    options = {"utf8": True, "pycache_prefix": "/x"}
    assert looked == [words, False, 1, options, ["error::ImportWarning"]]
    assert unbuffered


def listed(site, cwd):
    """What `streamq workers ls` says, as text and as JSON."""
    command = [sys.executable, "-m", "streamq", "workers", "ls"]
    told = [
        subprocess.run([*command, *more], cwd=cwd, env=site.env, capture_output=True, text=True)
        for more in ([], ["--json"])
    ]
    return told[0].stdout, json.loads(told[1].stdout)


def told(site):
    """How many runners cannot start, as each worker says of itself."""
    workers = site.redis.keys("{streamq}:worker:*")
    return [site.redis.hget(each, "cannot_start") for each in workers]


@pytest.mark.parametrize(
    ("flags", "before"),
    [
        (GEVENT, "if 'gevent' in sys.modules: 1 / 0"),
        (
            PREFORK,
            "import threading\nos.register_at_fork(after_in_child=lambda: os._exit(3))",
        ),
    ],
    ids=["gevent", "prefork"],
)
def test_a_runner_that_cannot_start_is_told_each_time_and_listed(site, flags, before):
    """Three starts take 1 s of pauses: none, none, then one; four of gevent 10 s if all is slow."""
    lay_out(site.folder / "app", tasks=f"import sys\n{before}")
    _, log = worker(site, *flags, cwd=site.folder / "app")

    site.until(lambda: "could not start 4 times in a row" in log.read_text(), seconds=60)

    said = [line for line in log.read_text().splitlines() if "could not start" in line]
    assert all(" ERROR " in line for line in said)
    assert [line for line in said if "could not start 3 times in a row" in line]
    assert len([line for line in said if "it exited with code" in line]) >= 3
    site.until(lambda: told(site) == ["1"], "it is shown at once")
    text, (state,) = listed(site, site.folder)
    assert "1 cannot start" in text
    assert state["cannot_start"] == 1


def test_a_runner_that_can_start_again_is_no_longer_listed(site):
    lay_out(site.folder / "app", tasks="import sys\nif 'gevent' in sys.modules: import missing")
    process, log = worker(site, *GEVENT, cwd=site.folder / "app")
    site.until(lambda: told(site) == ["1"])

    (site.folder / "app" / "missing.py").touch()

    runs(site, process, log, "one")
    site.until(lambda: told(site) == ["0"])
