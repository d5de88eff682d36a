"""``python -m benchmarks.against CHECKOUT``: this checkout beside another one, in one run.

The machine's speed drifts within seconds by more than a change of the code is worth.  So the two
take short turns, of a fraction of a second each, every one next to the same turn of the
other; who begins alternates.  What counts is the ratio of the two within such a pair: the median
of all pairs, and the interval in which the true median lies with 95 % (by order statistics, no
distribution assumed).  redis-py's own XADD, the same code on both sides, shows what this
way of measuring would say of no change at all.

Where a task sleeps, time and not speed is measured: these rows are played as a whole.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from benchmarks.harness import HERE, ROOT, Server, server_binary

#: The figures that are played in turns, those without a worker first.
ENQUEUEING = (
    "enqueue: redis-py XADD",
    "enqueue: one by one",
    "enqueue: many, with results",
    "enqueue: many, ignore_result",
)
WORKING = (
    "drain: late ack, results",
    "drain: late ack, no results",
    "drain: early ack, results",
    "round trip",
)
#: The rows of the main job in which tasks sleep.
WHOLE = "makespan,gevent"

Pairs = dict[str, list[tuple[float, float]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout, such as a git worktree")
    parser.add_argument("--turns", type=int, default=60, help="pairs of each figure")
    parser.add_argument("--rounds", type=int, default=3, help="of the rows in which tasks sleep")
    parser.add_argument("--figures", default="", help="only those that contain this text")
    parser.add_argument("--server", default="redis", help="redis, valkey (bundled) or a path")
    choice = parser.parse_args()
    checkouts = (choice.other.resolve(), ROOT)
    pairs: Pairs = {}
    for kind in (ENQUEUEING, WORKING):
        names = [name for name in kind if choice.figures in name]
        pairs |= in_turns(checkouts, names, choice.turns, choice.server, apart=kind is ENQUEUEING)
    if choice.figures in WHOLE:
        pairs |= as_a_whole(checkouts, choice.rounds, choice.server)
    print("\n".join(told(pairs)))
    return 0


# --- turns ---------------------------------------------------------------------------------------


def in_turns(
    checkouts: Sequence[Path], names: Sequence[str], turns: int, server: str, *, apart: bool
) -> Pairs:
    """Microseconds of a message, other and this, as often as asked."""
    pairs: Pairs = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(side(each, server, apart=apart)) for each in checkouts]
        for number in range(-1, turns):  # the first warms up, and does not count
            for name in names:
                order = (0, 1) if number % 2 else (1, 0)
                cost = {at: sides[at](name) for at in order}
                if number >= 0:
                    pairs[name].append((cost[0], cost[1]))
            print(f"turn {number + 1} of {turns}", end="\r", file=sys.stderr, flush=True)
    return pairs


class Side:
    """A process that plays turns with the code of one checkout."""

    def __init__(self, checkout: Path, process: "subprocess.Popen[str]", log: IO[str]) -> None:
        self.process = process
        self.log = log
        if Path(self.answer()) != checkout:
            raise SystemExit(f"{checkout} would be measured with streamq from somewhere else")

    def __call__(self, figure: str) -> float:
        print(figure, file=self.process.stdin, flush=True)
        return float(self.answer())

    def answer(self) -> str:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return line.strip()
        self.log.seek(0)
        raise SystemExit(f"a side could not be measured:\n{self.log.read()}")


@contextlib.contextmanager
def side(checkout: Path, server: str, *, apart: bool) -> Iterator[Side]:
    """A server and a player for one checkout, until the block ends.

    If they are kept apart, each has a processor for itself: where one always waits for
    the other, the same call takes twice as long whenever the kernel has put them together.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="streamq-bench-"))
        serving = stack.enter_context(Server(server_binary(server), aof=False))
        url = serving.url
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        marks = Path(folder) / "marks"
        marks.touch()
        process = subprocess.Popen(
            # -P: only the checkout is in the path, not the folder of this script
            [sys.executable, "-P", str(HERE / "turns.py"), url, folder],
            cwd=checkout,
            env={**of_checkout(checkout), "BENCH_URL": url, "BENCH_MARKS": str(marks)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        if apart:
            first, *_, last = sorted(os.sched_getaffinity(0)) * 2
            os.sched_setaffinity(serving.process.pid, {first})
            os.sched_setaffinity(process.pid, {last})
        with process:
            try:
                yield Side(checkout, process, log)
            finally:
                assert process.stdin
                process.stdin.close()  # ends it, and its worker with it


def of_checkout(checkout: Path) -> dict[str, str]:
    """An environment in which every process finds this checkout's streamq before any other."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


# --- whole rows ----------------------------------------------------------------------------------


def as_a_whole(checkouts: Sequence[Path], rounds: int, server: str) -> Pairs:
    """The figures of the rows in which tasks sleep, other and this."""
    pairs: Pairs = {}
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        played = {at: figures(checkouts[at], server) for at in order}
        for name in played[1]:
            pairs.setdefault(name, []).append((played[0][name], played[1][name]))
    return pairs


def figures(checkout: Path, server: str) -> dict[str, float]:
    """One round of these rows in a checkout."""
    command = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--rows", WHOLE]
    command += ["--aof", "off", "--server", server]
    done = subprocess.run(
        command,
        cwd=checkout,
        env=of_checkout(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    path = next((x for x in done.stdout.splitlines() if x.startswith("every round: ")), None)
    if path is None:
        raise SystemExit(f"{checkout} could not be measured:\n{done.stdout}{done.stderr}")
    saved = json.loads((checkout / path.removeprefix("every round: ")).read_text())
    (mode,) = saved["rounds"].values()
    return {name: values[0] for name, values in mode.items()}


# --- what is told --------------------------------------------------------------------------------


def told(pairs: Pairs) -> Iterable[str]:
    """A line a figure: both medians, the median of the ratios, and how sure it is."""
    yield f"{'µs a message, or as the row says':<52} {'other':>9} {'this':>9}  this ÷ other"
    for name, each in pairs.items():
        other, this = (statistics.median(side) for side in zip(*each, strict=True))
        ratios = sorted(here / there for there, here in each if there)
        if ratios:
            low, high = interval(ratios)
            ratio = f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
            yield f"{name:<52} {other:>9.4g} {this:>9.4g}  {ratio}"


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Where the true median lies with 95 %: between two of the sorted values.

    Ranks n/2 ± 1.96 √n/2: of n independent values, the number below the median is binomial.
    """
    count = len(ratios)
    low = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    return ratios[low], ratios[count - 1 - low]


if __name__ == "__main__":
    sys.exit(main())
