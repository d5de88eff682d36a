"""The network fails between Redis and one worker of two."""

import time

import pytest

from tests.system.traffic import LEASE, TASKS, VIEW, begun, comes_to_rest, two_workers

PREFORK, GEVENT = ("-c", 3), ("-P", "gevent", "--processes", 1, "-c", 20)
POOLS = [
    pytest.param(PREFORK, id="prefork"),
    pytest.param(GEVENT, id="gevent"),
]


@pytest.fixture
def short(site):
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    return site


@pytest.mark.parametrize("flags", POOLS)
def test_a_worker_that_is_cut_off_is_fenced_and_its_result_is_nowhere(short, server, proxy, flags):
    one, other, (result,) = two_workers(short, flags, proxy.url, server.url)
    time.sleep(VIEW)

    proxy.blackhole()
    short.until(lambda: len(begun(short)) == 2, "it is run again", seconds=LEASE + 3)
    time.sleep(LEASE / 2)
    proxy.heal()
    short.until(lambda: "was fenced meanwhile; it stops" in one.said, "it is told")
    (short.folder / "go").touch()

    (_, loser), (_, winner) = begun(short)
    assert loser not in other.runners()
    assert result.get(timeout=10) == [0, winner]
    short.until(lambda: loser not in one.runners(), "the runner is replaced")
    other.stop()
    assert short.send("quick", 1).get(timeout=10) == 1
    assert len(begun(short)) == 2
    comes_to_rest(short)


def late_settlement(site, server, proxy):
    """A settlement arrives after another worker took the task over; the two pids, and the value."""
    one, _, (result,) = two_workers(site, PREFORK, proxy.url, server.url)
    time.sleep(VIEW)
    (_, loser) = begun(site)[0]
    proxy.hold()
    (site.folder / "go").touch()
    site.until(lambda: any("end" in line for line in site.notes()), "it has ended")
    (site.folder / "go").unlink()
    site.until(lambda: len(begun(site)) == 2, "it is run again", seconds=LEASE + 3)
    winner = begun(site)[1][1]

    proxy.heal()  # what was sent arrives now
    site.until(lambda: loser not in one.runners(), "who came too late has left")
    (site.folder / "go").touch()
    return loser, winner, result.get(timeout=10)[1]
