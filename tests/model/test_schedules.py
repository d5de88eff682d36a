"""Schedules against their model, on a real server, with random events in random order."""

import random

import pytest
from hypothesis import seed
from hypothesis.stateful import get_state_machine_test

from tests.model.schedule_machine import ScheduleMachine
from tests.model.schedule_mutants import SCHEDULE_MUTANTS as MUTANTS
from tests.model.server import Server, edited
from tests.model.test_broker import SETTINGS


@pytest.mark.timeout(600)  # a failure is made short before it is shown
def test_schedules_do_what_their_model_says(redis, request):
    chosen = request.config.getoption("--hypothesis-seed")
    number = random.randrange(2**32) if chosen in (None, "random") else int(chosen)
    print(f"the same again: pytest --hypothesis-seed={number} {request.node.nodeid}")
    machine = type("Schedules", (ScheduleMachine,), {"server": Server(redis)})

    seed(number)(get_state_machine_test(machine, settings=SETTINGS))()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_edit_fits_the_script(mutant):
    assert edited(mutant.edit.text(), mutant.edit) != mutant.edit.text()
