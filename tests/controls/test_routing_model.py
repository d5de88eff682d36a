"""The control of the routing model: with one thing wrong in a script, it must notice."""

import pytest
from hypothesis import Phase, given, settings

from tests.lua.test_routing_model import MUTANTS, SETTINGS, TRIALS, Server, build, check


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_notices_a_broken_script(redis, mutant):
    trial, *edits = MUTANTS[mutant]
    server = Server(redis, edits=tuple(edits))

    @settings(SETTINGS, max_examples=1000, derandomize=True, phases=[Phase.generate])
    @given(tried=TRIALS[trial])
    def attempt(tried):
        plan, questions = tried
        check(server, build(server, plan), questions)

    with pytest.raises(AssertionError):
        attempt()
