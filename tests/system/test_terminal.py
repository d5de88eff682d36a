"""A worker that was started in a terminal: what reads it, and what happens when it is closed."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import termios

import pytest

from tests.processes import children_of, stat

TASKS = """
import subprocess

def outcome(act):
    try:
        return act()
    except BaseException as error:
        return type(error).__name__

@app.task
def read():
    return [
        outcome(input),
        outcome(sys.stdin.read),
        outcome(lambda: os.read(0, 10).decode()),
        subprocess.run(["cat"], stdout=-1).stdout.decode(),
        outcome(lambda: open("/dev/tty")),
        os.getsid(0) == os.getppid(),
    ]

@app.task
def debug():
    breakpoint()
    return "went on"

@app.task
def tick():
    child = subprocess.Popen(["sh", "-c", "while :; do date >> ticks; sleep 0.02; done"])
    note(f"tick {os.getpid()}")
    while not (HERE / "go").exists():
        note("tock")
        time.sleep(0.01)
    child.kill()
    return "ended"

@app.task
def hold(number):
    note(f"hold {number}")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return number
"""

POOLS = {
    "prefork": ("-c", 1),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 2),
}


class Terminal:
    """A terminal in which workers are started, as by a login shell."""

    def __init__(self):
        self.master, self.slave = os.openpty()

    def worker(self, site, *flags, ignored=()):
        """A worker that has this terminal, in its foreground."""

        def take():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        site.write(TASKS)
        return site.worker(*flags, stdin=self.slave, start_new_session=True, preexec_fn=take)

    def shell(self, site, *flags, background=False):
        """A shell that has this terminal and starts a worker in its foreground.

        Once that has been stopped, it goes on when there is a file ``resume``; in the background
        it is to write nothing to the terminal.
        """
        site.write(TASKS)
        words = [sys.executable, "-m", "streamq", "worker", "-A", "tasks", *map(str, flags)]
        before, after = ("stty tostop;", "bg; wait %1") if background else ("exec 2> log;", "fg")
        script = (
            f"{before} {shlex.join(words)}; touch stopped; "
            f"until test -e resume; do sleep 0.01; done; {after}; echo $? > code"
        )

        def take():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        shell = subprocess.Popen(
            ["bash", "-mc", script],
            cwd=site.folder,
            env=site.env,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=take,
        )
        site.helpers.append(shell)
        site.until(lambda: site.redis.zcard("{streamq}:leases"), "the worker works")
        return shell

    def close(self):
        """Hang up, as a window that is closed."""
        for descriptor in (self.slave, self.master):
            if descriptor >= 0:
                os.close(descriptor)
        self.slave = self.master = -1


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_reads_its_input_finds_nothing(site, terminal, pool):
    terminal.worker(site, *POOLS[pool])

    found = site.send("read").get(timeout=15)

    assert found == ["EOFError", "", "", "", "OSError", False]
    debugged = site.send("debug")
    site.until(debugged.ready)
    assert site.states([debugged]) == [("FAILURE", "bdb.BdbQuit")]


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_gets_short_ids_and_colours_unless_it_is_to_have_none(site, terminal, colours):
    site.write(TASKS)
    id = site.send("read").id

    words = [sys.executable, "-m", "streamq", "worker", "-A", "tasks", "-c", "1", "--burst"]
    env = {**site.env, "TERM": "xterm", "NO_COLOR": "" if colours else "1"}
    subprocess.run(words, cwd=site.folder, env=env, stderr=terminal.slave, timeout=60, check=True)

    said = os.read(terminal.master, 65536).decode()
    assert f"tasks.read[…{id[-8:]}]" in said
    assert id not in said
    assert ("\x1b[36mdefault\x1b[0m" in said, "\x1b[32mok\x1b[0m" in said) == (colours, colours)
    assert ("\x1b" in said) is colours


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_terminal_that_is_closed_stops_its_worker_warmly(site, terminal, pool):
    worker = terminal.worker(site, *POOLS[pool])
    result = site.send("hold", 1)
    site.until(lambda: site.notes() == ["hold 1"])

    terminal.close()
    site.until(lambda: "finishing the running tasks" in worker.said)
    worker.signal(signal.SIGHUP)  # a shell passes it on, later
    (site.folder / "go").touch()

    assert worker.wait(15) == 0
    assert result.get(timeout=5) == 1
    assert site.redis.zcard("{streamq}:leases") == 0
    site.at_rest()


def test_a_worker_below_nohup_outlives_its_terminal(site, terminal):
    worker = terminal.worker(site, "-c", 1, ignored=[signal.SIGHUP])
    (runner,) = worker.runners()

    terminal.close()
    worker.signal(signal.SIGHUP)
    (site.folder / "go").touch()

    assert site.send("hold", 2).get(timeout=15) == 2
    assert worker.runners() == [runner], "it has not begun anew either"
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_ctrl_z_stops_a_worker_with_what_its_tasks_do_until_it_goes_on(site, terminal, pool):
    shell = terminal.shell(site, *POOLS[pool])
    result = site.send("tick")
    site.until(lambda: "tock" in site.notes())
    runner = int(site.notes()[0].split()[1])
    family = [*children_of(shell.pid), runner, *children_of(runner)]

    os.write(terminal.master, b"\x1a")
    site.until((site.folder / "stopped").exists, "the shell has it back")
    # A shell waits (D) for a child that has stopped just before it became another program.
    site.until(lambda: {stat(pid)[0] for pid in family} <= {"T", "D"}, "all stand still")

    (site.folder / "resume").touch()
    (site.folder / "go").touch()
    assert result.get(timeout=10) == "ended"
    os.write(terminal.master, b"\x03")
    assert shell.wait(10) == 0
    assert (site.folder / "code").read_text() == "0\n"
    site.at_rest()


def test_a_worker_that_goes_on_in_the_background_may_speak(site, terminal):
    """Where jobs in the background are stopped that write to the terminal, it is not."""
    shell = terminal.shell(site, "-c", 1, background=True)
    result = site.send("hold", 1)
    site.until(lambda: site.notes() == ["hold 1"])
    (worker,) = children_of(shell.pid)
    os.write(terminal.master, b"\x1a")
    site.until((site.folder / "stopped").exists, "the shell has it back")
    (site.folder / "resume").touch()
    site.until(lambda: stat(worker)[0] != "T", "it goes on")

    os.kill(worker, signal.SIGTERM)
    (site.folder / "go").touch()

    assert result.get(timeout=10) == 1
    assert shell.wait(10) == 0
    assert (site.folder / "code").read_text() == "0\n"
    site.at_rest()


def test_a_terminal_that_is_closed_stops_a_worker_warmly_that_stands_still(site, terminal):
    """Who hangs up lets it go on to hear that, and its runners with it."""
    terminal.shell(site, "-c", 1)
    result = site.send("hold", 1)
    site.until(lambda: site.notes() == ["hold 1"])
    os.write(terminal.master, b"\x1a")
    site.until((site.folder / "stopped").exists)

    terminal.close()

    site.until(lambda: "finishing the running tasks" in (site.folder / "log").read_text())
    (site.folder / "go").touch()
    assert result.get(timeout=10) == 1
    site.until(lambda: "INFO  stopped" in (site.folder / "log").read_text())
    site.at_rest()
