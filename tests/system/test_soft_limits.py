"""A soft limit that is lost on its way to the task is raised again; one that arrived is not."""

import signal

import pytest

from streamq.errors import SoftTimeLimitExceeded

TASKS = """
import gc

class Slow:
    def __del__(self):
        time.sleep(0.4)

def quiet(seconds):
    try:
        time.sleep(seconds)
    except Exception:
        note("swallowed")

def tidy_up():
    try:
        time.sleep(10)
    finally:
        time.sleep(0.35)
        note("tidied up")

def recover():
    try:
        time.sleep(10)
    except Exception:
        try:
            raise ValueError
        except ValueError:
            time.sleep(0.35)
        note("recovered")
        raise

def plainly_decorated(function):
    def call():
        return function()
    return call

@app.task(soft_time_limit=0.2)
def in_del():
    Slow()
    note("deleted")
    time.sleep(10)

@app.task(soft_time_limit=0.2)
def in_callbacks():
    for _ in range(3):
        quiet(0.25)
    time.sleep(10)

@app.task(soft_time_limit=0.2)
def in_a_cycle():
    slow = Slow()
    slow.itself = slow
    del slow
    gc.collect()
    time.sleep(10)

@app.task(soft_time_limit=0.2)
def tidies_up():
    tidy_up()

@app.task(soft_time_limit=0.2)
def recovers():
    recover()

@app.task(soft_time_limit=0.2, name="tasks.decorated")
@plainly_decorated
def decorated():
    try:
        time.sleep(10)
    except streamq.SoftTimeLimitExceeded:
        time.sleep(0.35)
        return "knows it"

@app.task(soft_time_limit=0.2)
def goes_on():
    for _ in range(5):
        try:
            time.sleep(0.25)
        except streamq.SoftTimeLimitExceeded:
            note("knows it")
    return "went on"
"""

POOLS = {
    "prefork": ("-c", 4),
    "gevent": ("-P", "gevent", "--processes", 1, "-c", 10),
}


@pytest.fixture(params=POOLS)
def worker(request, site):
    site.write(TASKS)
    return site.worker(*POOLS[request.param])


def test_a_soft_limit_that_was_swallowed_comes_again_until_the_task_knows_it(site, worker):
    results = [site.send(name) for name in ("in_del", "in_callbacks", "in_a_cycle")]

    for result in results:
        with pytest.raises(SoftTimeLimitExceeded):
            result.get(timeout=6)
    assert "deleted" in site.notes(), "what was raised in it is lost"
    assert "swallowed" in site.notes()


def test_a_soft_limit_that_is_on_its_way_or_has_arrived_does_not_come_again(site, worker):
    names = ("tidies_up", "recovers", "decorated", "goes_on")
    tidies, recovers, decorated, goes_on = [site.send(name) for name in names]

    for result in (tidies, recovers):
        with pytest.raises(SoftTimeLimitExceeded):
            result.get(timeout=6)
    assert decorated.get(timeout=6) == "knows it"
    assert goes_on.get(timeout=6) == "went on"
    assert sorted(site.notes()) == ["knows it", "recovered", "tidied up"]


#: Takes a while where Python has reset all handlers already.
ENDS_SLOWLY = """
class Last:
    def __del__(self, note=os.write, sleep=time.sleep):
        note(2, b"the very end\\n")
        sleep(0.5)

last = Last()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_after_the_end_does_not_change_how_a_worker_ended(site, number):
    site.write(TASKS + ENDS_SLOWLY)
    worker = site.worker("-c", 1)
    worker.signal()
    site.until(lambda: "the very end" in worker.said)

    worker.signal(number)

    assert worker.wait(10) == 0


def test_two_signals_end_a_worker_that_waits_for_redis_in_order(site):
    site.write(TASKS + ENDS_SLOWLY)
    site.env["STREAMQ_URL"] = f"unix://{site.folder}/nobody"
    worker = site.worker("-c", 1, ready=False)
    site.until(lambda: "cannot reach Redis" in worker.said)

    worker.signal()
    site.until(lambda: "the very end" in worker.said)
    worker.signal()

    assert worker.wait(10) == 0
    assert "Traceback" not in worker.said
