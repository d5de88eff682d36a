"""The signals of a worker's processes: where and when receivers are called, and what they cost."""

import os
import signal
import time

import pytest

from tests.processes import children_of, stat
from tests.system.faults import TASKS, begun

#: Receivers that note what they are given, and how many leases there are.
RECEIVERS = """
import redis
from streamq import signals

def leases():
    with redis.Redis.from_url(os.environ["STREAMQ_URL"]) as client:
        return client.zcard("{streamq}:leases")

@signals.worker_init.connect
def init(sender, **kwargs):
    note(f"init {sender} pid={os.getpid()} leases={leases()}")

@signals.worker_process_init.connect
def process_init(sender, **kwargs):
    note(f"process_init {sender} pid={os.getpid()}")

@signals.worker_process_shutdown.connect
def process_shutdown(sender, pid, exitcode, **kwargs):
    note(f"process_shutdown {sender} pid={os.getpid()} {pid == os.getpid()} {exitcode}")

@signals.worker_ready.connect
def ready(sender, **kwargs):
    note(f"ready {sender} pid={os.getpid()}")

@signals.worker_shutting_down.connect
def shutting_down(sender, sig, how, exitcode, **kwargs):
    note(f"shutting_down {sender} pid={os.getpid()} {sig} {how} {exitcode}")

@signals.worker_shutdown.connect
def shutdown(sender, **kwargs):
    note(f"shutdown {sender} pid={os.getpid()} leases={leases()}")

@app.task
def where():
    return os.getpid()
"""

#: The words that they note, in the order in which they are called.
ORDER = ("init", "process_init", "ready", "shutting_down", "process_shutdown", "shutdown")

POOLS = {
    "prefork": ("-c", 1),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 2),
}

#: A receiver that keeps the interpreter for 4 s, inside of one call in C, once there is an heir.
HOLDS_INTERPRETER = """
import ctypes
from streamq.signals import worker_ready

@worker_ready.connect
def ready(**kwargs):
    note("ready")
    while not (HERE / "heir").exists():
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(4)
    note("slept")
"""


def noted(site, word):
    """The rest of each line that begins with this word."""
    return [rest for first, _, rest in (line.partition(" ") for line in site.notes())
            if first == word]  # fmt: skip


def pid_in(line):
    return int(line.partition("pid=")[2].split()[0])


@pytest.mark.parametrize("pool", POOLS)
def test_receivers_are_called_in_their_process_and_in_their_order(site, pool):
    site.write(RECEIVERS)
    worker = site.worker(*POOLS[pool], "-n", "w@here", ready=False)
    runner = site.send("where").get(timeout=20)
    site.until(lambda: noted(site, "ready"), "the worker is ready")

    assert worker.stop() == 0

    ((init,), (begins,), (ready,), (shutting_down,), (ends,), (shutdown,)) = (
        noted(site, word) for word in ORDER
    )
    assert init == f"w@here pid={worker.pid} leases=0"
    assert begins == f"w@here pid={runner}"
    assert ends == f"w@here pid={runner} True 0"
    beside = pid_in(ready)
    assert beside not in (worker.pid, runner)
    assert shutting_down == f"w@here pid={beside} SIGTERM Warm 0"
    assert shutdown == f"w@here pid={beside} leases=0"
    words = [line.split()[0] for line in site.notes()]
    assert words.index("init") < words.index("process_init") < words.index("process_shutdown")
    assert words[-1] == "shutdown"


def test_a_worker_without_such_receivers_has_no_process_more(site):
    site.write(TASKS)

    worker = site.worker("-c", 1)

    assert len(children_of(worker.pid)) == 1


def runs_of_a_long_task(site):
    """How often a task is begun that runs for as long as a receiver of its worker: 4 s."""
    site.env["STREAMQ_LEASE"] = "1s"
    site.write(TASKS + HOLDS_INTERPRETER)
    site.worker("-c", 1, "-n", "first@here", ready=False)
    result = site.send("hold", 0)
    site.until(lambda: begun(site) and "ready" in site.notes(), "it runs, and so does the receiver")
    site.write(TASKS)
    site.worker("-c", 1, "-n", "heir@here")
    (site.folder / "heir").touch()
    site.until(lambda: "slept" in site.notes(), seconds=15)
    (site.folder / "go").touch()
    result.get(timeout=15)
    return len(begun(site))


def test_a_receiver_that_holds_the_interpreter_costs_no_lease(site):
    """Takes 5 s: the receiver is to take longer than an heir waits for a lease of 1 s."""
    assert runs_of_a_long_task(site) == 1


