"""Controls of `tests/system/test_cut_off.py`: what its tests must see is broken on purpose."""

from tests.system.faults import without_fences
from tests.system.test_cut_off import (
    late_settlement,
    short,  # noqa: F401 - a fixture
)


def test_without_lease_and_entry_as_tokens_the_loser_would_win(short, server, proxy):
    without_fences(short)

    loser, _, value = late_settlement(short, server, proxy)

    assert value == loser
