"""The alarm rings when a task is late, and for that task only."""

import threading
import time

import pytest

from streamq.core.delivery import Delivery
from streamq.runner.soft_limit import SoftLimitTimer


class Clock:
    """Rings, and remembers for which tasks somebody heard it."""

    def __init__(self):
        self.heard = []
        self.rung = threading.Event()
        self.running = None
        self.alarm = SoftLimitTimer(self.ring)

    def ring(self):
        if self.alarm.is_late(self.running):
            self.heard.append((self.running, time.monotonic()))
            self.rung.set()
            self.alarm.ended()

    def begin(self, soft):
        task = Delivery("mail", b"1-1", {})
        task.soft = soft
        self.running = task
        self.alarm.began(task)
        return task

    def end(self):
        self.running = None
        self.alarm.ended()


@pytest.fixture
def clock():
    return Clock()


def test_it_rings_once_when_the_task_is_late(clock):
    began = time.monotonic()
    task = clock.begin(0.05)

    assert clock.rung.wait(5)
    time.sleep(0.3)

    assert [who for who, _ in clock.heard] == [task]
    assert 0.05 <= clock.heard[0][1] - began < 0.25


def test_a_shorter_limit_that_comes_later_is_not_missed(clock):
    clock.begin(60)
    clock.end()
    time.sleep(0.05)

    task = clock.begin(0.05)

    assert clock.rung.wait(1)
    assert [who for who, _ in clock.heard] == [task]


def test_tasks_that_end_in_time_hear_nothing_and_wake_nobody(clock):
    clock.begin(60)
    time.sleep(0.05)
    wakings = []
    clock.alarm.changed.set = lambda: wakings.append(1)

    for _ in range(1000):
        clock.begin(60)
        clock.end()

    assert not clock.heard
    assert not wakings


def test_it_rings_again_until_it_is_heard(clock):
    task = clock.begin(0.05)
    clock.running = None
    time.sleep(0.15)

    clock.running = task

    assert clock.rung.wait(2)
