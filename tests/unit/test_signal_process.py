"""The process that calls receivers beside the supervisor: what it is told, and what that costs."""

import os
import time

import pytest

from streamq.signals import task_revoked, worker_ready, worker_shutdown, worker_shutting_down
from streamq.worker.processes import RunnerProcesses
from streamq.worker.services import signal_process
from streamq.worker.services.service import EACH_ROUND
from streamq.worker.services.signal_process import SENT_THERE, SignalProcess
from tests.processes import until
from tests.unit.test_executor import executor, message


@pytest.fixture
def notes(tmp_path):
    """What receivers have noted, line by line."""
    path = tmp_path / "notes"
    path.touch()

    def note(words):
        with open(path, "a") as file:
            file.write(f"{words}\n")

    note.lines = lambda: path.read_text().splitlines()
    return note


@pytest.fixture
def connect():
    """Connects a receiver for this test alone."""
    connected = []

    def connect(signal, receiver):
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def make():
    """Makes the service, as a supervisor does; its process ends with the test."""
    made = []

    def make():
        service = SignalProcess("w@here", executor(lambda x: x), RunnerProcesses(None, None))
        made.append(service)
        return service

    yield make
    for service in made:
        service.abort()


def leave(service):
    """Let the process end, as a supervisor does that leaves."""
    until(service.has_ended, "it has ended")


def test_without_a_receiver_nothing_is_started_or_asked(make):
    assert not any(each.links for each in SENT_THERE)
    service = make()

    assert service.due() == float("inf")
    service.on_stop("SIGTERM", "Warm")
    assert service.has_ended()


def test_receivers_are_called_in_order_until_it_is_told_to_end(make, connect, notes, caplog):
    def note(signal, sender, **given):
        notes(f"{signal.name} {sender} {given} {os.getppid()}")

    for each in (worker_ready, worker_shutting_down, worker_shutdown):
        connect(each, note)
    service = make()
    assert service.due() == EACH_ROUND
    service.run()
    service.note_ready(True)
    service.note_ready(True)
    service.on_stop("SIGINT", "Cold")

    leave(service)

    us = os.getpid()
    assert notes.lines() == [
        f"worker_ready w@here {{}} {us}",
        f"worker_shutting_down w@here {{'sig': 'SIGINT', 'how': 'Cold', 'exitcode': 1}} {us}",
        f"worker_shutdown w@here {{}} {us}",
    ]
    assert service.processes.helpers == set()
    assert caplog.records == []


def test_a_receiver_that_takes_long_never_makes_the_loop_wait(make, connect, notes, tmp_path):
    def block(**given):
        until((tmp_path / "go").exists)

    def note(request, signum, **given):
        notes(f"{request.args[0][:3]} {signum}")

    connect(worker_ready, block)
    connect(task_revoked, note)
    service = make()
    service.run()
    service.note_ready(True)
    began = time.monotonic()
    for number in range(100):
        service.on_terminated(message(f"{number:3}" + "x" * 9_000), 9)
        service.run()
    assert time.monotonic() - began < 1.0
    assert notes.lines() == []
    (tmp_path / "go").touch()

    leave(service)

    assert notes.lines() == [f"{number:3} 9" for number in range(100)]


def test_what_waits_for_a_receiver_is_bounded(make, connect, monkeypatch, caplog):
    connect(task_revoked, lambda **given: None)
    monkeypatch.setattr(signal_process, "MOST_WAITING", 1000)
    service = make()

    for _ in range(100):
        service.on_terminated(message("x" * 400), 9)

    assert len(service.unsent) < 2000
    assert "receivers take too long: they do not learn of one task_revoked" in caplog.text


def test_a_crash_is_logged_once_and_nothing_is_started_again(make, connect, caplog):
    connect(worker_ready, lambda **given: os._exit(3))
    service = make()
    service.run()
    service.note_ready(True)

    until(lambda: service.run() or service.over)

    (record,) = caplog.records
    assert "exited with code 3: receivers of worker_ready are called no more" in record.message
    assert (service.due(), service.has_ended()) == (float("inf"), True)


def test_it_ends_with_its_supervisor(make, connect):
    """Its end of the pipe alone ends it, where no kernel does."""
    connect(worker_ready, lambda **given: None)
    service = make()
    service.run()
    os.close(service.writer)
    service.writer = -1

    until(lambda: service.run() or service.over)
