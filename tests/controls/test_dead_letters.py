"""Controls of `tests/system/test_dead_letters.py`: what its tests must see is broken on purpose."""

import pytest

from streamq.errors import WorkerLost
from tests.system.test_dead_letters import poisoned, retry


def test_without_forgetting_its_crashes_it_would_die_of_the_first_one(site):
    site.changed_package("retry_dead.lua", "elseif not RUN_FIELDS[name] then", "else")
    result = poisoned(site)
    runs = len(site.notes())

    retry(site, "default", result.id)
    with pytest.raises(WorkerLost):
        site.app.result(result.id).get(timeout=30)

    assert len(site.notes()) == runs + 1