def test_in_the_loop_of_the_supervisor_it_would(site):
    """Takes 5 s, as the test before, of which this is the control."""
    site.changed_module(
        "streamq/worker/services/signal_process.py",
        "self.tell(worker_ready, Word(worker_ready.name))",
        "worker_ready.send(self.node)",
    )

    assert runs_of_a_long_task(site) == 2


def test_a_receiver_that_never_returns_ends_with_shutdown_timeout(site):
    """Takes 2 s: receivers have at least as long."""
    site.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "1s"
    site.write(
        RECEIVERS
        + """
@signals.worker_shutdown.connect
def late(**kwargs):
    note("late")
    while True:
        pass
"""
    )
    worker = site.worker("-c", 1, ready=False)
    site.until(lambda: noted(site, "ready"))
    beside = pid_in(noted(site, "ready")[0])

    worker.signal()

    assert worker.wait(5) == 0
    assert "late" in site.notes()
    assert not site.alive(beside)
    assert "receivers of worker signals take too long, and are ended" in worker.said


def test_a_receiver_that_crashes_its_process_is_logged_once_and_the_worker_goes_on(site):
    site.write(
        RECEIVERS
        + """
@signals.worker_ready.connect
def crash(**kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    worker = site.worker("-c", 1, ready=False)
    site.until(lambda: "are called no more" in worker.said)

    assert site.send("where").get(timeout=10) in worker.runners()
    assert worker.stop() == 0
    assert worker.said.count("was killed by signal 9: receivers of worker_ready") == 1
    assert noted(site, "shutting_down") == []
    assert noted(site, "process_shutdown")


def test_ctrl_c_and_a_signal_to_all_reach_the_receivers_once_and_ctrl_c_twice_is_cold(site):
    site.write(
        RECEIVERS
        + """
@app.task
def hold():
    note("hold")
    time.sleep(60)
"""
    )
    worker = site.worker("-c", 1, "-n", "w@here", ready=False, process_group=0)
    site.send("hold")
    site.until(lambda: noted(site, "ready") and "hold" in site.notes())
    beside = pid_in(noted(site, "ready")[0])

    os.killpg(worker.pid, signal.SIGINT)
    os.kill(beside, signal.SIGINT)  # as a manager of services does, to all processes of one
    os.kill(beside, signal.SIGTERM)
    site.until(lambda: noted(site, "shutting_down"))
    time.sleep(0.2)
    os.killpg(worker.pid, signal.SIGINT)

    assert worker.wait(10) == 1
    assert noted(site, "shutting_down") == [
        f"w@here pid={beside} SIGINT Warm 0",
        f"w@here pid={beside} SIGINT Cold 1",
    ]
    assert len(noted(site, "shutdown")) == 1


def test_a_reload_ends_the_receivers_and_begins_them_anew(site):
    site.write(RECEIVERS)
    worker = site.worker("-c", 1, "-n", "w@here", ready=False)
    site.until(lambda: noted(site, "ready"))
    before = pid_in(noted(site, "ready")[0])

    worker.signal(signal.SIGHUP)
    site.until(lambda: len(noted(site, "ready")) == 2, "it is ready again", seconds=20)

    assert noted(site, "shutting_down") == [f"w@here pid={before} SIGHUP Warm 0"]
    words = [line.split()[0] for line in site.notes()]
    assert words.index("shutdown") < len(words) - 1 - words[::-1].index("init")
    assert len(noted(site, "init")) == 2
    assert not site.alive(before)
    assert worker.stop() == 0


def test_ctrl_z_stops_the_receivers_too(site):
    site.write(RECEIVERS)
    worker = site.worker("-c", 1, ready=False, process_group=0)
    site.until(lambda: noted(site, "ready"))
    family = [worker.pid, pid_in(noted(site, "ready")[0])]

    os.kill(worker.pid, signal.SIGTSTP)
    site.until(lambda: {stat(pid)[0] for pid in family} <= {"T"}, "both stand still")
    os.kill(worker.pid, signal.SIGCONT)
    site.until(lambda: {stat(pid)[0] for pid in family} <= {"S", "R"}, "both go on")

    assert worker.stop() == 0
    assert noted(site, "shutdown")


BROKEN = """
from streamq.signals import worker_init, worker_process_init, worker_process_shutdown

def broken(signal, **kwargs):
    note(signal.name)
    signal_module.signal(signal_module.SIGTERM, signal_module.SIG_IGN)
    raise RuntimeError(f"no {signal.name}")

import signal as signal_module
for each in (worker_init, worker_process_init, worker_process_shutdown):
    each.connect(broken)

@app.task
def where():
    return os.getpid()
"""


@pytest.mark.parametrize("pool", POOLS)
def test_a_receiver_that_raises_is_logged_with_its_name_and_changes_nothing(site, pool):
    site.write(BROKEN)
    worker = site.worker(*POOLS[pool])

    assert site.send("where").get(timeout=10) in worker.runners()
    assert worker.stop() == 0

    names = ["worker_init", "worker_process_init", "worker_process_shutdown"]
    assert site.notes() == names
    for name in names:
        assert f"{name}: the receiver broken failed" in worker.said
        assert f"RuntimeError: no {name}" in worker.said


def test_a_runner_is_replaced_although_a_receiver_of_its_end_never_returns(site):
    """Takes 1 s: what the receiver is given."""
    site.env["STREAMQ_SHUTDOWN_TIMEOUT"] = "1s"
    site.write(
        RECEIVERS
        + """
@signals.worker_process_shutdown.connect
def late(**kwargs):
    time.sleep(60)
"""
    )
    site.worker("-c", 1, "--max-tasks-per-child", 1, ready=False)

    first, second = (site.send("where") for _ in range(2))

    assert first.get(timeout=10) != second.get(timeout=10)


LOGGING = """
import logging
from streamq.signals import setup_logging

@setup_logging.connect
def mine(loglevel, logfile, format, colorize, **kwargs):
    note(f"mine {loglevel} {logfile} {colorize}")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("MINE %(name)s " + format))
    logging.basicConfig(level=loglevel, handlers=[handler])

