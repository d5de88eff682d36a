"""Work under which faults are watched: a producer that does not stop, tasks that take long."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A lease that tests can wait for, in seconds.
LEASE = 1.2
#: Seconds after which another worker may judge: 1.5 leases of unbroken view.
VIEW = 1.6 * LEASE

TASKS = """
@app.task
def quick(number):
    note(f"quick {number} {os.getpid()} {time.monotonic():.3f}")
    return number

@app.task
def hold(number, until="go"):
    note(f"begin {number} {os.getpid()} {time.monotonic():.3f}")
    while not (HERE / until).exists():
        time.sleep(0.01)
    note(f"end {number} {os.getpid()} {time.monotonic():.3f}")
    return [number, os.getpid()]

@app.task(bind=True, max_retries=5)
def twice(self, number):
    note(f"twice {number} {os.getpid()} {time.monotonic():.3f}")
    if not self.request.retries:
        raise self.retry(countdown=0.05)
    return number

@app.task(bind=True)
def fatal(self, number):
    note(f"fatal {number} {os.getpid()} {time.monotonic():.3f}")
    if not self.request.redelivered:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
"""

#: Enqueues numbers until the file `enough` is there, noting what was accepted, and when.
PRODUCER = """
    import time
    from tasks import HERE, app, quick

    accepted = open(HERE / "accepted", "a", buffering=1)
    number = 0
    while not (HERE / "enough").exists():
        result = quick.enqueue(number)
        accepted.write(f"{result.id} {number} {time.monotonic()}\\n")
        number += 1
        time.sleep({pause})
    print(number)
"""


def begun(site: Any, word: str = "begin") -> list[tuple[int, int]]:
    """Number and process of each start of a task that notes this word, in their order."""
    lines = [line.split() for line in site.notes()]
    return [(int(number), int(pid)) for kind, number, pid, _ in lines if kind == word]


class Traffic:
    """A producer in a process of its own, and what became of its calls."""

    def __init__(self, site: Any, *, pause: float = 0.004) -> None:
        self.site = site
        self.producer = site.python(PRODUCER.replace("{pause}", str(pause)))

    def accepted(self) -> list[tuple[str, int, float]]:
        """Id, number and moment of each call that was accepted."""
        path: Path = self.site.folder / "accepted"
        lines = path.read_text().splitlines() if path.exists() else []
        parts = [line.split() for line in lines if line.count(" ") == 2]
        return [(id, int(number), float(moment)) for id, number, moment in parts]

    def flows(self, *, seconds: float = 20.0) -> None:
        """Wait until calls that are made from now on are accepted and run."""
        calls, ran = len(self.accepted()), len(begun(self.site, "quick"))
        more = {"seconds": seconds}
        self.site.until(lambda: len(self.accepted()) > calls + 20, "calls are accepted", **more)
        self.site.until(lambda: len(begun(self.site, "quick")) > ran + 20, "tasks run", **more)

    def keeps_up(self, *, within: float = 5.0) -> bool:
        """Whether new calls are accepted within this time, and run as fast as they come."""
        calls, back = len(self.accepted()), time.monotonic()
        while time.monotonic() - back < within:
            if self.behind() < 20 < len(self.accepted()) - calls:
                return True
            time.sleep(0.05)
        return False

    def behind(self) -> int:
        """How many accepted calls have not run."""
        ran = {number for number, _ in begun(self.site, "quick")}
        return sum(number not in ran for _, number, _ in self.accepted())

    def stop(self) -> list[tuple[str, int, float]]:
        """End the producer, which must not have failed; what it was told was accepted."""
        (self.site.folder / "enough").touch()
        out, err = self.producer.communicate(timeout=60)
        accepted = self.accepted()
        assert (int(out), err.decode()) == (len(accepted), "")
        return accepted

    def end(self) -> Counter[int]:
        """Stop; every accepted call must have run and have its result.  How often each ran."""
        accepted = self.stop()
        self.site.drained()
        failed = self.without_result(accepted)
        assert failed == [], f"lost: {failed}"
        runs = Counter(number for number, _ in begun(self.site, "quick"))
        never = [number for _, number, _ in accepted if not runs[number]]
        assert never == [], f"lost: {never}"
        return runs

    def without_result(self, accepted: list[tuple[str, int, float]]) -> list[int]:
        """The numbers of those whose record does not say that they succeeded."""
        pipeline = self.site.redis.pipeline(transaction=False)
        for id, *_ in accepted:
            pipeline.hmget(f"{{streamq}}:task:{id}", "state", "result")
        records = pipeline.execute()
        return [
            number
            for record, (_, number, _) in zip(records, accepted, strict=True)
            if record != ["SUCCESS", str(number)]
        ]


def hold_on(site: Any, worker: Any, first: int) -> list[Any]:
    """Send tasks that hold until this worker runs one of them; their results."""
    sent: list[Any] = []
    ours = set(worker.runners())
    while not ours & {pid for _, pid in begun(site)}:
        assert len(sent) < 10
        sent.append(site.send("hold", first + len(sent)))
        number = first + len(sent) - 1
        site.until(lambda number=number: number in dict(begun(site)), "it has begun")
    return sent


def two_workers(site: Any, flags: tuple[object, ...], *urls: str) -> tuple[Any, Any, list[Any]]:
    """Two workers, each at its URL; the first one runs a task, whose result comes last."""
    site.env["STREAMQ_URL"] = urls[0]
    one = site.worker(*flags, "-n", "one")
    results = hold_on(site, one, 0)
    site.env["STREAMQ_URL"] = urls[-1]
    return one, site.worker(*flags, "-n", "other"), results


def runs_through(
    site: Any, flags: tuple[object, ...], urls: list[str], trouble: Callable[[], None]
) -> None:
    """Two workers are in trouble under load; nobody takes from the living, and work goes on.

    Checks that no task runs twice, those that last through the trouble among them, and that
    throughput is back within 5 s.
    """
    one, other, results = two_workers(site, flags, *urls)
    results += hold_on(site, other, 10)
    traffic = Traffic(site)
    traffic.flows()
    time.sleep(VIEW)  # they may judge now
    trouble()
    back = time.monotonic()
    kept_up = traffic.keeps_up()
    time.sleep(max(0.0, back + 1.5 * VIEW - time.monotonic()))
    assert len(begun(site)) == len(results), "twice: a task that lasted ran again"
    assert kept_up, "throughput is back within 5 s"
    (site.folder / "go").touch()
    assert [each.get(timeout=10) for each in results] == [list(each) for each in begun(site)]
    assert max(traffic.end().values()) == 1, "twice: a quick task ran again"
    comes_to_rest(site)
    assert "is dead" not in one.said + other.said
    assert [one.stop(), other.stop()] == [0, 0]


def comes_to_rest(site: Any) -> None:
    """Check that nothing leaks, when what dead connections have left is swept up."""
    leases = "{streamq}:leases"
    site.until(lambda: site.consumers() <= set(site.redis.zrange(leases, 0, -1)), "it is swept")
    site.at_rest()
