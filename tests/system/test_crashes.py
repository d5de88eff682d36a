"""Runners that die under their tasks: late ack runs at least once, early ack at most once."""

import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamq.errors import WorkerLost

WORK = """
import random

@app.task
def work(number):
    note(f"begin {number} {os.getpid()}")
    time.sleep(random.uniform(0.002, 0.02))
    note(f"end {number} {os.getpid()}")
    return number
"""


@dataclass
class Killer:
    """Kills a runner of a worker again and again, while told to.

    Between two kills the tasks note something at ``notes``: on a busy machine a runner may need
    longer than ``every`` seconds until it runs its first task.
    """

    worker: object
    every: float
    notes: Path
    killed: list[int] = field(default_factory=list)
    stopping: bool = False

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()

    def run(self):
        noted = -1
        while not self.stopping:
            time.sleep(self.every * random.uniform(0.5, 1.5))
            size = self.notes.stat().st_size if self.notes.exists() else 0
            runners = self.worker.runners()
            if runners and size != noted:
                noted = size
                victim = random.choice(runners)
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)


class Story:
    """What the tasks noted: which number began and ended in which process."""

    def __init__(self, notes):
        self.begun, ended = Counter(), Counter()
        for word, number, pid in map(str.split, notes):
            (self.begun if word == "begin" else ended)[(int(number), int(pid))] += 1
        self.cut_short = self.begun - ended
        self.runs = Counter()
        for (number, _), times in self.begun.items():
            self.runs[number] += times

    def hits(self, killed):
        """How many kills hit a running task."""
        return len({pid for _, pid in self.cut_short} & set(killed))


def ran_at_least_once(site, results, story):
    """The promise of late acknowledgement."""
    assert set(story.runs) == set(range(len(results)))
    assert Counter(site.states(results)) == {("SUCCESS", None): len(results)}
    assert site.redis.keys("{streamq}:dead:*") == []
    site.at_rest()


def ran_at_most_once(site, results, story, killed):
    """The promise of early acknowledgement."""
    assert max(story.runs.values()) == 1
    states = Counter(site.states(results))
    assert set(states) <= {("SUCCESS", None), ("FAILURE", "streamq.errors.WorkerLost")}
    assert sum(states.values()) == len(results)
    assert states[("FAILURE", "streamq.errors.WorkerLost")] <= len(killed)
    site.at_rest()


def run_under_fire(site, count, *, every, **options):
    """Run tasks while runners are killed; return results, story and who was killed."""
    site.write(WORK)
    worker = site.worker("-c", 6)
    with Killer(worker, every, site.folder / "notes") as killer:
        results = site.send_many("work", count, max_deliveries=1000, **options)
        site.drained(seconds=count / 20 + 30)
    return results, Story(site.notes()), killer.killed


def test_the_check_for_at_least_once_finds_a_recovery_that_loses_messages(site):
    site.changed_package(
        "recover.lua",
        "    hand_back(stream, entry, fields)\n    moved = moved + 1\n  elseif ran_alone",
        "    ack_and_delete(stream, entry)\n    moved = moved + 1\n  elseif ran_alone",
    )
    results, story, _ = run_under_fire(site, 300, every=0.1)

    with pytest.raises(AssertionError):
        ran_at_least_once(site, results, story)


def test_the_check_for_at_most_once_finds_an_acknowledgement_that_comes_too_late(site):
    site.changed_package(
        "settle.lua",
        "      settled = redis.call('XACK', key, 'workers', entry)\n",
        "      settled = ack == 'start' and 1 or redis.call('XACK', key, 'workers', entry)\n"
        "      if ack == 'start' then at = at + 2 answer[#answer + 1] = 1 break end\n",
    )
    site.write(WORK)
    worker = site.worker("-c", 3)
    with Killer(worker, 0.1, site.folder / "notes") as killer:
        results = site.send_many("work", 300, max_deliveries=1000, acks_late=False)
        time.sleep(2.5)
    story = Story(site.notes())

    with pytest.raises(AssertionError):
        ran_at_most_once(site, results, story, killer.killed)


def test_a_lost_early_task_without_a_result_becomes_a_dead_letter(site):
    site.write(
        """
        @app.task(acks_late=False, ignore_result=True)
        def hang():
            note(os.getpid())
            time.sleep(60)
        """
    )
    site.worker("-c", 1)
    result = site.send("hang", ignore_result=True)
    (pid,) = site.until(site.notes)
    os.kill(int(pid), signal.SIGKILL)

    (letter,) = site.until(lambda: site.redis.zrange("{streamq}:dead:default", 0, -1))
    assert letter == result.id
    found = site.redis.hgetall(f"{{streamq}}:dead:default:{letter}")
    assert (found["dead_reason"], found["task"]) == ("worker lost", "tasks.hang")
    assert "SIGKILL" in found["dead_error"]
    assert not site.redis.exists(f"{{streamq}}:task:{letter}")
    assert len(site.notes()) == 1
    site.at_rest()


