"""Controls of `tests/system/test_lost_replies.py`: what its tests must see is broken on purpose."""

import pytest

from streamq.errors import ResultTimeout
from tests.system.test_lost_replies import (
    behind,  # noqa: F401 - a fixture
    early_with_a_lost_reply,
    killed_after_sending,
    read_in_vain,
)


def test_without_the_memory_of_the_last_settlement_it_would_never_run(behind, proxy):
    behind.changed_package(
        "includes/consumer_calls.lua", "local same = last == number", "local same = false"
    )
    behind.changed_package(
        "settle.lua",
        "settled = redis.call('HEXISTS', marks, stream .. ' ' .. entry)",
        "settled = 0",
    )

    with pytest.raises(ResultTimeout):
        early_with_a_lost_reply(behind, proxy, patience=4)


def test_without_looking_for_it_what_was_read_in_vain_would_never_run(behind, proxy):
    behind.changed_module(
        "streamq/runner/prefetch.py",
        "if self.broken or monotonic() - self.compared_at > self.lease:",
        "if False:",
    )

    with pytest.raises(ResultTimeout):  # the first may be an answer to an earlier read
        read_in_vain(behind, proxy, patience=5)


def test_without_an_id_of_its_own_it_would_send_twice(behind, proxy):
    assert killed_after_sending(behind, proxy, None) == 2
