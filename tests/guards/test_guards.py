"""Each guard is taken away, and the test that is there for it must fail, for that reason."""

import re

import pytest

from tests.guards import messages, servers, workers
from tests.guards.guard import changed_checkout, complaint, run

GUARDS = [*workers.GUARDS, *servers.GUARDS, *messages.GUARDS]
#: Where a race decides, the guard is needed now and then, and on a crowded machine a test may
#: fail for another reason.
TRIES = 3


def test_each_has_a_name_of_its_own():
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_it_the_test_fails(guard):
    with changed_checkout(guard.edits) as folder:
        for _ in range(TRIES):
            done = run(folder, guard.test, seconds=90)
            if "1 skipped" in done.stdout:
                pytest.skip("its test cannot run here either")
            if done.returncode == 1 and re.search(guard.says, complaint(done.stdout)):
                return
    pytest.fail(f"it is not missed:\n{done.stdout[-10_000:]}{done.stderr[-3_000:]}")
