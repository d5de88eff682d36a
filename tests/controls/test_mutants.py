"""The control of the model: with one thing wrong in a script, the machine must fail."""

import pytest

from tests.model.directed import DIRECTED
from tests.model.histories import play
from tests.model.mutants import MUTANTS
from tests.model.server import Server
from tests.model.test_mutants import search


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_machine_sees_what_is_wrong(redis, mutant):
    server, history = Server(redis, mutant.edit), DIRECTED.get(mutant.name)

    with pytest.raises(AssertionError):
        play(server, history) if history else search(server, mutant.profile)
