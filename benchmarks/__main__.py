"""``python -m benchmarks``: choose rows, play rounds, tell the table."""

import argparse
import importlib
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import HERE, Server, Stage, Wrong, play, server_binary
from benchmarks.report import Row, Run, machine

#: Every module that offers rows, in the order of the table.
BENCHES = (
    "bare_loop",
    "bench_throughput",
    "bench_enqueue",
    "bench_roundtrip",
    "bench_makespan",
    "bench_backlog",
    "bench_start",
    "bench_exchange",
    "bench_idle_runners",
    "bench_schedules",
    "bench_gevent",
)
RIVALS = "bench_rivals"

MODES = {
    "off": ["without AOF"],
    "on": ["AOF everysec"],
    "both": ["without AOF", "AOF everysec"],
}

RESULTS = HERE / "results"
README = HERE / "README.md"
TABLE = ("<!-- the last table -->\n", "<!-- end of the table -->\n")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server goes too
    choice = arguments()
    rows = chosen(choice)
    if choice.list:
        print("\n".join(row.name for row in rows))
        return 0
    binary = server_binary(choice.server)
    rounds = 1 if choice.short else choice.rounds
    run = Run(rows, {}, MODES[choice.aof], judged=not choice.short)
    for mode in run.modes:
        with Server(binary, aof=mode == "AOF everysec") as server:
            run.facts.update(facts(server, rounds))
            play_rounds(run, mode, server, rounds, short=choice.short)
    print("\n" + run.text())
    print("every round:", run.save(RESULTS, time.strftime("%Y-%m-%d-%H%M%S")))
    if choice.readme:
        write_readme(run.text())
    return 1 if run.failures else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="medians are taken of so many")
    parser.add_argument("--rows", default="", help="only these, with commas between (see --list)")
    parser.add_argument("--rivals", action="store_true", help="the peers too (installs them once)")
    parser.add_argument("--short", action="store_true", help="one small round: does it still run?")
    parser.add_argument("--server", default="redis", help="redis, valkey (bundled) or a path")
    parser.add_argument("--aof", choices=sorted(MODES), default=None, help="default: both")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    choice = parser.parse_args()
    choice.aof = choice.aof or ("off" if choice.short else "both")
    return choice


def chosen(choice: argparse.Namespace) -> Sequence[Row]:
    """The rows that were asked for, in the order of the table."""
    asked = [name for name in choice.rows.split(",") if name]
    modules = [*BENCHES, RIVALS] if choice.rivals or asked else BENCHES
    rows = [row for name in modules for row in importlib.import_module(f"benchmarks.{name}").ROWS]
    known = [row.name for row in rows]
    if unknown := set(asked) - set(known):
        raise SystemExit(f"no row named {', '.join(unknown)}; there are {', '.join(known)}")
    return [row for row in rows if not asked or row.name in asked or (choice.rivals and row.peer)]


def facts(server: Server, rounds: int) -> dict[str, str]:
    return {
        "machine": machine(),
        "python": f"Python {platform.python_version()}",
        "server": server.version(),
        "rounds": f"median of {rounds} rounds" if rounds > 1 else "one round",
        "date": time.strftime("%Y-%m-%d"),
    }


def play_rounds(run: Run, mode: str, server: Server, rounds: int, *, short: bool) -> None:
    """Round after round of all rows, so that a slow minute of the machine touches all alike."""
    with tempfile.TemporaryDirectory(prefix="streamq-bench-") as folder:
        stages = {row.name: Stage(server.url, Path(folder), short) for row in run.rows}
        for number in range(1, rounds + 1):
            for row in run.rows:
                if row.name in run.failures:
                    continue
                started = time.monotonic()
                try:
                    run.add(mode, row, play(row.measure, server, stages[row.name]))
                    outcome = "done"
                except Wrong as error:
                    run.failures[row.name] = outcome = str(error)
                took = time.monotonic() - started
                print(f"{mode}, round {number}, {row.name}: {outcome}, {took:.0f} s", flush=True)


def write_readme(text: str) -> None:
    """Replace the table between the two marks."""
    before, rest = README.read_text().split(TABLE[0])
    _, after = rest.split(TABLE[1])
    README.write_text(before + TABLE[0] + "\n" + text + "\n" + TABLE[1] + after)


if __name__ == "__main__":
    sys.exit(main())
