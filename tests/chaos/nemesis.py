"""The nemesis: injects faults, chosen at random from a seed, for random times.

Faults are actions on a schedule that one thread runs.  Each is recorded with what it explains: a
task may have to run again if its runner was killed, or if its worker could not keep its lease.
Faults of Redis, of single connections or of the clock explain no further run.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis as redis_py

from tests.chaos.deployment import ROOT, Deployment, Worker
from tests.chaos.schedule import Schedule
from tests.processes import hit
from tests.proxy import Proxy, sent_by

#: The weight with which each fault is chosen.
WEIGHTS: Mapping[str, float] = {
    "kill_runner": 10,
    "kill_supervisor": 4,
    "kill_family": 4,
    "freeze_runner": 5,
    "freeze_supervisor": 5,
    "freeze_family": 6,
    "stop_worker": 6,
    "kill_clients": 5,
    "flush_scripts": 5,
    "kill_server": 6,
    "freeze_server": 5,
    "cut_worker": 5,
    "slow_worker": 3,
    "reset_worker": 3,
    "drop_answers": 6,
    "fill_memory": 3,
    "shift_clock": 4,
    "recover_living": 2,
}
#: Faults of the server: at most one of them at a time.
OF_THE_SERVER = frozenset({"kill_server", "freeze_server", "fill_memory", "shift_clock"})
#: The share of faults that do not wait for the end of the one before.
AT_ONCE = 0.25
#: One of so many faults is followed by a time without faults.
QUIET_EVERY = 6
HOUR = 3600.0


class Nemesis:
    """The nemesis: chooses faults, injects them and repairs them."""

    def __init__(
        self,
        deployment: Deployment,
        seed: int,
        weights: Mapping[str, float] = WEIGHTS,
        *,
        calm: bool = True,
    ) -> None:
        self.deployment, self.lease, self.writer = deployment, deployment.lease, deployment.writer
        self.chance = random.Random(seed)
        self.weights = weights
        #: Whether there are times without faults, in which everything must recover.
        self.calm = calm
        self.schedule = Schedule()
        self.done: Counter[str] = Counter()
        #: Workers with a fault, and faults of the server, that are not over.
        self.busy: set[str] = set()
        self.chosen = 0
        self.last_tick = time.monotonic()

    def run(self, seconds: float) -> None:
        """Inject faults for so many seconds, then repair everything."""
        self.last_tick = time.monotonic()
        self.schedule.after(0.5, self.inject)
        self.schedule.after(0.0, self.tick)
        self.schedule.run(time.monotonic() + seconds)
        self.weights = {}
        self.schedule.finish()
        self.repair()

    def tick(self) -> None:
        """Record a stall of the machine itself, which explains further runs of all workers."""
        now = time.monotonic()
        if now - self.last_tick > 0.4 * self.lease:
            self.note("stall", began=self.last_tick, explains="all")
        self.last_tick = now
        if self.weights:
            self.schedule.after(0.05, self.tick)

    def inject(self) -> None:
        """Inject one fault, and schedule the next one."""
        if not self.weights:
            return
        names = [name for name in self.weights if name not in self.busy]
        if self.busy & OF_THE_SERVER:
            names = [name for name in names if name not in OF_THE_SERVER]
        (name,) = self.chance.choices(names, [self.weights[each] for each in names])
        lasts = getattr(self, name)()
        self.chosen += lasts is not None
        pause = self.chance.uniform(0.3, 1.0)
        if self.calm and self.chosen % QUIET_EVERY == 0:
            pause += 2 * self.lease
        if self.chance.random() > AT_ONCE:
            pause += lasts or 0.0
        self.last_tick = time.monotonic()  # the time of the fault itself is no stall
        self.schedule.after(pause, self.inject)

    def note(
        self,
        fault: str,
        *,
        began: float,
        explains: str = "nothing",
        worker: str = "",
        pids: list[int] | None = None,
        **more: Any,
    ) -> None:
        """Record a fault that is over."""
        self.done[fault] += 1
        self.writer.note(
            "fault", fault=fault, began=began, explains=explains, worker=worker, pids=pids, **more
        )

    # Workers

    def victim(self, proxied: bool = False) -> Worker | None:
        """A random worker that is up and has no fault now, or None."""
        fit = [
            worker
            for worker in self.deployment.workers
            if worker.up and worker.name not in self.busy and worker.baseline
            if not proxied or worker.proxy is not None
        ]
        return self.chance.choice(fit) if fit else None

    @contextmanager
    def recorded_kill(self, fault: str, worker: Worker, pids: list[int] | None) -> Iterator[None]:
        """Record the kill in the block, and restart the worker if it has ended."""
        began, who = time.monotonic(), worker.who
        self.busy.add(worker.name)
        yield
        self.note(fault, began=began, explains="runs", worker=who, pids=pids)
        self.schedule.after(self.chance.uniform(0.05, 0.5), lambda: self.restart(worker))

    def restart(self, worker: Worker) -> None:
        """Start a worker that has ended; it may be chosen again when it is ready."""
        if not worker.up:
            worker.start()
        self.await_ready(worker)

    def await_ready(self, worker: Worker) -> None:
        """Let a worker be chosen again as soon as it is ready.

        A worker that could not reach Redis when it started has ended; it is restarted, as an
        init system would.
        """
        try:
            ready = worker.ready()
        except redis_py.RedisError:
            ready = False
        if ready or not self.weights:
            self.busy.discard(worker.name)
        elif worker.found_no_redis:
            self.schedule.after(0.3, lambda: self.restart(worker))
        else:
            self.schedule.after(0.1, lambda: self.await_ready(worker))

    def kill_runner(self) -> float | None:
        if (worker := self.victim()) is None or not (runners := worker.runners):
            return None
        pid = self.chance.choice(runners)
        with self.recorded_kill("kill_runner", worker, [pid]):
            hit([pid], signal.SIGKILL)
        return 0.0

    def kill_supervisor(self) -> float | None:
        if (worker := self.victim()) is None:
            return None
        with self.recorded_kill("kill_supervisor", worker, None):
            hit([worker.pid], signal.SIGKILL)
            assert worker.process is not None
            worker.process.wait(timeout=10)
        return 0.0

    def kill_family(self) -> float | None:
        if (worker := self.victim()) is None:
            return None
        with self.recorded_kill("kill_family", worker, None):
            hit(worker.family, signal.SIGKILL)
            assert worker.process is not None
            worker.process.wait(timeout=10)
        return 0.0

    def freeze(self, fault: str, worker: Worker, pids: list[int], explains: str) -> float:
        """Stop processes by SIGSTOP; return for how many seconds."""
        began, who, lasts = time.monotonic(), worker.who, self.some_leases()
        self.busy.add(worker.name)
        hit(pids, signal.SIGSTOP)

        def thaw() -> None:
            hit(pids, signal.SIGCONT)
            self.note(fault, began=began, explains=explains, worker=who)
            self.schedule.after(0.3, lambda: self.restart(worker))

        self.schedule.after(lasts, thaw)
        return lasts

    def some_leases(self) -> float:
        return self.chance.uniform(0.3, 2.5) * self.lease

    def freeze_runner(self) -> float | None:
        """Freeze one runner; its supervisor renews the lease, so no other worker takes over."""
        if (worker := self.victim()) is None or not (runners := worker.runners):
            return None
        pid = self.chance.choice(runners)
        return self.freeze("freeze_runner", worker, [pid], "nothing")

    def freeze_supervisor(self) -> float | None:
        if (worker := self.victim()) is None:
            return None
        return self.freeze("freeze_supervisor", worker, [worker.pid], "runs")

    def freeze_family(self) -> float | None:
        if (worker := self.victim()) is None:
            return None
        return self.freeze("freeze_family", worker, worker.family, "runs")

    def stop_worker(self) -> float | None:
        """End a worker by SIGTERM; a task that runs longer than its shutdown timeout is stopped."""
        if (worker := self.victim()) is None:
            return None
        began, who = time.monotonic(), worker.who
        self.busy.add(worker.name)
        hit([worker.pid], signal.SIGTERM)

        def look() -> None:
            late = time.monotonic() - began > 4 * self.lease + 15
            if worker.up and not late:
                self.schedule.after(0.1, look)
                return
            assert worker.process is not None
            code = worker.process.poll()
            self.note("stop_worker", began=began, explains="runs", worker=who, code=code)
            hit(worker.family, signal.SIGKILL)
            self.restart(worker)

        self.schedule.after(0.1, look)
        return 1.0

    def recover_living(self) -> float | None:
        """Declare a living runner dead, then give its consumer a lease again.

        The same happens when Redis fails over to a replica that lacks only the last writes.
        """
        leases = [name for name, _ in self.deployment.redis.zscan_iter(f"{ROOT}:leases")]
        if (worker := self.victim()) is None or not (runners := worker.runners):
            return None
        ours = {int(name.rsplit(":", 2)[-2]): name for name in leases}
        pid = self.chance.choice(runners)
        if pid not in ours:
            return None
        began, who = time.monotonic(), worker.who
        self.declare_dead(ours[pid])
        self.note("recover_living", began=began, explains="runs", worker=who, pids=[pid])
        return 0.0

    def declare_dead(self, consumer: str) -> None:
        """Recover the consumer as a supervisor would, and register it again, in one transaction."""
        day, most = 86_400_000, 10_000
        bounds = (3, day, most, 30 * day, 10_000)
        self.deployment.together(
            ("recover", consumer, "", "", 0, "declared dead", "none", *bounds, 0),
            ("register", int(self.lease * 1000), consumer),
        )

    # Redis

    def kill_clients(self) -> float:
        began = time.monotonic()
        self.deployment.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.note("kill_clients", began=began)
        return 0.0

    def flush_scripts(self) -> float:
        began = time.monotonic()
        self.deployment.redis.script_flush()
        self.note("flush_scripts", began=began)
        return 0.0

    def kill_server(self) -> float:
        began = time.monotonic()
        self.deployment.server.stop(signal.SIGKILL)
        moment, long = self.chance.uniform(0.0, 0.5), self.chance.uniform(1.2, 2.0) * self.lease
        time.sleep(self.chance.choice([moment, long]))
        self.deployment.server.start()
        self.note("kill_server", began=began, outage=True)
        return 0.0

    def freeze_server(self) -> float:
        began, lasts = time.monotonic(), self.chance.uniform(0.2, 2.0) * self.lease
        hit([self.deployment.server.pid], signal.SIGSTOP)
        time.sleep(lasts)  # a frozen server answers nothing: no other fault is possible
        hit([self.deployment.server.pid], signal.SIGCONT)
        self.note("freeze_server", began=began, outage=True)
        return 0.0

    def fill_memory(self) -> float:
        began = time.monotonic()
        self.busy.add("fill_memory")
        self.deployment.redis.config_set("maxmemory", 1)

        def end() -> None:
            self.deployment.redis.config_set("maxmemory", 0)
            self.busy.discard("fill_memory")
            self.note("fill_memory", began=began, outage=True)

        self.schedule.after(1.0, end)
        return 1.0

    def shift_clock(self) -> float:
        """Shift the clock by an hour forward or back, and back again after a while."""
        began, lasts = time.monotonic(), self.chance.uniform(0.5, 2.0) * self.lease
        self.busy.add("shift_clock")
        hours = self.chance.choice([-1, 1])
        self.deployment.shift(hours * HOUR)

        def end() -> None:
            self.deployment.shift(0)
            self.busy.discard("shift_clock")
            self.note("shift_clock", began=began, hours=hours)

        self.schedule.after(lasts, end)
        return lasts

    # The network between one worker, or one producer, and the server

    def cut_worker(self) -> float | None:
        if (worker := self.victim(proxied=True)) is None or (proxy := worker.proxy) is None:
            return None
        how = self.chance.choice(["blackhole", "hold", "refuse"])
        getattr(proxy, how)()
        if how == "refuse":
            proxy.reset()
        return self.until_healed("cut_worker", worker, proxy, self.some_leases(), "runs")

    def slow_worker(self) -> float | None:
        if (worker := self.victim(proxied=True)) is None or (proxy := worker.proxy) is None:
            return None
        proxy.delay(self.chance.uniform(0.02, 0.06) * self.lease)
        return self.until_healed("slow_worker", worker, proxy, self.lease, "nothing")

    def until_healed(
        self, fault: str, worker: Worker, proxy: Proxy, lasts: float, explains: str
    ) -> float:
        began, who = time.monotonic(), worker.who
        self.busy.add(worker.name)

        def heal() -> None:
            proxy.heal()
            self.note(fault, began=began, explains=explains, worker=who)
            self.schedule.after(0.3, lambda: self.restart(worker))

        self.schedule.after(lasts, heal)
        return lasts

    def reset_worker(self) -> float | None:
        if (worker := self.victim(proxied=True)) is None or worker.proxy is None:
            return None
        began = time.monotonic()
        worker.proxy.reset()
        self.note("reset_worker", began=began, worker=worker.who)
        return 0.0

    def drop_answers(self) -> float | None:
        """Drop the next answers to a producer's calls, or to a runner's calls or reads."""
        began, times = time.monotonic(), self.chance.choice([1, 1, 2, 3])
        what = self.chance.choice(["calls of a producer", "EVALSHA", "XREADGROUP"])
        worker = self.victim(proxied=True)
        if what == "calls of a producer":
            self.deployment.proxy.drop_reply("EVALSHA", times=times)
        elif worker is None or worker.proxy is None:
            return None
        else:  # a runner with greenlets has another connection for reading
            worker.proxy.drop_reply(sent_by("streamq:r", what), times=times)
        self.note("drop_answers", began=began, of=what)
        return 0.0

    # The end

    def repair(self) -> None:
        """End all faults, and start the workers that have ended."""
        for proxy in self.deployment.proxies():
            proxy.heal()
        for worker in self.deployment.workers:
            hit(worker.family, signal.SIGCONT)
            if not worker.up:
                if worker.baseline and worker.name not in self.busy:
                    self.writer.note("complaint", says=f"{worker.who} has ended by itself")
                worker.start()
