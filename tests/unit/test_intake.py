"""How much a runner reads at once, and in which order it looks through its queues."""

import itertools

from streamq.runner.intake import MOST, SHARE, Intake, Pace, Source


def test_a_runner_begins_with_one_message():
    assert Pace().count == 1


def test_quick_tasks_are_read_in_growing_batches_up_to_a_bound():
    pace, counts = Pace(), []
    for _ in range(20):
        pace.ran(pace.count, pace.count * 1e-6)
        counts.append(pace.count)

    assert counts == sorted(counts)
    assert counts[-1] == MOST
    for before, after in itertools.pairwise(counts):
        assert after <= before * 4


def test_one_slow_batch_counts_at_once():
    pace = Pace()
    for _ in range(20):
        pace.ran(100, 100 * 1e-6)

    pace.ran(10, 1.0)

    assert pace.count == 1


def test_a_batch_is_what_fits_into_the_share():
    pace = Pace()
    for _ in range(30):
        pace.ran(pace.count, pace.count * SHARE / 10.5)

    assert pace.count == 10


def test_a_clock_that_stands_still_is_no_trouble():
    pace = Pace()
    for _ in range(200):
        pace.ran(1, 0.0)

    assert pace.count == MOST


def test_what_was_handed_back_goes_first_then_the_levels_from_the_top():
    assert Source("mail", 2).streams == ("mail:returned", "mail:p2", "mail:p1", "mail")
    assert Source("mail").streams == ("mail:returned", "mail")


def test_for_a_single_message_each_stream_is_read_by_itself():
    assert Intake([Source("a")]).groups(1) == [("a:returned",), ("a",)]


def test_for_many_messages_the_streams_of_a_queue_are_read_together():
    assert Intake([Source("a")]).groups(10) == [("a:returned", "a")]


def test_strict_levels_are_never_read_together():
    assert Intake([Source("a", 1)]).groups(10) == [("a:returned",), ("a:p1",), ("a",)]


def test_every_look_begins_with_another_queue_and_sees_them_all():
    intake = Intake([Source("a"), Source("b"), Source("c")])

    looks = [intake.groups(10) for _ in range(3)]

    assert {look[0][1] for look in looks} == {"a", "b", "c"}
    for look in looks:
        assert sorted(stream for group in look for stream in group) == sorted(intake.streams)
