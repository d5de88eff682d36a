"""Many races between a start in a process of greenlets and the thread that hands back beside it."""

import pytest

from tests.system.test_blocked import BLOCKERS, races


@pytest.mark.parametrize("how", BLOCKERS)
def test_what_starts_just_when_it_would_go_back_starts_once(site, how):
    races(site, how, 300)
