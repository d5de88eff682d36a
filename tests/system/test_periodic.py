"""Schedules by real workers: what a tick's task is told, unknown tasks, two versions, two apps."""

import itertools
import json
from datetime import UTC, datetime

import pytest

from streamq import every
from streamq.admin.dead_letters import DeadLetters
from tests.system.faults import LEASE, kill_host, letters

DAY = 86_400_000

TASKS = """
def told(word, number=0):
    request = streamq.current_task().request
    moment = request.scheduled_for.timestamp() * 1000
    note(f"{word} {number} {os.getpid()} {moment:.0f} {request.missed}")

@app.task(bind=True, max_retries=5)
def again(self):
    told("again", self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0.05 * self.request.retries)

@app.task
def hold():
    told("begin")
    while not (HERE / "go").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def late(site):
    """Add a schedule that was due three days ago; its last moment, in ms, and its id."""
    site.env["STREAMQ_LEASE"] = f"{LEASE:g}s"
    site.write(TASKS)

    def late(task):
        site.app.schedules.add("nightly", task, every("24h"))
        moment = site.app.schedules.store.now() // DAY * DAY
        site.redis.zadd("{streamq}:schedules", {"nightly": moment - 3 * DAY})
        return moment, f"nightly-{datetime.fromtimestamp(moment / 1000, UTC):%Y%m%dT%H%M%S}Z"

    return late


def begun(site):
    """The process of each run that has begun."""
    return [int(line.split()[2]) for line in site.notes() if line.startswith("begin")]


def told(site, word):
    """What runs were told of their moment and of those that were missed."""
    lines = [line.split() for line in site.notes()]
    return [(int(moment), int(missed)) for kind, _, _, moment, missed in lines if kind == word]


def test_the_moment_of_a_tick_stays_after_retries(site, late):
    moment, id = late("tasks.again")
    site.worker("-c", 1)

    site.until(lambda: site.app.result(id).state == "SUCCESS", "it has been retried twice")

    assert told(site, "again") == [(moment, 3)] * 3


def test_the_moment_of_a_tick_stays_after_a_recovery(site, late):
    """A host dies while it runs the task of a tick; that takes a lease."""
    moment, id = late("tasks.hold")
    doomed = site.worker("-c", 1, "-n", "doomed")
    site.until(lambda: begun(site), "it runs")
    other = site.worker("-c", 1, "-n", "other")

    kill_host(doomed)
    site.until(lambda: len(begun(site)) == 2, "it runs again")
    (site.folder / "go").touch()
    site.until(lambda: site.app.result(id).state == "SUCCESS")

    assert begun(site)[1] in other.runners()
    assert told(site, "begin") == [(moment, 3)] * 2


def test_a_tick_whose_task_no_worker_knows_waits_for_one_that_does(site, late):
    site.env["STREAMQ_UNKNOWN_TASK_PATIENCE"] = "20s"
    moment, id = late("later.hold")
    worker = site.worker("-c", 1)
    site.until(lambda: "no such task here; offered again" in worker.said, "it is unknown")
    (site.folder / "go").touch()
    site.write(TASKS, name="later")

    site.worker("-c", 1, "-n", "new", app="later")

    site.until(lambda: site.app.result(id).state == "SUCCESS")
    assert told(site, "begin") == [(moment, 3)]
    assert letters(site) == []


def test_a_tick_whose_task_stays_unknown_is_a_dead_letter_and_can_be_replayed(site, late):
    moment, id = late("later.hold")
    site.worker("-c", 1)
    site.until(lambda: letters(site) == [id], "patience has ended")
    assert site.app.result(id).state == "FAILURE"
    (site.folder / "go").touch()
    site.write(TASKS, name="later")
    site.worker("-c", 1, "-n", "new", app="later")

    broker = site.app.broker
    retried = DeadLetters(broker.client, broker.keys).retry("default", [id.encode()])
    assert retried.waiting == 1

    site.until(lambda: site.app.result(id).state == "SUCCESS")
    assert told(site, "begin") == [(moment, 3)]


# Two versions of the code, and two apps

#: Whoever runs the task notes the version that has sent it.
VERSION = """
@app.task
def tick(version):
    request = streamq.current_task().request
    note(f"{{version}} {{request.scheduled_for.timestamp():.0f}} {{request.missed}}")

when = streamq.cron("{cron} * * * * *")
app.schedule("{name}", tick, when, ("{version}",), queue="{queue}", catch_up="all")
"""
#: Both are for each second; the texts differ.
OLD = VERSION.format(name="tick", cron="*", version="old", queue="default")
NEW = VERSION.format(name="tick", cron="0-59", version="new", queue="default")


def seconds_of(site):
    """The second of each tick that was sent, in their order, and the version that sent it."""
    found = [line.split() for line in site.notes()]
    assert {missed for *_, missed in found} <= {"0"}
    return sorted((int(second), version) for version, second, _ in found)


def ticks_of(site, version, count):
    """Wait until this version has sent so many more."""
    before = site.notes()
    mark = len([line for line in before if line.startswith(version)])
    site.until(
        lambda: len([line for line in site.notes() if line.startswith(version)]) >= mark + count,
        f"{count} ticks of the {version} version",
    )


def started(site, code, name):
    site.write(code)
    return site.worker("-c", 1, "-n", name)


def test_two_versions_in_rolling_turns_send_each_moment_once(site):
    """A second or two for each turn: the old one, the new one beside it and alone, and so on."""
    old = started(site, OLD, "one")
    ticks_of(site, "old", 1)
    new = started(site, NEW, "two")
    ticks_of(site, "new", 1)
    assert old.stop() == 0
    ticks_of(site, "new", 1)
    late = started(site, OLD, "three")
    ticks_of(site, "old", 1)
    again = started(site, NEW, "four")
    ticks_of(site, "new", 1)

    found = seconds_of(site)
    seconds = [second for second, _ in found]
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    turns = [version for version, _ in itertools.groupby(version for _, version in found)]
    assert turns == ["old", "new", "old", "new"]
    assert "cron('0-59 * * * * *') replaces cron('* * * * * *')" in new.said
    assert "older version" not in new.said
    for worker, words in (
        (late, "cron('* * * * * *') replaces cron('0-59 * * * * *'), which had replaced it"),
        (again, "cron('0-59 * * * * *') replaces cron('* * * * * *'), which had replaced it"),
    ):
        assert words in worker.said


def test_two_apps_in_one_namespace_fire_their_own(site):
    for name in ("shop", "blog"):
        site.write(VERSION.format(name=name, cron="*", version=name, queue=name), name=name)
        site.worker("-c", 1, "-n", name, "-Q", name, app=name)
    ticks_of(site, "shop", 2)
    ticks_of(site, "blog", 1)

    for name in ("shop", "blog"):
        seconds = [second for second, version in seconds_of(site) if version == name]
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    shown = site.python("from streamq.cli import main; main.main(['schedules', 'ls', '--json'])")
    out, _ = shown.communicate(timeout=30)
    assert sorted(each["name"] for each in json.loads(out)) == ["blog", "shop"]
