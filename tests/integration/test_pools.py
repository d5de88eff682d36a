"""What every pool does, each in a runner process of its own: a new pool is one line in POOLS."""

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest

from streamq.runner.config import RunnerConfig
from streamq.runner.shared_memory import SPARE, SharedMemory
from streamq.runner.signals import FINISH, STOP
from tests.edits import CHECKOUT
from tests.integration.pool_runner import add_tasks
from tests.processes import until
from tests.zygote import STREAMQ, Forked, Zygote

#: Each pool: what makes it, how many tasks it runs at a time, and the zygote of its process.
POOLS = {
    "solo": ("streamq.runner.pools.solo:make_solo", 1, STREAMQ),
    "gevent": ("streamq.runner.pools.gevent:make_gevent", 5, Zygote("streamq.runner.gevent_main")),
}


class RunnerOfTest:
    """One runner process, and what a supervisor would see of it."""

    def __init__(self, app, pool, folder, url, **options):
        maker, self.concurrency, zygote = POOLS[pool]
        slots = 1 if self.concurrency == 1 else self.concurrency + SPARE
        config = RunnerConfig(
            number=0,
            node="worker@test",
            token=secrets.token_hex(4),
            supervisor=0,
            url=url,
            sources=[("default", 0)],
            pool=pool,
            concurrency=self.concurrency,
            folder=str(folder),
            runners=1,
            slots=slots,
            flags={"namespace": app.conf.namespace},
            **{"burst": False, **options},
        )
        self.slots = SharedMemory(folder / "slots", 1, slots).of(0)
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = Forked(
                *(zygote, "tests.integration.pool_runner", [maker, config.write()]),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log},
            )
        self.consumer = config.consumer(self.process.pid)

    def stop(self):
        """Ask it to take no more messages."""
        self.process.send_signal(FINISH)

    def wait(self):
        """Wait until it has ended, by itself."""
        assert self.process.wait(10) == 0, self.log.read_text()
        assert self.slots.exit_kind, "it says how it ends"

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)


class Place:
    """An app, the runners that serve it, and what Redis has of it."""

    def __init__(self, app, pool, folder, redis):
        self.app, self.pool, self.folder, self.redis = app, pool, folder, redis
        self.runners = []
        add_tasks(app, folder)
        app.declare()

    def start(self, *, url=None, **options):
        """Start a runner with the pool of this test; return it."""
        runner = RunnerOfTest(self.app, self.pool, self.folder, url or self.app.url, **options)
        self.runners.append(runner)
        return runner

    def send(self, task, *args, **options):
        return self.app.tasks.tasks[task].options(**options).enqueue(*args)

    @property
    def notes(self):
        """What the tasks have noted."""
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def go(self):
        """Let the tasks that hold go on."""
        (self.folder / "go").touch()

    def key(self, stream="default"):
        return self.app.broker.keys.queue(stream)

    def waiting(self):
        """The numbers of the messages that are in the streams; none may be pending."""
        found = []
        for stream in ("default:returned", "default"):
            if self.redis.exists(self.key(stream)):
                assert self.pending(stream) == 0
                for _, fields in self.redis.xrange(self.key(stream)):
                    assert "crashes" not in fields
                    found.append(int(fields["args"].strip("[]")))
        return found

    def pending(self, stream="default"):
        return self.redis.xpending(self.key(stream), "workers")["pending"]

    def at_rest(self):
        """Whether nothing waits, and nothing is held or marked for recovery."""
        started = [self.app.broker.keys.started(each.consumer) for each in self.runners]
        return self.waiting() == [] and not self.redis.exists(*started)


@pytest.fixture(params=POOLS)
def place(request, make_app, tmp_path, redis):
    if request.param == "gevent":
        pytest.importorskip("gevent")
    place = Place(make_app(), request.param, Path(tmp_path), redis)
    yield place
    for runner in place.runners:
        runner.kill()


def begun(place, count):
    """Wait until so many tasks hold."""
    until(lambda: len(place.notes) == count, f"{count} tasks run")


@pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
def test_messages_are_read_run_and_settled(place, late):
    runner = place.start()

    results = [place.send("work", number, acks_late=late) for number in range(20)]

    assert [result.get(timeout=10) for result in results] == list(range(20))
    until(place.at_rest, "nothing is left")
    assert sorted(place.notes) == sorted(f"work {number}" for number in range(20))
    runner.stop()
    runner.wait()
    assert runner.slots.exited_cleanly
    assert runner.slots.ran == 20


def test_a_burst_ends_when_no_message_waits(place):
    results = [place.send("work", number) for number in range(30)]

    place.start(burst=True).wait()

    assert [result.state for result in results] == ["SUCCESS"] * 30
    assert place.at_rest()


def test_tasks_that_run_at_a_stop_end_and_others_stay(place):
    runner = place.start()
    results = [place.send("hold", number) for number in range(runner.concurrency + 3)]
    begun(place, runner.concurrency)

    runner.stop()
    place.go()
    runner.wait()

    assert len(place.notes) == runner.concurrency
    ended = [number for number, result in enumerate(results) if result.state == "SUCCESS"]
    assert [f"hold {number}" for number in ended] == sorted(place.notes)
    assert sorted(ended + place.waiting()) == list(range(runner.concurrency + 3))


@pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
def test_what_was_read_and_not_started_goes_back_at_a_stop(place, late):
    """Quick tasks teach the runner to read many at once; one among them stops it."""
    for number in range(150):
        place.send("work", number, acks_late=late)
    place.send("stop")
    for number in range(150, 300):
        place.send("work", number, acks_late=late)

    place.start().wait()

    ran = [int(words.split()[1]) for words in place.notes if words != "stop"]
    assert sorted(ran + place.waiting()) == list(range(300))
    assert len(ran) < 300
    if late:
        assert place.notes.index("stop") == len(place.notes) - 1, "nothing starts afterwards"


def test_a_fenced_pool_settles_nothing_and_ends(place):
    runner = place.start()
    result = place.send("hold", 1)
    begun(place, 1)

    assert place.redis.zrem(place.app.broker.keys.leases, runner.consumer)
    place.go()
    runner.wait()

    assert runner.slots.fenced
    assert place.pending() == 1
    assert result.state != "SUCCESS"


def test_work_goes_on_when_redis_is_back(place, proxy):
    runner = place.start(url=proxy.url)
    first = place.send("hold", 1)
    begun(place, 1)

    proxy.refuse()
    proxy.reset()
    second = place.send("work", 2)
    place.go()
    until(lambda: runner.slots.unreachable, "the supervisor is told")
    proxy.heal()

    assert [first.get(timeout=10), second.get(timeout=10)] == [1, 2]
    until(lambda: not runner.slots.unreachable, "the supervisor is told that it is over")
    until(place.at_rest, "nothing is left")


def test_a_soft_limit_is_raised_inside_of_the_task(place):
    place.start()

    assert place.send("too_long").get(timeout=10) == "limited"


def test_a_task_that_is_revoked_while_it_runs_ends(place):
    runner = place.start()
    result = place.send("hold", 1)
    begun(place, 1)

    time.sleep(0.1)  # a pool that has just looked at its limits looks again only if it is told
    (task,) = runner.slots.running()
    runner.slots.request_stop(task.slot, task.started)
    runner.process.send_signal(STOP)

    until(lambda: result.state == "REVOKED", "the task is revoked")
    assert place.send("work", 2).get(timeout=10) == 2


def test_a_rejected_message_runs_again_uncharged(place):
    place.start()

    assert place.send("picky").get(timeout=10) == "taken"
    assert place.notes == ["rejected"]
    until(place.at_rest, "nothing is left")


def test_a_message_from_quarantine_is_the_sole_task_while_it_runs(place):
    result = place.send("hold", 1)
    ((entry, fields),) = place.redis.xrange(place.key())
    quarantine = place.key("default:quarantine")
    place.redis.xgroup_create(quarantine, "workers", id="0", mkstream=True)
    moved = place.redis.xadd(quarantine, fields)
    place.redis.xdel(place.key(), entry)

    runner = place.start(quarantine=True, burst=True)
    begun(place, 1)

    started = place.app.broker.keys.started(runner.consumer)
    assert place.redis.hget(started, "sole_task") == f"default:quarantine {moved}"
    place.go()
    runner.wait()
    assert result.state == "SUCCESS"
    assert place.redis.xlen(quarantine) == 0
