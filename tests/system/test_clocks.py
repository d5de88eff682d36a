"""Clocks that are wrong: the server's jumps by an hour under load, those of the others are off."""

import os
import signal
import time
from itertools import pairwise

import pytest

from tests.system.faults import kill_host
from tests.system.traffic import (
    LEASE,
    TASKS,
    VIEW,
    begun,
    hold_on,
    runs_through,
    two_workers,
)

HOUR_MS = 3_600_000
FLAGS = ("-c", 3)


@pytest.fixture
def shifted(site):
    """A site whose scripts add what the key ``shift`` holds to the server's time."""
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)
    site.changed_package(
        "includes/clock.lua",
        "math.floor(tonumber(time[2]) / 1000)",
        "math.floor(tonumber(time[2]) / 1000) + (tonumber(redis.call('GET', 'shift')) or 0)",
    )
    return site


def jump(site, hours):
    site.redis.set("shift", int(hours * HOUR_MS), ex=600)


# The server's clock jumps


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "back"])
def test_a_jump_of_the_servers_clock_takes_nothing_from_the_living(shifted, server, hours):
    runs_through(shifted, FLAGS, [server.url], lambda: jump(shifted, hours))


def test_a_jump_takes_nothing_from_a_longer_lease(shifted):
    """Its deadline is past by then, and it renews it in a third of its lease only."""
    shifted.env["STREAMQ_LEASE"] = "60s"
    patient = shifted.worker("-c", 1, "-n", "patient")
    (held,) = hold_on(shifted, patient, 0)
    shifted.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    hasty = shifted.worker("-c", 1, "-n", "hasty")
    time.sleep(VIEW)

    jump(shifted, 1)
    time.sleep(2 * VIEW)

    (shifted.folder / "go").touch()
    assert held.get(timeout=10) == list(begun(shifted)[0])
    assert len(begun(shifted)) == 1
    assert "is dead" not in hasty.said


def dies_as_the_clock_jumps_back(site, server):
    """A worker dies and the clock jumps back; nobody has seen its last renewal.

    Returns the seconds until its task runs again, on the other worker.
    """
    one, other, _ = two_workers(site, FLAGS, server.url)
    time.sleep(VIEW)
    leases = site.redis.zrange("{streamq}:leases", 0, -1, withscores=True)
    runner = begun(site)[0][1]
    before = dict(leases)[name := next(name for name, _ in leases if f":{runner}:" in name)]
    os.kill(other.pid, signal.SIGSTOP)
    site.until(lambda: site.redis.zscore("{streamq}:leases", name) > before, "it is renewed")
    kill_host(one)
    jump(site, -1)
    os.kill(other.pid, signal.SIGCONT)
    died = time.monotonic()
    site.until(lambda: len(begun(site)) == 2, "it runs again", seconds=5 * LEASE)
    return time.monotonic() - died


def test_the_dead_are_found_though_the_clock_has_jumped_back(shifted, server):
    assert dies_as_the_clock_jumps_back(shifted, server) < 3 * LEASE + 1


# The clocks of producers and workers are wrong

WRONG = """
import os, time

right = time.time
time.time = lambda: right() + float(os.environ.get("SHIFT", 0))
time.time_ns = lambda: int(time.time() * 1e9)
from streamq.host import clock  # which has functions of its own

clock.time, clock.time_ns = time.time, time.time_ns
"""

TIMED = """
@app.task
def when():
    note(f"when 0 {os.getpid()} {time.monotonic():.3f}")
    return time.time()
"""

PRODUCER = """
    import time
    from tasks import when

    print(time.time(), time.monotonic())
    soon = when.options(countdown=1.0, expires=30).enqueue()
    late = when.options(countdown=1.0, expires=0.5).enqueue()
    print(soon.get(timeout=20))
    print(late.id)
"""


def started_with(site, seconds, start):
    """Start something whose clock is wrong by so much."""
    wrong = f"{site.folder}/wrong:"
    path = site.env["PYTHONPATH"].removeprefix(wrong)
    site.env |= {"SHIFT": str(seconds), "PYTHONPATH": wrong + path}
    return start()


def wrong_clocks(site):
    """Let processes of this site have clocks that are wrong by ``SHIFT`` seconds."""
    (site.folder / "wrong").mkdir()
    (site.folder / "wrong" / "sitecustomize.py").write_text(WRONG)


