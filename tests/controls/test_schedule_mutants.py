"""The control of the model of schedules: with one thing wrong in a script it must fail."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.schedule_machine import ScheduleMachine
from tests.model.schedule_mutants import SCHEDULE_MUTANTS
from tests.model.server import Server
from tests.model.test_mutants import SEARCH


@pytest.mark.parametrize("mutant", SCHEDULE_MUTANTS, ids=lambda mutant: mutant.name)
def test_the_machine_sees_what_is_wrong(redis, mutant):
    search = settings(SEARCH, max_examples=1000)
    machine = type("Schedules", (ScheduleMachine,), {"server": Server(redis, mutant.edit)})

    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=search)
