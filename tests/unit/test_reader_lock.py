"""One idle runner at a time blocks on Redis."""

import fcntl
import os
import signal
from collections.abc import Callable

import pytest

from streamq.runner.reader_lock import ReaderLock, ReadInterrupted, break_lock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "turn"


def in_a_child(act: Callable[[], bool]) -> int:
    """Do this in a forked process; return its id.  It ends with 0 if the answer is true."""
    pid = os.fork()
    if pid:
        return pid
    code = 2
    try:
        code = 0 if act() else 1
    finally:
        os._exit(code)


def free(path):
    """Whether another process could have the turn now."""

    def could_have_it():
        try:
            fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    code = os.waitstatus_to_exitcode(os.waitpid(in_a_child(could_have_it), 0)[1])
    assert code in (0, 1)
    return code == 0


@pytest.fixture
def holder(path):
    """A process that has the turn until it is killed."""
    told, tell = os.pipe()

    def hold():
        lock = ReaderLock(path)
        lock.acquire()
        os.write(tell, b".")
        signal.pause()
        return True

    pid = in_a_child(hold)
    assert os.read(told, 1) == b"."
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(told)
    os.close(tell)


def test_the_turn_is_kept_and_passed_on(path):
    lock = ReaderLock(path)

    assert lock.acquire()
    assert lock.acquire()
    assert not free(path)
    lock.release()

    assert free(path)


def test_passing_on_what_one_does_not_have_takes_nothing_from_others(path, holder):
    ReaderLock(path).release()

    assert not free(path)


def test_the_turn_of_a_dead_runner_is_free_even_if_what_it_forked_lives_on(path):
    told, tell = os.pipe()

    def die_leaving_a_child():
        lock = ReaderLock(path)
        lock.acquire()
        child = in_a_child(lambda: bool(signal.pause()))
        os.write(tell, str(child).encode())
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    os.waitpid(in_a_child(die_leaving_a_child), 0)
    child = int(os.read(told, 20))

    try:
        assert free(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(told)
        os.close(tell)


def test_a_signal_ends_the_wait(path, holder):
    waiter = ReaderLock(path)
    before = signal.signal(signal.SIGALRM, lambda *_: waiter.interrupt())
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert waiter.acquire() is False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not waiter.held
    assert not free(path)


def test_a_broken_lock_is_free_although_another_process_holds_the_old_one(path, holder):
    waiter = ReaderLock(path)
    assert not waiter.try_acquire()

    break_lock(path)

    assert waiter.try_acquire()


def test_who_has_a_turn_of_before_passes_it_on_at_the_next_look(path):
    lock = ReaderLock(path)
    assert lock.acquire()
    break_lock(path)

    assert lock.try_acquire()

    assert lock.number == 1
    lock.release()
    assert free(path)


def test_interrupting_nobody_is_harmless(path):
    lock = ReaderLock(path)

    lock.interrupt()

    assert lock.acquire()
    lock.interrupt()
    assert lock.held
    assert not free(path)


def test_the_interruption_is_no_ordinary_exception():
    assert not issubclass(ReadInterrupted, Exception)
