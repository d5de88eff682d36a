"""How much a runner reads at once, and in which order it looks through its queues."""

import itertools
from collections import Counter

import pytest

from streamq.runner.sources import MOST, SHARE, AdaptivePrefetch, QueueStreams, ReadOrder


def test_a_runner_begins_with_one_message():
    assert AdaptivePrefetch().count == 1


def test_quick_tasks_are_read_in_growing_batches_up_to_a_bound():
    adaptive, counts = AdaptivePrefetch(), []
    for _ in range(20):
        adaptive.learn(adaptive.count, adaptive.count * 1e-6)
        counts.append(adaptive.count)

    assert counts == sorted(counts)
    assert counts[-1] == MOST
    for before, after in itertools.pairwise(counts):
        assert after <= before * 4


def test_one_slow_batch_counts_at_once():
    adaptive = AdaptivePrefetch()
    for _ in range(20):
        adaptive.learn(100, 100 * 1e-6)

    adaptive.learn(10, 1.0)

    assert adaptive.count == 1


def test_a_batch_is_what_fits_into_the_share():
    adaptive = AdaptivePrefetch()
    for _ in range(30):
        adaptive.learn(adaptive.count, adaptive.count * SHARE / 10.5)

    assert adaptive.count == 10


def test_a_clock_that_stands_still_is_no_trouble():
    adaptive = AdaptivePrefetch()
    for _ in range(200):
        adaptive.learn(1, 0.0)

    assert adaptive.count == MOST


def test_what_was_handed_back_goes_first_then_the_levels_from_the_top():
    assert QueueStreams("mail", 2).streams == ("mail:returned", "mail:p2", "mail:p1", "mail")
    assert QueueStreams("mail").streams == ("mail:returned", "mail")


def test_for_a_single_message_each_stream_is_read_by_itself():
    assert ReadOrder([QueueStreams("a")]).groups(1) == [("a:returned",), ("a",)]


def test_for_many_messages_the_streams_of_a_queue_are_read_together():
    assert ReadOrder([QueueStreams("a")]).groups(10) == [("a:returned", "a")]


def test_strict_levels_are_never_read_together():
    assert ReadOrder([QueueStreams("a", 1)]).groups(10) == [("a:returned",), ("a:p1",), ("a",)]


def served(read_order, backlogs, *, starts, count=1):
    """How many starts each queue gets, as a runner reads these backlogs."""
    left, seen = dict(backlogs), Counter()
    while seen.total() < starts and any(left.values()):
        room = count
        for group in read_order.groups(count):
            for stream in group:
                if room > 0 and (taken := min(room, left.get(stream, 0))):
                    left[stream] -= taken
                    seen[stream] += taken
                    room -= taken
                    read_order.advance(stream)
    return seen


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("names", ["ab.......", "a.......b", "....a.b..", ".......ab", "ba"])
def test_two_backlogs_get_the_same_however_many_empty_queues_stand_between(names, count):
    names = [name if name != "." else f"empty{n}" for n, name in enumerate(names)]

    seen = served(
        ReadOrder(list(map(QueueStreams, names))), {"a": 500, "b": 500}, starts=300, count=count
    )

    assert seen == {"a": 150, "b": 150}


def test_what_was_handed_back_and_each_level_count_as_the_turn_of_their_queue():
    names = ["a", *(f"empty{n}" for n in range(7)), "b"]
    backlogs = {"a:returned": 50, "a": 500, "b:p2": 30, "b": 500}

    seen = served(ReadOrder([QueueStreams(name, 2) for name in names]), backlogs, starts=300)

    assert seen == {"a:returned": 50, "a": 100, "b:p2": 30, "b": 120}


def test_a_queue_that_cannot_be_read_has_no_turn():
    read_order = ReadOrder([QueueStreams("a"), QueueStreams("junk"), QueueStreams("b")])
    read_order.skipped = {"junk"}

    assert served(read_order, {"a": 99, "b": 99}, starts=100) == {"a": 50, "b": 50}


def test_every_look_sees_all_queues_and_begins_with_another_as_each_gives():
    read_order, first = ReadOrder([QueueStreams("a"), QueueStreams("b"), QueueStreams("c")]), []

    for _ in range(3):
        look = read_order.groups(10)
        assert sorted(stream for group in look for stream in group) == sorted(read_order.streams)
        first.append(look[0][1])
        read_order.advance(first[-1])

    assert first == ["a", "b", "c"]
