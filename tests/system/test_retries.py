"""Tasks that are tried again, from end to end."""

import re
import time
from itertools import pairwise

import pytest

from streamq.errors import MaxRetriesExceeded

TASKS = """
class Flaky(Exception):
    pass

class Expected(Exception):
    pass

def begin(self):
    note(f"begin {self.request.id} {self.request.retries} {time.time():.3f}")

@app.task(bind=True, max_retries=2, default_retry_delay=0.2)
def again(self, times, *, mark="first"):
    begin(self)
    if self.request.retries < times:
        self.retry(exc=Flaky("not yet"))
    r = self.request
    return [r.id, r.retries, r.headers, r.queue, str(r.expires), r.deliveries]

@app.task(bind=True, max_retries=2, default_retry_delay=0.05)
def plain_retry(self):
    begin(self)
    raise streamq.Retry()

@app.task(bind=True, autoretry_for=(LookupError,), dont_autoretry_for=(KeyError,),
          max_retries=2, default_retry_delay=0.05)
def automatic(self, kind):
    begin(self)
    raise {"index": IndexError, "key": KeyError, "value": ValueError}[kind](kind)

@app.task(bind=True, max_retries=3, autoretry_for=(Flaky,), retry_backoff=1, retry_backoff_max=1,
          retry_jitter=False)
def growing(self):
    begin(self)
    if self.request.retries < 2:
        raise Flaky("grow")
    return self.request.retries

@app.task(bind=True, default_retry_delay=0.05)
def unthrown(self):
    begin(self)
    if self.request.retries == 0:
        self.retry(throw=False)
        return "is not the result"
    return "done"

@app.task(bind=True, default_retry_delay=0.05)
def changed(self, number):
    begin(self)
    if self.request.retries == 0:
        self.retry(args=(number + 1,), priority=9, queue="other")
    return [number, self.request.queue, self.request.retries]

@app.task(bind=True, max_retries=None, default_retry_delay=0)
def for_ever(self):
    begin(self)
    if self.request.retries < 30:
        self.retry(countdown=0)
    return self.request.retries

@app.task(throws=(Expected,))
def expected():
    raise Expected("as announced")

@app.task(throws=(Expected,))
def surprising():
    raise Flaky("not announced")

@app.task(bind=True)
def dies_then_retries(self):
    begin(self)
    if self.request.deliveries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if self.request.retries == 0:
        self.retry(countdown=0.05)
    return [self.request.retries, self.request.deliveries]
"""


@pytest.fixture
def served(site):
    site.write(TASKS + '\n\napp.queues = [Queue("default"), Queue("other", max_priority=9)]\n')
    site.worker("-c", 2, "-l", "info")
    return site


def tries(site, result):
    """The moments at which a task began."""
    return [
        float(line.split()[3]) for line in site.notes() if line.startswith(f"begin {result.id} ")
    ]


def gaps(moments):
    return [later - earlier for earlier, later in pairwise(moments)]


def test_at_the_end_of_its_retries_a_task_fails_with_what_it_raised(served):
    result = served.send("again", 9)
    served.until(result.ready)
    assert served.states([result]) == [("FAILURE", "tasks.Flaky")]
    assert len(tries(served, result)) == 3

    bare = served.send("plain_retry")
    with pytest.raises(MaxRetriesExceeded, match="tried again 2 times"):
        bare.get(timeout=10)
    assert len(tries(served, bare)) == 3
    served.at_rest()


@pytest.mark.parametrize(("kind", "times"), [("index", 3), ("key", 1), ("value", 1)])
def test_some_exceptions_are_tried_again_by_themselves(served, kind, times):
    result = served.send("automatic", kind)

    with pytest.raises((LookupError, ValueError), match=kind):
        result.get(timeout=10)

    assert len(tries(served, result)) == times


def test_pauses_grow_to_their_ceiling(served):
    result = served.send("growing")

    assert result.get(timeout=10) == 2
    assert all(1.0 <= gap < 1.8 for gap in gaps(tries(served, result)))


def test_a_retry_may_be_left_to_the_end_of_the_task_and_change_the_message(served):
    assert served.send("unthrown").get(timeout=10) == "done"

    served.worker("-c", 1, "-n", "other", "-Q", "other")
    assert served.send("changed", 1).get(timeout=10) == [2, "other", 1]
    served.at_rest()


def test_without_a_limit_a_task_is_tried_for_ever(served):
    assert served.send("for_ever").get(timeout=20) == 30
    served.at_rest()


def test_retries_and_crashes_are_counted_apart(served):
    assert served.send("dies_then_retries").get(timeout=10) == [1, 2]
    served.at_rest()


def test_a_failure_that_was_announced_is_logged_in_one_line(served):
    for name in ("expected", "surprising"):
        served.until(served.send(name).ready)

    said = served.workers[0].said
    (line,) = [line for line in said.splitlines() if "as announced" in line]
    assert re.search(r"INFO +tasks\.expected\[\w+\] failed as expected: tasks\.Expected: as", line)
    assert said.count("Traceback") == 1
    assert re.search(r"ERROR +tasks\.surprising\[\w+\] failed", said)


def test_a_storm_of_retries_is_spread_and_ends(site):
    """Two hundred tasks that fail together: with jitter they do not come back together."""
    site.write(
        """
        @app.task(bind=True, autoretry_for=(OSError,), retry_backoff=2, max_retries=1)
        def storm(self, number):
            note(f"begin {number} {self.request.retries} {time.time():.3f}")
            raise OSError("no route")
        """
    )
    site.worker("-c", 2)
    began = time.time()
    results = site.send_many("storm", 200)
    site.until(lambda: all(each.ready() for each in results))

    assert set(site.states(results)) == {("FAILURE", "OSError")}
    again = [float(line.split()[3]) - began for line in site.notes() if line.split()[2] == "1"]
    assert len(again) == 200
    seconds = [int(moment) for moment in again]
    assert max(seconds.count(second) for second in set(seconds)) < 150
    site.at_rest()


@pytest.mark.parametrize(
    "flags", [["-c", "2"], ["-P", "gevent", "-c", "10"]], ids=["prefork", "gevent"]
)
def test_who_rejects_without_end_is_paused_and_runs_when_it_may(site, flags):
    """5 s: two seconds of it are watched, as a user would who waits for something."""
    site.write(
        """
        @app.task
        def stubborn(number):
            note(f"run {number} {time.monotonic()}")
            if not (HERE / "gate").exists():
                raise streamq.Reject(requeue=True)
            return number

        @app.task
        def quick():
            return "done"
        """
    )
    worker = site.worker(*flags)
    results = site.send_many("stubborn", 2)  # of three, more than 20 lines may fall in a second
    site.until(lambda: len(site.notes()) >= 2 * 7)  # the pauses have grown to 0.4 s
    began = float(site.notes()[0].split()[2])

    site.until(lambda: time.monotonic() > began + 2)

    assert len(site.notes()) <= 2 * 9
    assert site.send("quick").get(timeout=10) == "done"
    assert site.held() + site.redis.zcard("{streamq}:scheduled") == 2
    assert {result.state for result in results} == {"QUEUED"}
    (site.folder / "gate").touch()
    assert [result.get(timeout=10) for result in results] == [0, 1]
    assert worker.said.count("rejected; it goes back to its queue") == len(site.notes()) - 2
    site.at_rest()
