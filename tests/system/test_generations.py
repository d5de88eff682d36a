"""Task ids that are used again, by real workers: no message is taken for another one."""

import os
import signal

import pytest

from streamq.errors import Revoked, WorkerLost
from tests.system.faults import begun

TASKS = """
from streamq import Ignore

@app.task(bind=True, default_retry_delay=0.05, max_retries=2)
def daily(self, day, tries=0):
    note(f"begin {day} {os.getpid()} {time.time():.3f}")
    if self.request.retries < tries:
        self.retry()
    return [day, self.request.generation]

@app.task(bind=True)
def hold(self, day):
    note(f"begin {day} {os.getpid()} {time.time():.3f}")
    while not (HERE / f"go-{day}").exists():
        time.sleep(0.01)
    return day

@app.task(acks_late=False)
def early(day):
    note(f"begin {day} {os.getpid()} {time.time():.3f}")
    while not (HERE / f"go-{day}").exists():
        time.sleep(0.01)
    return day

@app.task(bind=True)
def silent(self, meta=None):
    if meta is not None:
        self.update_state("HALFWAY", meta)
    raise Ignore
"""


@pytest.fixture
def again(site):
    """``again("daily", 1)`` sends the job under the id that it always has."""
    site.write(TASKS)
    site.app = site.new_app(dedup_window=0)

    def again(task, *args, **options):
        return site.send(task, *args, task_id="report", **options)

    return again


def test_a_job_of_every_day_is_tried_again_whatever_became_of_the_day_before(site, again):
    site.worker("-c", 1)
    for day in (1, 2, 3):
        assert again("daily", day, day - 1).get(timeout=10) == [day, day]

    assert [len(begun(site, day)) for day in (1, 2, 3)] == [1, 2, 3]
    site.at_rest()


@pytest.mark.parametrize("countdown", [None, 0.2])
def test_what_was_revoked_yesterday_runs_today(site, again, countdown):
    site.app.declare([])
    yesterday = again("daily", 1, countdown=countdown and 0.1)
    yesterday.revoke()
    assert yesterday.state == "REVOKED"
    result = again("daily", 2, countdown=countdown)
    assert result.state == ("SCHEDULED" if countdown else "QUEUED")

    site.worker("-c", 1)

    assert result.get(timeout=10) == [2, 2]
    assert not begun(site, 1)
    site.at_rest()


def test_one_revoked_while_it_ran_and_sent_again_is_recovered_when_its_runner_dies(site, again):
    worker = site.worker("-c", 1)
    first = again("hold", 1)
    site.until(lambda: first.state == "STARTED")
    first.revoke()
    (site.folder / "go-1").touch()
    assert first.get(timeout=10) == 1

    second = again("hold", 2)
    site.until(lambda: begun(site, 2))
    os.kill(worker.runners()[0], signal.SIGKILL)
    site.until(lambda: len(begun(site, 2)) == 2)
    (site.folder / "go-2").touch()

    assert second.get(timeout=10) == 2
    site.at_rest()


def test_a_lost_worker_says_so_of_the_one_that_it_ran_early(site, again):
    worker = site.worker("-c", 1)
    (site.folder / "go-1").touch()
    assert again("early", 1).get(timeout=10) == 1
    second = again("early", 2)
    site.until(lambda: begun(site, 2))

    os.kill(worker.runners()[0], signal.SIGKILL)

    with pytest.raises(WorkerLost):
        second.get(timeout=10)
    (site.folder / "go-3").touch()
    assert again("early", 3).get(timeout=10) == 3
    site.at_rest()


def test_an_id_is_accepted_once_while_its_task_runs_and_what_runs_is_terminated(site, again):
    site.worker("-c", 1)
    (site.folder / "go-1").touch()
    assert again("hold", 1).get(timeout=10) == 1
    results = [again("hold", 2) for _ in range(3)]
    site.until(lambda: begun(site, 2))
    assert again("hold", 3).state in ("QUEUED", "STARTED")
    assert site.redis.xlen("{streamq}:queue:default") == 1

    results[0].revoke(terminate=True)

    for result in results:
        with pytest.raises(Revoked):
            result.get(timeout=10)
    assert len(begun(site, 2)) == 1
    assert not begun(site, 3)
    site.at_rest()


def test_ignore_ends_a_wait_at_once_and_the_id_may_be_used_again(site, again):
    site.worker("-c", 1)
    for generation, meta in enumerate((None, {"at": 3}, None), 1):
        result = again("silent", meta)
        assert result.get(timeout=10) is None
        assert result.ready()
        assert not result.successful()
        assert not result.failed()
        assert result.state in (("HALFWAY",) if meta else ("QUEUED", "STARTED"))
        assert result.info == meta
        record = result.record()
        assert int(record["finished"])
        assert int(record.get("generation", 1)) == generation
        site.until(lambda: site.redis.pttl("{streamq}:task:report") > 0)
    site.at_rest()
