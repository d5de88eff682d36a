"""Every single point of a fixed scenario: the runner dies there, or its connection breaks."""

import os
from collections import Counter
from pathlib import Path

TASKS = """
@app.task
def late(number):
    note(f"late {number}")
    return number + 1

@app.task(acks_late=False)
def early(number):
    note(f"early {number}")
    return number + 2

@app.task(bind=True, max_retries=1, default_retry_delay=0.02)
def retried(self, number):
    note(f"retried {number}")
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("once more"))
    return number + 3

@app.task
def delayed(number):
    note(f"delayed {number}")
    return number + 4

@app.task
def failing(number):
    note(f"failing {number}")
    raise LookupError(number)
"""

HOOK = Path(__file__).with_name("crash_points")

#: More points than the scenario has: the enumeration ends when one is not reached.
MOST = 400


class Scenario:
    """Five tasks, again and again on one worker, each time with one point that strikes."""

    def __init__(self, site):
        self.site = site
        site.write(TASKS)
        site.env["PYTHONPATH"] += f"{os.pathsep}{HOOK}"
        site.env["STREAMQ_LEASE"] = "2s"
        self.worker = site.worker("-c", 1)
        self.run(0)

    def run(self, number):
        """Send one task of each kind, and wait until all have ended."""
        site = self.site
        self.sent = {
            "late": site.send("late", number),
            "early": site.send("early", number),
            "retried": site.send("retried", number),
            "delayed": site.send("delayed", number, countdown=0.03),
            "failing": site.send("failing", number),
        }
        site.until(
            lambda: all(result.ready() for result in self.sent.values()),
            f"all tasks of round {number} end",
            seconds=10,
        )

    def strike(self, number, how):
        """Run it with a break at this point; False if there is no such point."""
        folder = self.site.folder
        (folder / "struck").unlink(missing_ok=True)
        (folder / "arming").write_text(f"{number} {how}")
        (folder / "arming").rename(folder / "arm")
        self.run(number)
        self.check(number)
        return (folder / "struck").exists()

    def check(self, number):
        """The promises: late at least once and with its result, early at most once."""
        runs = Counter(line for line in self.site.notes() if line.endswith(f" {number}"))
        states = dict(zip(self.sent, self.site.states(list(self.sent.values())), strict=True))
        for name, more in (("late", 1), ("retried", 3), ("delayed", 4)):
            assert states[name] == ("SUCCESS", None), f"lost: {name} {number} is {states[name]}"
            assert self.sent[name].get(timeout=1) == number + more
            assert runs[f"{name} {number}"] >= (2 if name == "retried" else 1)
        assert states["failing"] == ("FAILURE", "LookupError"), f"lost: failing {number}"
        assert runs[f"early {number}"] <= 1
        assert states["early"] in [
            ("SUCCESS", None),
            ("FAILURE", "streamq.errors.WorkerLost"),
        ], f"lost: early {number} is {states['early']}"
        if states["early"][0] == "SUCCESS":
            assert runs[f"early {number}"] == 1
        site = self.site
        site.until(site.is_empty, f"nothing is left of round {number}", seconds=5)
        site.until(lambda: not site.redis.keys("{streamq}:started:*"), "nothing is started")
        (site.folder / "notes").write_text("")

    def enumerate(self, how, *, first=1, step=1):
        """Strike at every ``step``-th point; the number of points that there are."""
        for number in range(first, MOST, step):
            if not self.strike(number, how):
                return number
        raise AssertionError("the scenario has no end")


def all_is_in_order(site, scenario):
    site.drained()
    site.at_rest()
    assert site.redis.keys("{streamq}:dead:*") == [], "lost: put aside as dead"
    assert scenario.worker.stop() == 0
