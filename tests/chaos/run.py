"""A chaos run: injects faults at random for a while, then checks that no promise was broken.

    python -m tests.chaos.run --seconds 60 --seed 7
    python -m tests.chaos.run --control no-fence

Prints the seed first and the verdict, one line of JSON, last.  Ends with 0 if the verdict
is good; with ``--control`` if the missing guard was detected.
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
from tests.chaos.at_rest import drain, inspect, note_results, stop_all
from tests.chaos.checker import Verdict, check, report
from tests.chaos.controls import CONTROLS, Control
from tests.chaos.deployment import Deployment
from tests.chaos.history import read
from tests.chaos.nemesis import WEIGHTS, Nemesis
from tests.chaos.workload import value_of
from tests.processes import until

#: The lease in seconds, and most calls a second, by profile.
PROFILES: Mapping[str, tuple[float, float]] = {"smoke": (1.5, 50.0), "full": (2.0, 90.0)}
#: The share of the measured capacity at which calls are sent.
SHARE = 0.4
#: The number of quick tasks by which the capacity is measured.
TRIAL = 300


def main() -> int:
    """Run as the command line says; return the exit code."""
    asked = arguments()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 31)
    control = CONTROLS[asked.control] if asked.control else None
    seconds = asked.seconds or (control.seconds if control else 60.0)
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="streamq-chaos-"))
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, too_long)
    signal.alarm(int(2 * seconds) + 300)
    verdict, facts = run(folder, seconds, seed, asked.profile, control)
    if not verdict.ok:
        events = read(folder / "history")
        print("\n".join(report(verdict, events)))
    good = verdict.ok if control is None else detected(verdict, control)
    if good and not asked.keep:
        shutil.rmtree(folder)
    else:
        facts["folder"] = str(folder)
    print(verdict.line(seed=seed, control=asked.control, **facts), flush=True)
    return 0 if good else 1


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="how long things are broken (60)")
    parser.add_argument("--seed", type=int, help="by chance if not given")
    parser.add_argument("--profile", choices=PROFILES, default="full")
    parser.add_argument("--control", choices=CONTROLS, help="leave out a guard: must be detected")
    parser.add_argument("--keep", action="store_true", help="keep history and logs")
    return parser.parse_args()


def too_long(*_: object) -> None:
    """End the run: the handler of SIGALRM and SIGTERM."""
    raise SystemExit("the run is ended from outside, or has taken twice its time")


def detected(verdict: Verdict, control: Control) -> bool:
    """Whether one of the rules that must notice the missing guard is broken."""
    return any(verdict.broken[rule] for rule in control.seen_by)


def run(
    folder: Path, seconds: float, seed: int, profile: str, control: Control | None
) -> tuple[Verdict, dict[str, Any]]:
    """Start everything, inject faults, drain, inspect, and judge the history."""
    lease, most = PROFILES[profile]
    deployment = Deployment(folder, lease=lease, edits=control.edits if control else ())
    weights = control.weights if control and control.weights else WEIGHTS
    nemesis = Nemesis(deployment, seed, weights, calm=control is None)
    try:
        rate = prepare(deployment, profile, most)
        thirds = [rate / 3] * 3 if profile == "full" else [rate / 2] * 2
        deployment.writer.note("begin", lease=lease, seed=seed)
        deployment.produce(thirds, seed, control.kinds if control else "")
        deployment.writer.note("producing", rate=rate)
        nemesis.run(seconds)
        deployment.writer.note("enough")
        deployment.enough()
        drained = drain(deployment, 20 * lease + 30 if control is None else 6 * lease)
        inspect(deployment)
        note_results(deployment)
        stop_all(deployment)
    finally:
        deployment.close()
    facts = {"seconds": seconds, "rate": round(rate), "drained_in": round(drained, 1)}
    faults = dict(sorted(nemesis.done.items()))
    print(json.dumps({"faults": faults}), flush=True)
    return check(read(deployment.history)), facts


def prepare(deployment: Deployment, profile: str, most: float) -> float:
    """Start the workers; return the calls a second that producers are to send."""
    deployment.worker("w1", "-c", 2)
    deployment.worker("w2", "-c", 2, proxied=True)
    deployment.worker("w3", "-P", "gevent", "--processes", 1, "-c", 8, proxied=profile == "full")
    if profile == "full":
        deployment.worker("w4", "-P", "gevent", "--processes", 1, "-c", 8)
    for worker in deployment.workers:
        worker.start()
    for worker in deployment.workers:
        until(worker.ready, f"{worker.who} is ready", 30)
    return min(most, SHARE * capacity(deployment))


def capacity(deployment: Deployment) -> float:
    """The number of quick tasks a second that the workers run, measured now."""
    producer = streamq.App("trial", url=deployment.server.url)
    numbers = range(-TRIAL, 0)
    for number in numbers:
        deployment.writer.note("invoked", number=number, kind="late")
    began = time.monotonic()
    results = producer.enqueue_many(
        producer.signature("tests.chaos.tasks.quick", (number, "late", 0.005), queue="work")
        for number in numbers
    )
    for number, result in zip(numbers, results, strict=True):
        deployment.writer.note("accepted", number=number, kind="late", id=result.id)
        value, _ = result.get(timeout=60)
        assert value == value_of(number)
    return TRIAL / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
