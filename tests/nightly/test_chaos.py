"""Chaos for a minute."""

import pytest

from tests.chaos.test_chaos import chaos, nothing_was_broken


@pytest.mark.timeout(400)
def test_a_minute_of_chaos_breaks_no_promise():
    verdict, good = chaos("--seconds", 60, "--seed", 20, seconds=380)

    nothing_was_broken(verdict)
    assert good
    assert verdict["accepted"] > 1000
    assert verdict["faults"] > 15
    assert verdict["extra_runs"] > 0  # else nothing was hit
