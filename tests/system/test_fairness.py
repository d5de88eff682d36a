"""Nothing hoards: a slow task keeps nobody waiting."""

import time
from collections import Counter

import pytest

import streamq

TASKS = """
@app.task(bind=True)
def quick(self, number=0):
    note(f"quick {number} {os.getpid()}")
    return self.request.deliveries

@app.task
def slow():
    note(f"slow begins {os.getpid()}")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    note(f"slow ends {os.getpid()}")
    return "slow"

@app.task
def big(size):
    return "x" * size
"""


def test_what_one_busy_runner_handed_back_runs_when_another_is_free(site):
    site.write(TASKS)
    site.worker("-c", 2)
    for result in site.send_many("quick", 300):
        result.get(timeout=10)

    slow = site.send("slow")
    quick = site.send_many("quick", 50)

    assert [each.get(timeout=10) for each in quick] == [1] * 50
    assert not slow.ready()
    (site.folder / "go").touch()
    assert slow.get(timeout=10) == "slow"
    site.at_rest()


def test_with_one_runner_the_rest_waits_in_the_queue_not_in_the_runner(site):
    site.write(TASKS)
    signature = site.app.signature
    site.app.declare([])
    calls = [signature("tasks.quick", (number,)) for number in range(120)]
    calls.insert(60, signature("tasks.slow"))
    results = site.app.enqueue_many(calls)
    slow = results.pop(60)

    site.worker("-c", 1)
    site.until(lambda: slow.state == "STARTED")
    site.until(lambda: site.pending() == 1, "only the slow task is in hand")

    assert [each.ready() for each in results] == [True] * 60 + [False] * 60
    (site.folder / "go").touch()
    assert [each.get(timeout=10) for each in results] == [1] * 120
    site.at_rest()


def test_large_results_are_all_there_at_once(site):
    site.write(TASKS)
    site.worker("-c", 1)
    for result in site.send_many("quick", 200):
        result.get(timeout=10)

    results = [site.send("big", 700_000) for _ in range(12)]

    began = time.monotonic()
    assert [len(each.get(timeout=10)) for each in results] == [700_000] * 12
    assert time.monotonic() - began < 2.0


HOG = """
import ctypes

@app.task
def hog(seconds):
    note("hog begins")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # keeps the interpreter's lock
    note("hog ends")
"""


def test_a_task_that_keeps_the_interpreter_to_itself_keeps_no_other_waiting(site):
    """Its runner cannot hand anything back meanwhile; the supervisor does it."""
    site.write(TASKS + HOG)
    site.app.declare([])
    calls = [site.app.signature("tasks.quick", (number,)) for number in range(400)]
    calls.insert(300, site.app.signature("tasks.hog", (6.0,)))
    results = site.app.enqueue_many(calls)
    hog = results.pop(300)
    site.worker("-c", 1)
    site.until(lambda: "hog begins" in site.notes())
    behind = [each for each in results if each.state == "QUEUED"]
    held = site.app.broker.client.ask("XPENDING", site.app.broker.keys.queue("default"), "workers")

    site.worker("-c", 1, "-n", "other")
    for each in behind[-20:]:
        each.get(timeout=10)

    assert held[0] > 1, "the runner held messages behind the task"
    site.until(lambda: all(each.state == "SUCCESS" for each in behind[-50:]))
    assert "hog ends" not in site.notes()
    assert hog.get(timeout=10) is None
    quick = [line.split()[1] for line in site.notes() if line.startswith("quick")]
    assert sorted(quick, key=int) == [str(number) for number in range(400)]
    site.at_rest()


@pytest.mark.parametrize(("runners", "hogs"), [(2, 1), (4, 1), (4, 3)])
def test_runners_that_cannot_pass_their_turn_on_do_not_keep_the_others_from_reading(
    site, runners, hogs
):
    """Not once only: for as long as they keep the interpreter to themselves."""
    site.write(TASKS + HOG)
    site.worker("-c", runners)
    for number in range(20):
        site.send("quick", number).get(timeout=10)
    results = []
    for number in range(hogs):
        results.append(site.send("hog", 12.0))
        site.until(lambda n=number: site.notes().count("hog begins") == n + 1)

    waits = []
    for number in range(8):
        sent = time.monotonic()
        assert site.send("quick", 100 + number).get(timeout=8) == 1
        waits.append(time.monotonic() - sent)

    assert "hog ends" not in site.notes()
    assert max(waits) < 1.5, waits
    assert [hog.get(timeout=20) for hog in results] == [None] * hogs
    site.at_rest()


@pytest.mark.parametrize("runners", [1, 3])
@pytest.mark.parametrize("names", ["a.......b", "..b.a....", "ba......."])
def test_turns_go_round_the_queues_that_have_something(site, names, runners):
    """What begins with several runners is mixed in the notes: each writes its own."""
    queues = [name if name != "." else f"empty{n}" for n, name in enumerate(names)]
    site.write(
        f"""
        app.queues = [Queue(name) for name in {queues}]

        @app.task(bind=True)
        def turn(self, number):
            note(self.request.queue)
            time.sleep(0.001)
        """
    )
    for name in queues:
        site.app.broker.topology.restore(name, streamq.Queue(name))
    for name in "ab":
        site.send_many("turn", 150, queue=name, ignore_result=True)

    site.worker("-c", runners, "-Q", ",".join(queues))
    site.drained()

    first = Counter(site.notes()[:150])
    assert sorted(first) == ["a", "b"]
    assert min(first.values()) >= 60, first
