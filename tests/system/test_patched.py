"""Modules of the user's that patch the standard library with gevent, or wait for every child."""

import os
import signal

import pytest

TASKS = """
@app.task
def pid():
    return os.getpid()

@app.task
def patches():
    from gevent import monkey
    monkey.patch_all()
    return os.getpid()

@app.task
def imports_what_patches():
    import lazy
    return os.getpid()

@app.task
def late():
    try:
        time.sleep(30)
    except streamq.SoftTimeLimitExceeded:
        return "late"
"""


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("patch", ["patch_all()", "patch_all(thread=False)", "patch_socket()"])
def test_a_pool_without_greenlets_refuses_what_gevent_has_patched(site, pool, patch):
    site.write(TASKS)
    module = site.folder / "tasks.py"
    module.write_text(f"from gevent import monkey; monkey.{patch}\n" + module.read_text())

    worker = site.worker("-P", pool, ready=False)

    assert worker.wait(15) == 78
    assert f"the pool {pool} cannot run what gevent has patched" in worker.said
    assert "--pool gevent" in worker.said
    assert "monkey.patch_all() out of what the worker imports" in worker.said
    assert "Traceback" not in worker.said


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("name", ["patches", "imports_what_patches"])
def test_a_runner_that_a_task_has_patched_is_replaced(site, pool, name):
    """What it has in hand runs in another one, where limits reach it."""
    site.write("from gevent import monkey; monkey.patch_time()", name="lazy", header="")
    site.write(TASKS)
    site.app.declare([])
    signature = site.app.signature
    calls = [signature(f"tasks.{name}"), signature("tasks.late", soft_time_limit=0.1)]

    patched, late, pid = site.app.enqueue_many([*calls, signature("tasks.pid")])
    worker = site.worker("-P", pool, "-c", 1)

    assert late.get(timeout=10) == "late"
    assert pid.get(timeout=5) != patched.get(timeout=5)
    assert "cannot run what gevent has patched" in worker.said
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["prefork", "solo", "gevent"])
def test_no_pool_runs_what_eventlet_has_patched(site, pool):
    """A package of that name stands for it."""
    (site.folder / "eventlet").mkdir()
    site.write("already_patched = {'socket': True, 'MySQLdb': True}", name="eventlet/patcher")
    site.write("import eventlet.patcher\n" + TASKS)

    worker = site.worker("-P", pool, ready=False)

    assert worker.wait(15) == 78
    assert "no pool can run what eventlet has patched\n  patched  socket\n" in worker.said
    assert "Traceback" not in worker.said


@pytest.mark.parametrize(
    "more",
    ["", "\nimport subprocess; subprocess.run(['true'])", "\nimport os; os.fork() or os._exit(0)"],
    ids=["patched", "runs a program", "forks"],
)
def test_greenlets_of_a_module_that_patches_are_replaced_and_stopped(site, more):
    """gevent's own functions for children wait for all of them behind the supervisor's back."""
    site.write(TASKS)
    module = site.folder / "tasks.py"
    module.write_text("from gevent import monkey; monkey.patch_all()\n" + module.read_text() + more)
    worker = site.worker("-P", "gevent", "--processes", 1, "-c", 3)
    before = site.send("pid").get(timeout=15)

    os.kill(before, signal.SIGKILL)

    assert site.send("pid").get(timeout=20) != before
    assert site.send("late", soft_time_limit=0.2).get(timeout=10) == "late"
    assert worker.stop() == 0
    assert "Traceback" not in worker.said


def test_a_module_that_waits_for_every_child_takes_no_worker_with_it(site):
    site.write(
        TASKS
        + """
import threading

def wait_for_all(supervisor=os.getpid()):
    while os.getpid() == supervisor:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.001)

threading.Thread(target=wait_for_all, daemon=True).start()
"""
    )
    worker = site.worker("-c", 1)
    before = site.send("pid").get(timeout=15)

    os.kill(before, signal.SIGKILL)

    assert site.send("pid").get(timeout=20) != before
    assert worker.stop() == 0
    site.at_rest()