@app.task
def speak():
    logging.getLogger("shop").info("spoken")
"""


@pytest.mark.parametrize(("pool", "calls"), [("prefork", 1), ("gevent", 2)])
def test_a_receiver_of_setup_logging_alone_configures_it(site, pool, calls):
    """It is called once in each program: a forked runner has what its supervisor has set up."""
    site.write(LOGGING)
    worker = site.worker(*POOLS[pool], "-l", "info")
    site.send("speak").get(timeout=10)
    assert worker.stop() == 0

    assert site.notes() == ["mine 20 None False"] * calls
    lines = [line for line in worker.said.splitlines() if "spoken" in line or " ok in " in line]
    assert len(lines) == 2
    assert all(line.startswith("MINE ") for line in lines)


REVOKED = """
from streamq.signals import task_revoked

@task_revoked.connect
def revoked(sender, request, terminated, signum, expired, **kwargs):
    note(f"revoked {sender.name} {request.args} {terminated} {signum} {expired} pid={os.getpid()}")

@app.task
def stubborn(number):
    note("begun")
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

@app.task
def soft(number):
    note("begun")
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("task", "name", "signum"),
    [("soft", "SIGTERM", 15), ("stubborn", "SIGTERM", 15), ("stubborn", "SIGKILL", 9)],
)
def test_a_terminated_task_is_told_where_its_run_ended(site, task, name, signum):
    """Up to 1 s: a task that does not stop by itself is given as long."""
    site.write(REVOKED)
    worker = site.worker("-c", 1, ready=False)
    result = site.send(task, 7)
    site.until(lambda: "begun" in site.notes())
    runner = int(site.redis.zrange("{streamq}:leases", 0, -1)[0].split(":")[1])

    result.revoke(terminate=True, signal=name)
    site.until(lambda: noted(site, "revoked"))

    (told,) = noted(site, "revoked")
    assert told.startswith(f"tasks.{task} (7,) True {signum} False")
    assert (pid_in(told) == runner) is (task == "soft")
    assert pid_in(told) != worker.pid
    assert result.state == "REVOKED"
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_message_that_was_revoked_or_expired_is_told_as_it_is_dropped(site, pool):
    site.write(REVOKED + "@app.task\ndef quick(number):\n    return number\n")
    revoked = site.send("quick", 1)
    revoked.revoke()
    site.send("quick", 2, expires=0.05)
    time.sleep(0.1)
    site.worker(*POOLS[pool], ready=False)

    assert site.send("quick", 3).get(timeout=20) == 3
    site.until(lambda: len(noted(site, "revoked")) == 2)

    told = sorted(line.partition(" pid=")[0] for line in noted(site, "revoked"))
    assert told == ["tasks.quick (1,) False None False", "tasks.quick (2,) False None True"]
