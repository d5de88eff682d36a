"""Break everything at random for a while, then prove that nothing was lost or done twice.

    python -m tests.chaos.run --seconds 60 --seed 7
    python -m tests.chaos.run --control no-fence

Prints the seed first and the verdict, one line of JSON, last.  Ends with 0 if the verdict
is good; with ``--control`` if the missing guard was found out.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamq
from tests.chaos.checker import Verdict, check, tell
from tests.chaos.controls import CONTROLS, Control
from tests.chaos.history import read
from tests.chaos.nemesis import WEIGHTS, Nemesis
from tests.chaos.rest import drain, look_over, stop_all, write_ledger
from tests.chaos.stage import Stage
from tests.chaos.workload import value_of
from tests.processes import until

#: The lease in seconds, and most calls a second, by profile.
PROFILES: Mapping[str, tuple[float, float]] = {"smoke": (1.5, 50.0), "full": (2.0, 90.0)}
#: The share of what the machine does that is asked of it.
SHARE = 0.4
#: Quick tasks by which that is measured.
TRIAL = 300


def main() -> int:
    """Run as the command line says."""
    asked = arguments()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 31)
    control = CONTROLS[asked.control] if asked.control else None
    seconds = asked.seconds or (control.seconds if control else 60.0)
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="streamq-chaos-"))
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, too_long)
    signal.alarm(int(2 * seconds) + 300)
    verdict, facts = torment(folder, seconds, seed, asked.profile, control)
    if not verdict.ok:
        events = read(folder / "history")
        print("\n".join(tell(verdict, events)))
    good = verdict.ok if control is None else found_out(verdict, control)
    if good and not asked.keep:
        shutil.rmtree(folder)
    else:
        facts["folder"] = str(folder)
    print(verdict.line(seed=seed, control=asked.control, **facts), flush=True)
    return 0 if good else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="how long things are broken (60)")
    parser.add_argument("--seed", type=int, help="by chance if not given")
    parser.add_argument("--profile", choices=PROFILES, default="full")
    parser.add_argument("--control", choices=CONTROLS, help="leave out a guard: must be found")
    parser.add_argument("--keep", action="store_true", help="keep history and logs")
    return parser.parse_args()


def too_long(*_: object) -> None:
    raise SystemExit("the run is ended from outside, or has taken twice its time")


def found_out(verdict: Verdict, control: Control) -> bool:
    """Whether the rules that must see what is missing have seen it."""
    return any(verdict.broken[rule] for rule in control.seen_by)


def torment(
    folder: Path, seconds: float, seed: int, profile: str, control: Control | None
) -> tuple[Verdict, dict[str, Any]]:
    """Set the stage, break things, drain, look, and judge."""
    lease, most = PROFILES[profile]
    stage = Stage(folder, lease=lease, edits=control.edits if control else ())
    weights = control.weights if control and control.weights else WEIGHTS
    nemesis = Nemesis(stage, seed, weights, calm=control is None)
    try:
        rate = prepare(stage, profile, most)
        thirds = [rate / 3] * 3 if profile == "full" else [rate / 2] * 2
        stage.pen.note("begin", lease=lease, seed=seed)
        stage.produce(thirds, seed, control.kinds if control else "")
        stage.pen.note("producing", rate=rate)
        nemesis.torment(seconds)
        stage.pen.note("enough")
        stage.enough()
        drained = drain(stage, 20 * lease + 30 if control is None else 6 * lease)
        look_over(stage)
        write_ledger(stage)
        stop_all(stage)
    finally:
        stage.close()
    facts = {"seconds": seconds, "rate": round(rate), "drained_in": round(drained, 1)}
    faults = dict(sorted(nemesis.done.items()))
    print(json.dumps({"faults": faults}), flush=True)
    return check(read(stage.history)), facts


def prepare(stage: Stage, profile: str, most: float) -> float:
    """Start the workers; return how many calls a second are half of what they do."""
    stage.worker("w1", "-c", 2)
    stage.worker("w2", "-c", 2, proxied=True)
    stage.worker("w3", "-P", "gevent", "--processes", 1, "-c", 8, proxied=profile == "full")
    if profile == "full":
        stage.worker("w4", "-P", "gevent", "--processes", 1, "-c", 8)
    for worker in stage.workers:
        worker.start()
    for worker in stage.workers:
        until(worker.ready, f"{worker.who} is ready", 30)
    return min(most, SHARE * capacity(stage))


def capacity(stage: Stage) -> float:
    """How many quick tasks a second the workers do, as measured now."""
    producer = streamq.App("trial", url=stage.server.url)
    numbers = range(-TRIAL, 0)
    for number in numbers:
        stage.pen.note("invoked", number=number, kind="late")
    began = time.monotonic()
    results = producer.enqueue_many(
        producer.signature("tests.chaos.tasks.quick", (number, "late", 0.005), queue="work")
        for number in numbers
    )
    for number, result in zip(numbers, results, strict=True):
        stage.pen.note("accepted", number=number, kind="late", id=result.id)
        value, _ = result.get(timeout=60)
        assert value == value_of(number)
    return TRIAL / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
