"""``python -m benchmarks.against CHECKOUT``: this checkout beside another one, in one run.

Round after round, each plays the same rows in a process of its own; who begins alternates.
The machine's speed drifts by more than a change of the code is worth, so only the ratios
within a round count, and of those the median.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness import ROOT

#: The rows of the main job.
MAIN = "throughput,enqueue,roundtrip,makespan,gevent"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default=MAIN)
    parser.add_argument("--aof", choices=("off", "on"), default="off")
    choice = parser.parse_args()
    sides = {"other": choice.other.resolve(), "this": ROOT}
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(choice.rounds):
        for side in sorted(sides, reverse=bool(number % 2)):
            rounds[side].append(figures(sides[side], choice.rows, choice.aof))
            print(f"round {number + 1}: {side} done", flush=True)
    print("\n".join(told(rounds["other"], rounds["this"])))
    return 0


def figures(checkout: Path, rows: str, aof: str) -> dict[str, float]:
    """One round of these rows in a checkout."""
    command = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--rows", rows, "--aof", aof]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    path = next((x for x in done.stdout.splitlines() if x.startswith("every round: ")), None)
    if path is None:
        raise SystemExit(f"{checkout} could not be measured:\n{done.stdout}{done.stderr}")
    saved = json.loads((checkout / path.removeprefix("every round: ")).read_text())
    (mode,) = saved["rounds"].values()
    return {name: values[0] for name, values in mode.items()}


def told(before: list[dict[str, float]], after: list[dict[str, float]]) -> Iterable[str]:
    """A line a figure: both medians, and the median of the ratios with their spread."""
    yield f"{'figure':<52} {'other':>10} {'this':>10} {'ratio':>7}  (of each round)"
    for name in before[0]:
        pairs = [
            (old[name], new[name]) for old, new in zip(before, after, strict=True) if name in new
        ]
        ratios = [new / old for old, new in pairs if old]
        if not ratios:
            continue
        old, new = (statistics.median(side) for side in zip(*pairs, strict=True))
        spread = " ".join(f"{ratio:.2f}" for ratio in ratios)
        yield f"{name:<52} {old:>10.4g} {new:>10.4g} {statistics.median(ratios):>7.3f}  ({spread})"


if __name__ == "__main__":
    sys.exit(main())
