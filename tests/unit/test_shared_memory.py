"""What runs, in memory that outlives the process that wrote it."""

import os

import pytest

from streamq.runner.shared_memory import SharedMemory


@pytest.fixture
def shared_memory(tmp_path):
    return SharedMemory(tmp_path / "slots", 3, 2)


def test_nothing_runs_at_first(shared_memory):
    for runner in range(3):
        assert shared_memory.of(runner).running() == []
        assert shared_memory.of(runner).ran == 0
        assert not shared_memory.of(runner).exited_cleanly


def test_what_starts_is_seen_until_it_is_cleared(shared_memory):
    slots = shared_memory.of(1)

    slots.note_start(0, 7, b"1700000000000-3")
    slots.note_start(1, 2, b"5-0")

    assert [(each.stream, each.entry) for each in slots.running()] == [
        (7, b"1700000000000-3"),
        (2, b"5-0"),
    ]
    assert all(0 <= each.since < 5 for each in slots.running())
    slots.clear(0)
    assert [each.entry for each in slots.running()] == [b"5-0"]


def test_what_is_past_its_limit_is_found_beside_what_has_none(shared_memory):
    slots = shared_memory.of(1)
    slots.note_start(0, 1, b"1-1")
    slots.note_start(1, 1, b"1-2", hard=1000.0)

    assert [each.slot for each in slots.running(past=-1001.0)] == [1]
    assert slots.running(past=-900.0) == []
    assert [each.slot for each in slots.running()] == [0, 1]


def test_a_runner_does_not_touch_the_slots_of_another(shared_memory):
    shared_memory.of(1).note_start(0, 1, b"1-1")
    shared_memory.of(1).note_start(1, 1, b"1-2")
    shared_memory.of(1).ran = 9

    assert shared_memory.of(0).running() == shared_memory.of(2).running() == []
    assert (shared_memory.of(0).ran, shared_memory.of(2).ran) == (0, 0)


def test_leaving_keeps_the_count(shared_memory):
    slots = shared_memory.of(2)
    slots.ran = 2**40

    slots.note_exit()

    assert slots.exited_cleanly
    assert slots.ran == 2**40


def test_a_new_runner_begins_afresh(shared_memory):
    slots = shared_memory.of(0)
    slots.note_start(0, 1, b"1-1")
    slots.ran = 3
    slots.note_exit()

    slots.reset()

    assert (slots.running(), slots.ran, slots.exited_cleanly) == ([], 0, False)


def test_the_longest_entry_id_fits(shared_memory):
    longest = f"{2**64 - 1}-{2**64 - 1}"[:38].encode()
    shared_memory.of(0).note_start(0, 65535, longest)

    assert shared_memory.of(0).running()[0].entry == longest


def test_another_opening_of_the_file_sees_what_a_dead_process_wrote(shared_memory, tmp_path):
    pid = os.fork()
    if not pid:
        SharedMemory(tmp_path / "slots", 3, 2).of(1).note_start(1, 4, b"9-9")
        os._exit(0)
    os.waitpid(pid, 0)

    (running,) = shared_memory.of(1).running()
    assert (running.stream, running.entry) == (4, b"9-9")