POISON = """
@app.task
def poison(how):
    note("poison")
    if how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(0)

@app.task(bind=True)
def harmless(self, number):
    time.sleep(0.002)
    return self.request.deliveries
"""


def test_a_call_says_how_many_crashes_it_may_have(site):
    site.write(POISON)
    site.worker("-c", 1)

    with pytest.raises(WorkerLost):
        site.send("poison", "segv", max_deliveries=1).get(timeout=20)

    assert site.notes() == ["poison"]


def test_a_task_knows_how_often_its_runner_died_before(site):
    site.write(
        """
        @app.task(bind=True)
        def third_time(self):
            if self.request.deliveries < 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return [self.request.deliveries, self.request.redelivered]
        """
    )
    site.worker("-c", 1)

    assert site.send("third_time").get(timeout=20) == [3, True]
    site.at_rest()


def test_a_killed_leader_does_not_keep_the_others_from_work(site):
    site.write(
        """
        @app.task
        def fork_and_leave():
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            return os.getpid()

        @app.task
        def pid():
            return os.getpid()
        """
    )
    worker = site.worker("-c", 2)
    leavers = {site.send("fork_and_leave").get(timeout=10) for _ in range(6)}
    time.sleep(0.2)
    for pid in leavers:
        os.kill(pid, signal.SIGKILL)

    site.until(lambda: len(set(worker.runners()) - leavers) == 2, "both are there again")
    time.sleep(0.5)  # they wait, and one of them has the turn

    assert all(site.send("pid").get(timeout=10) for _ in range(4))


@pytest.mark.parametrize("code", [0, 1, 3])
def test_whatever_code_a_task_exits_with_it_is_a_crash_of_its_runner(site, code):
    site.write(f"\n@app.task\ndef leave():\n    os._exit({code})\n")
    site.worker("-c", 1)

    with pytest.raises(WorkerLost):
        site.send("leave").get(timeout=15)

    assert site.app.broker.client.ask("ZCARD", site.app.broker.keys.dead("default")) == 1


BOMB = """
import sys

def explode(frame, event, arg):
    if event == "call" and frame.f_code.co_name == "exchange":
        os.kill(os.getpid(), signal.SIGSEGV)

@app.task
def bomb():
    note("bomb")
    sys.setprofile(explode)
"""

BOMB_OF_GREENLETS = """
import gevent

@app.task(bind=True)
def innocent(self):
    note(f"innocent {self.request.deliveries}")
    while not (HERE / "go").exists():
        gevent.sleep(0.05)
    return "unharmed"

@app.task
def bomb():
    note("bomb")
    gevent.spawn(os.kill, os.getpid(), signal.SIGKILL)
"""


def test_a_task_that_kills_its_runner_after_it_has_returned_is_put_aside(site):
    """It is settled after that only; then a quarantine runner shows that it was this one."""
    site.env["STREAMQ_LEASE"] = "1s"
    site.write(BOMB)
    site.worker("-c", 1)

    with pytest.raises(WorkerLost, match=r"killed by SIGSEGV .* after it ran the task"):
        site.send("bomb").get(timeout=20)

    assert site.notes() == ["bomb"] * 4
    assert site.redis.zcard("{streamq}:dead:default") == 1
    site.until(lambda: not site.redis.exists("{streamq}:quarantine"))
    site.at_rest()


def test_one_that_kills_its_runner_after_it_has_returned_costs_no_task_beside_it(site):
    site.env["STREAMQ_LEASE"] = "1s"
    site.write(BOMB_OF_GREENLETS)
    site.worker("-P", "gevent", "--processes", 1, "-c", 10)
    innocent = site.send("innocent")
    site.until(site.notes, "it runs")

    bomb = site.send("bomb")
    site.until(lambda: site.redis.exists("{streamq}:quarantine"), "they are to run alone")
    (site.folder / "go").touch()
    with pytest.raises(WorkerLost):
        bomb.get(timeout=20)

    assert innocent.get(timeout=20) == "unharmed"
    assert site.redis.zrange("{streamq}:dead:default", 0, -1) == [bomb.id]
    site.until(lambda: not site.redis.exists("{streamq}:quarantine"))
    site.at_rest()
