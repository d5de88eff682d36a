"""A queue whose ids are used up under load, and repaired while real workers go on."""

import pytest

from streamq import OutOfIds
from streamq.admin.repair import Repair

LAST = f"{2**64 - 1}-{2**64 - 1}"

TASKS = """
@app.task
def count(number):
    time.sleep(0.002)
    note(number)
"""


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_every_task_runs_once_though_its_queue_is_repaired_under_it(site, pool):
    """Takes the time of a worker's start and of 1500 tasks."""
    site.write(TASKS)
    site.worker("-c", 2, "-P", pool)
    app = site.app
    calls = [app.signature("tasks.count", (number,)) for number in range(1500)]
    results = app.enqueue_many(calls[:1400])
    site.until(lambda: len(site.notes()) > 20, "it works")

    site.redis.xadd("{streamq}:queue:default", {"task": "tasks.count", "args": "[-1]"}, id=LAST)
    with pytest.raises(OutOfIds):
        app.enqueue(calls[1400])
    done = Repair(app.broker.client, app.broker.keys, "default").run(20)
    assert done.streams == ["default"]
    results += app.enqueue_many(calls[1400:])

    for result in results:
        assert result.get(timeout=30) is None
    site.until(lambda: len(site.notes()) == 1501, "the message of the other producer has run")
    assert sorted(map(int, site.notes())) == list(range(-1, 1500))
    site.at_rest()
