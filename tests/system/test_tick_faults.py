"""Schedules while workers are killed and Redis is away: each tick once, none missed in silence."""

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from streamq import every
from tests.system.faults import kill_host
from tests.ticks import History, Rule, Sent, faults_of

#: Seconds of the run; it takes so long because schedules of up to 7 s are to have several ticks.
SECONDS = 20
#: Seconds for which Redis is away.
OUTAGE = 0.2

#: Schedules of 1 to 7 s, of all kinds, into a queue that no worker reads.
TASKS = """
@app.task(queue="record")
def tick(): ...

rules = [
    {}, {"catch_up": "all"}, {"catch_up": "none"}, {"jitter": 0.3}, {"deadline": "300ms"},
]
for number in range(14):
    interval = 1 + number % 7
    when = streamq.every(interval) if number < 7 else streamq.cron(f"*/{interval} * * * * *")
    app.schedule(f"code{number}", tick, when, **rules[number % len(rules)])
"""


def rule_of(name):
    """What a schedule is to do, by its name: the numbers are those of TASKS."""
    number = int(name.removeprefix("code").removeprefix("api"))
    length = 1 + number % 7
    if name.startswith("code") and number >= 7:  # cron counts within each minute
        return Rule(
            name, lambda ms: ms % 1000 == 0 and ms // 1000 % 60 % length == 0, **more(number)
        )
    if name.startswith("code"):
        return Rule(name, lambda ms: ms % (1000 * length) == 0, **more(number))
    return Rule(name, lambda ms: ms % (1000 * length) == 0)


def more(number):
    """The rules of TASKS that the checker must know."""
    return {"jitter": 300 if number % 5 == 3 else 0, "deadline": number % 5 == 4}


def run_with_faults(site, proxy, workers, seconds):
    """Kill one of the workers every few seconds, and take Redis away now and then."""
    site.env |= {"STREAMQ_URL": proxy.url, "STREAMQ_LEASE": "2s"}
    site.write(TASKS)
    for number in range(6):
        site.app.schedules.add(f"api{number}", "tasks.tick", every(1 + number), queue="record")
    names = (f"w{number}" for number in range(10_000))
    living = [started(site, next(names)) for _ in range(workers)]
    begin = standing(site)
    chance, end, kills, outages = random.Random(), time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.5, 2.5))
        if chance.random() < 0.4:
            outages += 1
            proxy.stop()
            time.sleep(OUTAGE)
            proxy.start()
        else:
            kills += 1
            kill_host(living.pop(chance.randrange(len(living))))
            living.append(started(site, next(names)))
    for worker in living:
        kill_host(worker)
    return begin, kills, outages


def standing(site):
    """The next moment of each schedule, and how many it has missed, read in one act."""
    names = [name for name, _ in site.redis.zrange("{streamq}:schedules", 0, -1, withscores=True)]
    pipeline = site.redis.pipeline(transaction=True)
    for name in names:
        pipeline.zscore("{streamq}:schedules", name)
        pipeline.hget(f"{{streamq}}:schedule:{name}", "missed")
    found = pipeline.execute()
    moments, missed = map(int, found[::2]), (int(each or 0) for each in found[1::2])
    return dict(zip(names, zip(moments, missed, strict=True), strict=True))


def started(site, name):
    return site.worker("-c", 1, "-n", name, "-Q", "idle")


def histories(site, begin):
    """What became of each schedule, as Redis has it, since it stood so."""
    redis, sent, ended = site.redis, {}, standing(site)
    for entry, fields in redis.xrange("{streamq}:queue:record"):
        at = int(entry.partition("-")[0])
        each = Sent(fields["id"], int(fields["tick"]), int(fields.get("missed", 0)), at)
        sent.setdefault(fields["id"].rpartition("-")[0], []).append(each)
    now = site.app.schedules.store.now()
    return {
        name: History(
            sent=sent.get(name, ()),
            missed=missed - begin[name][1],
            due=due,
            ended=now,
            since=begin[name][0] // 1000 * 1000,  # without jitter
        )
        for name, (due, missed) in ended.items()
    }


def each_tick_is_sent_once(site, proxy, workers, seconds):
    begin, kills, outages = run_with_faults(site, proxy, workers, seconds)

    found = histories(site, begin)
    assert len(found) == 20
    assert [fault for name in found for fault in faults_of(rule_of(name), found[name])] == []
    ticks = sum(len(each.sent) for each in found.values())
    missed = sum(each.missed for each in found.values())
    late = sorted(
        each.at - each.moment
        for name, history in found.items()
        if not rule_of(name).jitter
        for each in history.sent
    )
    print(
        f"{workers} workers, {seconds} s: {kills} kills, {outages} outages, {ticks} ticks sent, "
        f"{missed} missed; late ms: median {late[len(late) // 2]}, "
        f"p99 {late[len(late) * 99 // 100]}, most {late[-1]}"
    )
    assert missed <= ticks / 20, "an outage is short: most moments are sent"


@pytest.mark.timeout(120)
def test_each_tick_is_sent_once_whoever_dies(site, proxy):
    each_tick_is_sent_once(site, proxy, 3, SECONDS)


# At each point of a tick

HOOK = Path(__file__).with_name("tick_points")

#: The points of a tick, and whether a connection can break there.
POINTS = [("before", "kill"), ("sent", "kill"), ("answered", "kill"), ("noted", "kill")]
POINTS += [("sent", "drop"), ("answered", "drop")]


def test_each_tick_is_sent_once_wherever_the_supervisor_dies(site):
    """Each of six points takes the second until the next tick, and the start of a worker."""
    site.env["PYTHONPATH"] += f"{os.pathsep}{HOOK}"
    site.env["STREAMQ_LEASE"] = "2s"
    site.write("@app.task\ndef tick(): ...")
    site.app.schedules.add("api0", "tasks.tick", every("1s"), queue="record")
    living = [started(site, name) for name in ("w0", "w1")]
    begin = standing(site)

    def sent():
        return len(histories(site, begin)["api0"].sent)

    for number, (point, how) in enumerate(POINTS):
        (site.folder / "struck").unlink(missing_ok=True)
        (site.folder / "arming").write_text(f"{point} {how}")
        (site.folder / "arming").rename(site.folder / "arm")
        site.until((site.folder / "struck").exists, f"a supervisor comes to {point}")
        if how == "kill":
            living = [worker for worker in living if not has_died(worker)]
            living.append(started(site, f"x{number}"))
    ticks = sent()
    site.until(lambda: sent() > ticks, "one more")
    assert len([worker for worker in site.workers if has_died(worker)]) == 4
    for worker in living:
        kill_host(worker)

    history = histories(site, begin)["api0"]
    assert faults_of(rule_of("api0"), history) == []
    assert history.missed == 0


def has_died(worker):
    """Whether this is the worker that dies now."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(0.3)
    return worker.process.poll() is not None
