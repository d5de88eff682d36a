"""Controls of `tests/system/test_half_open.py`: what its tests must see is broken on purpose."""

import time

import pytest

from tests.system.test_half_open import (
    NOTICED,
    behind,  # noqa: F401 - a fixture
)


def test_without_an_end_to_its_patience_a_reader_would_wait_for_long(behind, proxy):
    site = behind
    site.changed_module(
        "streamq/transport/connection.py", "BLOCK_MARGIN = 5.0", "BLOCK_MARGIN = 60.0"
    )
    site.worker("-c", 1)
    assert site.send("quick", 0).get(timeout=10) == 0
    time.sleep(0.3)
    proxy.strand()

    result = site.send("quick", 1)

    with pytest.raises(TimeoutError):
        result.get(timeout=NOTICED)
