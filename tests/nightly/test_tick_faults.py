"""Minutes of schedules while workers are killed and Redis is away."""

import os

import pytest

from tests.system.test_tick_faults import each_tick_is_sent_once

#: Seconds of each run: STREAMQ_TEST_SECONDS=600 for longer ones.
SECONDS = int(os.environ.get("STREAMQ_TEST_SECONDS", "300"))


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("workers", [2, 5])
def test_each_tick_is_sent_once_whoever_dies(site, proxy, workers):
    each_tick_is_sent_once(site, proxy, workers, SECONDS)
