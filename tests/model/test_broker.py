"""The whole broker against its model, on a real server, with random events in random order."""

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.model.histories import HISTORIES, play
from tests.model.machine import Machine
from tests.model.profiles import PROFILES
from tests.model.server import Server

#: Examples for each profile; `make nightly` runs more.
EXAMPLES = int(os.environ.get("STREAMQ_TEST_EXAMPLES", "30"))

SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(600)  # a failure is made short before it is shown
@pytest.mark.parametrize("profile", PROFILES)
def test_the_broker_does_what_its_model_says(redis, request, profile):
    chosen = request.config.getoption("--hypothesis-seed")
    number = random.randrange(2**32) if chosen in (None, "random") else int(chosen)
    print(f"the same again: pytest --hypothesis-seed={number} {request.node.nodeid}")
    attributes = {"server": Server(redis), "profile": PROFILES[profile]}
    machine = type("Broker", (Machine,), attributes)

    seed(number)(get_state_machine_test(machine, settings=SETTINGS))()


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_histories_that_seldom_happen_by_chance(redis, history):
    play(Server(redis), history)
