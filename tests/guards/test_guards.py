"""The guards: without each of them its test must fail, for the expected reason."""

import re

import pytest

from tests.guards import messages, servers, workers
from tests.guards.guard import changed_checkout, complaint, run

GUARDS = [*workers.GUARDS, *servers.GUARDS, *messages.GUARDS]
#: Where a race decides, the guard is not needed in every run, and on a busy machine a test may
#: fail for another reason.
TRIES = 3


def test_names_of_guards_are_unique():
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_the_guard_its_test_fails(guard):
    with changed_checkout(guard.edits) as folder:
        for _ in range(TRIES):
            done = run(folder, guard.test, seconds=90)
            if "1 skipped" in done.stdout:
                pytest.skip("its test cannot run here either")
            if done.returncode == 1 and re.search(guard.says, complaint(done.stdout)):
                return
    pytest.fail(f"its test does not fail:\n{done.stdout[-10_000:]}{done.stderr[-3_000:]}")
