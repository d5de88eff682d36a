"""P9: nothing hoards."""

import time

from tests.system.test_fairness import TASKS


def test_a_slow_task_keeps_no_other_waiting_and_hides_no_result(site):
    site.write(TASKS)
    signature = site.app.signature
    site.app.declare([])
    calls = [signature("tasks.quick", (number,)) for number in range(400)]
    calls.insert(150, signature("tasks.slow"))
    results = site.app.enqueue_many(calls)
    slow = results.pop(150)

    site.worker("-c", 2)
    site.until(lambda: any("slow begins" in line for line in site.notes()))
    began = time.monotonic()
    deliveries = [each.get(timeout=10) for each in results]
    took = time.monotonic() - began

    assert took < 2.0
    assert deliveries == [1] * 400
    site.until(lambda: slow.state == "STARTED")
    assert slow.record()["worker"]
    (site.folder / "go").touch()
    assert slow.get(timeout=10) == "slow"
    site.at_rest()
