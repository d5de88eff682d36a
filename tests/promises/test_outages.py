"""P11: everything ends, and work goes on by itself."""

import time

import pytest

from tests.system.test_outages import (
    BOTH_POOLS,
    load,  # noqa: F401 - a fixture
)


@pytest.mark.parametrize("load", BOTH_POOLS, indirect=True)
def test_killed_connections_are_made_again(load, server):
    for _ in range(15):
        server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.1)
    load.flows()

    load.ends_well()
