"""The one who breaks things: which fault, when, for how long, by chance from a seed.

Faults are acts on an agenda, done by one thread.  Each is noted with what it explains: a
task may have to run again if its runner was killed, or if its worker could not keep its
lease.  What happens to Redis, to single connections or to its clock explains nothing.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis as redis_py

from tests.chaos.agenda import Agenda
from tests.chaos.stage import ROOT, Stage, Worker
from tests.processes import hit
from tests.proxy import Proxy, sent_by

#: How often each fault is chosen, by weight.
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
    "raise_the_dead": 2,
}
#: Faults during which nothing else happens to the server.
OF_THE_SERVER = frozenset({"kill_server", "freeze_server", "fill_memory", "shift_clock"})
#: The share of faults that do not wait until the one before is over.
AT_ONCE = 0.25
#: Of so many faults, one is followed by quiet.
QUIET_EVERY = 6
HOUR = 3600.0


class Nemesis:
    """Chooses faults and does them."""

    def __init__(
        self, stage: Stage, seed: int, weights: Mapping[str, float] = WEIGHTS, *, calm: bool = True
    ) -> None:
        self.stage, self.lease, self.pen = stage, stage.lease, stage.pen
        self.chance = random.Random(seed)
        self.weights = weights
        #: Whether there is quiet once in a while, in which everything must recover.
        self.calm = calm
        self.agenda = Agenda()
        self.done: Counter[str] = Counter()
        #: Workers to which something happens, and faults of the server that last.
        self.busy: set[str] = set()
        self.chosen = 0
        self.last_tick = time.monotonic()

    def torment(self, seconds: float) -> None:
        """Break things for so long, then mend everything."""
        self.last_tick = time.monotonic()
        self.agenda.after(0.5, self.strike)
        self.agenda.after(0.0, self.tick)
        self.agenda.run(time.monotonic() + seconds)
        self.weights = {}
        self.agenda.finish()
        self.mend()

    def tick(self) -> None:
        """Note when the machine itself stood still: that explains much."""
        now = time.monotonic()
        if now - self.last_tick > 0.4 * self.lease:
            self.note("stall", began=self.last_tick, explains="all")
        self.last_tick = now
        if self.weights:
            self.agenda.after(0.05, self.tick)

    def strike(self) -> None:
        """One fault, and the next one after a while."""
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
        self.last_tick = time.monotonic()  # what we did ourselves is no stall
        self.agenda.after(pause, self.strike)

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
        """Write down a fault that is over."""
        self.done[fault] += 1
        self.pen.note(
            "fault", fault=fault, began=began, explains=explains, worker=worker, pids=pids, **more
        )

    # Workers

    def victim(self, proxied: bool = False) -> Worker | None:
        """A worker that is up and to which nothing happens just now."""
        fit = [
            worker
            for worker in self.stage.workers
            if worker.up and worker.name not in self.busy and worker.baseline
            if not proxied or worker.proxy is not None
        ]
        return self.chance.choice(fit) if fit else None

    @contextmanager
    def ending(self, fault: str, worker: Worker, pids: list[int] | None) -> Iterator[None]:
        """Kill in here; it is noted, and the worker is started again if it needs that."""
        began, who = time.monotonic(), worker.who
        self.busy.add(worker.name)
        yield
        self.note(fault, began=began, explains="runs", worker=who, pids=pids)
        self.agenda.after(self.chance.uniform(0.05, 0.5), lambda: self.revive(worker))

    def revive(self, worker: Worker) -> None:
        """Start a worker that has ended, and let it be chosen again when it is ready."""
        if not worker.up:
            worker.start()
        self.await_ready(worker)

    def await_ready(self, worker: Worker) -> None:
        """Let a worker be chosen again when it is ready.

        One that found no Redis when it started has ended, and is started again as by an init.
        """
        try:
            ready = worker.ready()
        except redis_py.RedisError:
            ready = False
        if ready or not self.weights:
            self.busy.discard(worker.name)
        elif worker.found_no_redis:
            self.agenda.after(0.3, lambda: self.revive(worker))
        else:
            self.agenda.after(0.1, lambda: self.await_ready(worker))

    def kill_runner(self) -> float | None:
        if (worker := self.victim()) is None or not (runners := worker.runners):
            return None
        pid = self.chance.choice(runners)
        with self.ending("kill_runner", worker, [pid]):
            hit([pid], signal.SIGKILL)
        return 0.0

    def kill_supervisor(self) -> float | None:
        if (worker := self.victim()) is None:
            return None
        with self.ending("kill_supervisor", worker, None):
            hit([worker.pid], signal.SIGKILL)
            assert worker.process is not None
            worker.process.wait(timeout=10)
        return 0.0

    def kill_family(self) -> float | None:
        if (worker := self.victim()) is None:
            return None
        with self.ending("kill_family", worker, None):
            hit(worker.family, signal.SIGKILL)
            assert worker.process is not None
            worker.process.wait(timeout=10)
        return 0.0

    def freeze(self, fault: str, worker: Worker, pids: list[int], explains: str) -> float:
        """Stop processes for a while."""
        began, who, lasts = time.monotonic(), worker.who, self.for_a_while()
        self.busy.add(worker.name)
        hit(pids, signal.SIGSTOP)

        def thaw() -> None:
            hit(pids, signal.SIGCONT)
            self.note(fault, began=began, explains=explains, worker=who)
            self.agenda.after(0.3, lambda: self.revive(worker))

        self.agenda.after(lasts, thaw)
        return lasts

    def for_a_while(self) -> float:
        return self.chance.uniform(0.3, 2.5) * self.lease

    def freeze_runner(self) -> float | None:
        """Its supervisor keeps its lease: nobody else may run what it has."""
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
        """End it in good order; what runs longer than it waits is stopped."""
        if (worker := self.victim()) is None:
            return None
        began, who = time.monotonic(), worker.who
        self.busy.add(worker.name)
        hit([worker.pid], signal.SIGTERM)

        def look() -> None:
            late = time.monotonic() - began > 4 * self.lease + 15
            if worker.up and not late:
                self.agenda.after(0.1, look)
                return
            assert worker.process is not None
            code = worker.process.poll()
            self.note("stop_worker", began=began, explains="runs", worker=who, code=code)
            hit(worker.family, signal.SIGKILL)
            self.revive(worker)

        self.agenda.after(0.1, look)
        return 1.0

    def raise_the_dead(self) -> float | None:
        """Declare a living runner dead, then give its consumer a lease again.

        As if Redis had failed over to a copy that lacked only the last of it.
        """
        leases = [name for name, _ in self.stage.redis.zscan_iter(f"{ROOT}:leases")]
        if (worker := self.victim()) is None or not (runners := worker.runners):
            return None
        ours = {int(name.rsplit(":", 2)[-2]): name for name in leases}
        pid = self.chance.choice(runners)
        if pid not in ours:
            return None
        began, who = time.monotonic(), worker.who
        self.declare_dead(ours[pid])
        self.note("raise_the_dead", began=began, explains="runs", worker=who, pids=[pid])
        return 0.0

    def declare_dead(self, consumer: str) -> None:
        """Recover what it holds as its supervisor would, and register it again, at once."""
        day, most = 86_400_000, 10_000
        bounds = (3, day, most, 30 * day, 10_000)
        self.stage.together(
            ("recover", consumer, "", "", 0, "declared dead", "none", *bounds, 0),
            ("register", int(self.lease * 1000), consumer),
        )

    # Redis

    def kill_clients(self) -> float:
        began = time.monotonic()
        self.stage.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.note("kill_clients", began=began)
        return 0.0

    def flush_scripts(self) -> float:
        began = time.monotonic()
        self.stage.redis.script_flush()
        self.note("flush_scripts", began=began)
        return 0.0

    def kill_server(self) -> float:
        began = time.monotonic()
        self.stage.server.stop(signal.SIGKILL)
        moment, long = self.chance.uniform(0.0, 0.5), self.chance.uniform(1.2, 2.0) * self.lease
        time.sleep(self.chance.choice([moment, long]))
        self.stage.server.start()
        self.note("kill_server", began=began, outage=True)
        return 0.0

    def freeze_server(self) -> float:
        began, lasts = time.monotonic(), self.chance.uniform(0.2, 2.0) * self.lease
        hit([self.stage.server.pid], signal.SIGSTOP)
        time.sleep(lasts)  # nothing else can be done to it, or asked of it
        hit([self.stage.server.pid], signal.SIGCONT)
        self.note("freeze_server", began=began, outage=True)
        return 0.0

    def fill_memory(self) -> float:
        began = time.monotonic()
        self.busy.add("fill_memory")
        self.stage.redis.config_set("maxmemory", 1)

        def end() -> None:
            self.stage.redis.config_set("maxmemory", 0)
            self.busy.discard("fill_memory")
            self.note("fill_memory", began=began, outage=True)

        self.agenda.after(1.0, end)
        return 1.0

    def shift_clock(self) -> float:
        """An hour forward or back, and after a while as it was."""
        began, lasts = time.monotonic(), self.chance.uniform(0.5, 2.0) * self.lease
        self.busy.add("shift_clock")
        hours = self.chance.choice([-1, 1])
        self.stage.shift(hours * HOUR)

        def end() -> None:
            self.stage.shift(0)
            self.busy.discard("shift_clock")
            self.note("shift_clock", began=began, hours=hours)

        self.agenda.after(lasts, end)
        return lasts

    # The network between one worker, or one producer, and the server

    def cut_worker(self) -> float | None:
        if (worker := self.victim(proxied=True)) is None or (proxy := worker.proxy) is None:
            return None
        how = self.chance.choice(["blackhole", "hold", "refuse"])
        getattr(proxy, how)()
        if how == "refuse":
            proxy.reset()
        return self.until_healed("cut_worker", worker, proxy, self.for_a_while(), "runs")

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
            self.agenda.after(0.3, lambda: self.revive(worker))

        self.agenda.after(lasts, heal)
        return lasts

    def reset_worker(self) -> float | None:
        if (worker := self.victim(proxied=True)) is None or worker.proxy is None:
            return None
        began = time.monotonic()
        worker.proxy.reset()
        self.note("reset_worker", began=began, worker=worker.who)
        return 0.0

    def drop_answers(self) -> float | None:
        """Lose the next answers: of a producer's calls, of a runner's calls or reads."""
        began, times = time.monotonic(), self.chance.choice([1, 1, 2, 3])
        what = self.chance.choice(["calls of a producer", "EVALSHA", "XREADGROUP"])
        worker = self.victim(proxied=True)
        if what == "calls of a producer":
            self.stage.proxy.drop_reply("EVALSHA", times=times)
        elif worker is None or worker.proxy is None:
            return None
        else:  # a runner with greenlets has another connection for reading
            worker.proxy.drop_reply(sent_by("streamq:r", what), times=times)
        self.note("drop_answers", began=began, of=what)
        return 0.0

    # The end

    def mend(self) -> None:
        """Let everything work again."""
        for proxy in self.stage.proxies():
            proxy.heal()
        for worker in self.stage.workers:
            hit(worker.family, signal.SIGCONT)
            if not worker.up:
                if worker.baseline and worker.name not in self.busy:
                    self.pen.note("complaint", says=f"{worker.who} has ended by itself")
                worker.start()
