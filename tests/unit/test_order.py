"""The order of tests, and the share of the controls that a commit chooses."""

import pytest

from tests.order import part_of, split


@pytest.mark.parametrize(
    "commit", ["0", "a1", "4273082", "ffffffffffffffffffffffffffffffffffffffff"]
)
def test_a_commit_chooses_one_part_and_always_the_same(commit):
    part, count = part_of(f"5:{commit}")

    assert (part, count) == (int(commit, 16) % 5, 5)


@pytest.mark.parametrize("share", ["5:", "5", ":", "0:a1", "5:HEAD", "-5:1", "5: a1"])
def test_a_share_that_names_no_part_is_refused(share):
    with pytest.raises(pytest.UsageError, match="COUNT:COMMIT"):
        part_of(share)


def test_all_parts_together_are_everything_once():
    items = [object() for _ in range(23)]

    parts = [split(items, part, 5) for part in range(5)]

    assert sorted(id(item) for keep, _ in parts for item in keep) == sorted(map(id, items))
    assert all(len(keep) + len(leave) == len(items) for keep, leave in parts)
    assert max(len(keep) for keep, _ in parts) - min(len(keep) for keep, _ in parts) <= 1