@pytest.mark.parametrize(
    ("producers", "workers"), [(3600, -3600), (-3600, 3600)], ids=["ahead", "behind"]
)
def test_wrong_clocks_of_producers_and_workers_change_nothing(site, server, producers, workers):
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS + TIMED)
    wrong_clocks(site)
    started_with(site, 0, lambda: site.worker("-c", 2, "-n", "right"))
    holds = [site.send("hold", number) for number in range(2)]
    site.until(lambda: len(begun(site)) == 2)
    wrong = started_with(site, workers, lambda: site.worker("-c", 2, "-n", "wrong"))

    producer = started_with(site, producers, lambda: site.python(PRODUCER))
    out, err = producer.communicate(timeout=30)

    assert err == b"", err.decode()
    said, sent, ran_at, late = out.decode().split()
    assert float(said) == pytest.approx(time.time() + producers, abs=60), "it is as wrong as said"
    assert float(ran_at) == pytest.approx(time.time() + workers, abs=60), "so is the worker"
    ran = [float(line.split()[3]) for line in site.notes() if "when" in line]
    assert len(ran) == 1
    assert 1.0 <= ran[0] - float(sent) < 3.0
    site.until(lambda: site.redis.hget(f"{{streamq}}:task:{late}", "state") == "REVOKED")
    time.sleep(VIEW)
    (site.folder / "go").touch()
    assert [each.get(timeout=10)[0] for each in holds] == [0, 1]
    assert len(begun(site)) == 2
    assert "is dead" not in wrong.said
    site.at_rest()


# Schedules: the server's clock says when

TICKING = """
@app.every("200ms", name="tick", catch_up="all")
def tick():
    request = streamq.current_task().request
    real = time.clock_gettime(time.CLOCK_REALTIME)
    moment = request.scheduled_for.timestamp()
    note(f"tick {moment * 1000:.0f} {real - moment:.3f} {request.missed} {time.time() - real:.0f}")
"""


def ticks_with(site, *shifts):
    """The ticks that workers send whose clocks are wrong by these seconds."""
    site.write(TICKING)
    wrong_clocks(site)
    for number, shift in enumerate(shifts):
        started_with(site, shift, lambda name=f"w{number}": site.worker("-c", 1, "-n", name))
    site.until(lambda: len(site.notes()) >= 8, "ticks are sent", seconds=10)
    return [line.split()[1:] for line in site.notes()]


def on_time_and_once(ticks):
    """Check that these ticks are right by the server's clock, which is that of the machine."""
    moments = sorted(int(moment) for moment, *_ in ticks)
    assert moments == [moments[0] + 200 * number for number in range(len(moments))]
    assert all(0 <= float(late) < 2 for _, late, *_ in ticks)
    assert {missed for *_, missed, _ in ticks} == {"0"}


@pytest.mark.parametrize(
    "shifts", [[3600], [-3600], [3600, -3600]], ids=["ahead", "behind", "one of each"]
)
def test_wrong_clocks_of_workers_move_no_schedule(site, shifts):
    """Eight ticks are to be seen, one each fifth of a second."""
    ticks = ticks_with(site, *shifts)

    on_time_and_once(ticks)
    assert {int(wrong) for *_, wrong in ticks} <= set(shifts), "they are as wrong as said"


def ticks_of(site):
    """The moment of each tick, and how many were missed before it."""
    return [(int(moment), int(missed)) for _, moment, _, missed, _ in map(str.split, site.notes())]


def jumps_while_ticking(site, hours):
    """Two workers send ticks; the server's clock jumps, and is right again after a while."""
    site.write(TICKING.replace(', catch_up="all"', ""))
    for name in ("one", "other"):
        site.worker("-c", 1, "-n", name)
    site.until(lambda: len(ticks_of(site)) >= 3, "ticks are sent")
    jump(site, hours)


def test_a_jump_ahead_of_the_servers_clock_is_one_tick_for_an_hour(shifted):
    jumps_while_ticking(shifted, 1)

    shifted.until(lambda: max(missed for _, missed in ticks_of(shifted)) > 0, "it was noticed")
    seen = len(ticks_of(shifted))
    shifted.until(lambda: len(ticks_of(shifted)) >= seen + 3, "ticks go on")

    found = ticks_of(shifted)
    moments = [moment for moment, _ in found]
    assert moments == sorted(set(moments))
    (skip,) = [
        later - moment for moment, later in pairwise(moments) if later - moment > HOUR_MS / 2
    ]
    assert skip == pytest.approx(HOUR_MS, abs=5000)


def test_when_the_servers_clock_was_back_for_a_while_no_tick_is_doubled_or_lost(shifted):
    """For that while no moment is due: all of it have been before."""
    jumps_while_ticking(shifted, -1)
    time.sleep(LEASE)
    seen = len(ticks_of(shifted))
    time.sleep(LEASE)
    assert len(ticks_of(shifted)) == seen

    jump(shifted, 0)
    shifted.until(lambda: len(ticks_of(shifted)) >= seen + 3, "ticks go on", seconds=5)

    found = ticks_of(shifted)
    moments = [moment for moment, _ in found]
    assert moments == sorted(set(moments))
    missed = sum(missed for _, missed in found)
    assert (moments[-1] - moments[0]) / 200 == len(moments) - 1 + missed
