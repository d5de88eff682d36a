"""A minute of workers that start, stop and die, with three versions of one schedule."""

import random
import time
from collections import Counter

import pytest

from tests.system.faults import LEASE, kill_host
from tests.system.test_periodic import VERSION

SECONDS, INTERVAL = 60, 200
CODE = VERSION.replace("timestamp():.0f", "timestamp() * 1000:.0f").replace(
    'streamq.cron("{cron} * * * * *")', 'streamq.every("{cron}")'
)


@pytest.mark.timeout(180)
def test_each_tick_is_sent_once_whoever_starts_and_dies(site):
    """A declaration that forgets what is due loses about ten of three hundred."""
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    chance, living, end = random.Random(), [], time.monotonic() + SECONDS
    while time.monotonic() < end:
        version = chance.choice(["one", "two", "three"])
        site.write(CODE.format(name="tick", cron=f"{INTERVAL}ms", version=version, queue="default"))
        living.append(site.worker("-c", 1, "-n", f"w{len(site.workers)}"))
        time.sleep(1.2 * chance.random())
        while len(living) > 2 or (living and chance.random() < 0.2):
            worker = living.pop(chance.randrange(len(living)))
            if chance.random() < 0.5:
                kill_host(worker)
            else:
                worker.stop()
    site.worker("-c", 1, "-n", "last")
    last = site.app.schedules.store.now()

    def moments():
        return Counter(int(line.split()[1]) for line in site.notes())

    site.until(lambda: max(moments(), default=0) > last + 1000, "ticks go on")
    site.until(lambda: site.pending() == 0, "what the dead had runs again")
    found = sorted(moment for moment in moments() if moment <= last)
    assert found == list(range(found[0], last + 1, INTERVAL))
    runs = sum(count - 1 for count in moments().values())
    assert runs <= len(site.workers), "only what died while it ran runs again"
