"""Controls of `tests/system/test_all_away.py`: what its tests must see is broken on purpose."""

import pytest

from tests.system.test_all_away import (
    PREFORK,
    all_cut_off,
    short,  # noqa: F401 - a fixture
)
from tests.system.traffic import runs_through


def test_without_an_unbroken_view_they_would_take_from_the_living(short, server):
    short.changed_module(
        "streamq/worker/lease_view.py",
        "return self.since is not None and now - self.since >= JUDGE_AFTER * self.lease",
        "return True",
    )
    with (
        all_cut_off(server) as (urls, trouble),
        pytest.raises(AssertionError, match="twice: a"),
    ):
        runs_through(short, PREFORK, urls, trouble)
