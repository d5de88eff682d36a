"""The control of the model: with one thing wrong in a script, the machine must fail."""

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.directed import DIRECTED
from tests.model.histories import HISTORIES
from tests.model.machine import Machine
from tests.model.mutants import MUTANTS
from tests.model.profiles import PROFILES
from tests.model.server import edited
from tests.model.test_broker import SETTINGS

#: The same examples at every run, so that a mutant is always found or never.
SEARCH = settings(SETTINGS, max_examples=250, phases=[Phase.generate], derandomize=True)


def search(server, profile):
    machine = type("Broker", (Machine,), {"server": server, "profile": PROFILES[profile]})
    run_state_machine_as_test(machine, settings=SEARCH)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_edit_fits_the_script(mutant):
    assert edited(mutant.edit.text(), mutant.edit) != mutant.edit.text()


def test_every_directed_mutant_and_history_is_in_use():
    assert DIRECTED.keys() <= {mutant.name for mutant in MUTANTS}
    assert set(DIRECTED.values()) == set(HISTORIES)
