"""The same no-op workload for the peers, each in an environment of its own."""

import json
import re
import subprocess
import time
import venv
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import HERE, Figures, Stage, Wrong, percentile
from benchmarks.report import Figure, Row

RIVALS = HERE / "rivals"

#: Seconds that the drain of one round should take.
SPAN = 7.0

#: Tasks with which a library's speed is guessed before the first round.
PROBE = 1000


@dataclass(frozen=True)
class Rival:
    """A library: the file that knows how to use it, and what pip needs for it."""

    file: Path

    @property
    def name(self) -> str:
        return self.file.stem.removeprefix("use_")

    @property
    def requirements(self) -> list[str]:
        first = self.file.read_text().splitlines()[0]
        if not (found := re.fullmatch(r"# pip: (.+)", first)):
            raise SystemExit(f"{self.file} must begin with '# pip: ' and what it needs")
        return found[1].split()

    @property
    def environment(self) -> Path:
        return HERE / ".venvs" / self.name

    def install(self) -> None:
        """Make the environment once, and again when the requirements have changed."""
        stamp = self.environment / "requirements"
        wanted = " ".join(self.requirements)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        venv.create(self.environment, with_pip=True)
        pip = [str(self.bin("python")), "-m", "pip", "install", "-qq", *self.requirements]
        if subprocess.run(pip).returncode:
            raise Wrong(f"pip could not install {wanted}")
        stamp.write_text(wanted)

    def bin(self, command: str) -> Path:
        return self.environment / "bin" / command

    def driver(
        self, stage: Stage, act: str, count: int, more: dict[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        command = [str(self.bin("python")), str(self.file), act, str(count)]
        told = environment(stage) | (more or {})
        return subprocess.Popen(command, cwd=RIVALS, env=told, stdout=subprocess.PIPE, text=True)

    def ask(self, stage: Stage, act: str, count: int = 0) -> Any:
        return answer(self.driver(stage, act, count))

    def workers(self, stage: Stage) -> list[list[str]]:
        commands = self.ask(stage, "workers")
        return [[str(self.bin(command)), *rest] for command, *rest in commands]


def environment(stage: Stage) -> dict[str, str]:
    return {**stage.environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(RIVALS)}


def answer(process: "subprocess.Popen[str]") -> Any:
    output, _ = process.communicate(timeout=300)
    if process.returncode:
        raise Wrong(f"the rival's own process ended with {process.returncode}; see above")
    return json.loads(output.splitlines()[-1])


# --- the row -------------------------------------------------------------------------------------


def measure(rival: Rival, stage: Stage) -> Figures:
    """Enqueue, drain, call one at a time, start."""
    rival.install()
    commands = rival.workers(stage)
    if stage.short:
        total = 200
    elif not (total := stage.notes.get("total", 0)):
        total = stage.notes["total"] = guess_total(rival, stage, commands)
    figures = drain(rival, stage, commands, total)
    stage.notes["total"] = tasks_for(figures["drain"])
    stage.clear()
    return figures | waiting(rival, stage, commands)


def guess_total(rival: Rival, stage: Stage, commands: list[list[str]]) -> int:
    """How many tasks keep this library busy for the span of a round."""
    rate = drain(rival, stage, commands, PROBE)["drain"]
    stage.clear()
    return tasks_for(rate)


def tasks_for(rate: float) -> int:
    """So many that a round lasts its span; its first tenth is not timed."""
    return max(100, round(rate * SPAN / 0.9 / 100) * 100)


def drain(rival: Rival, stage: Stage, commands: list[list[str]], total: int) -> Figures:
    """Tasks a second into the queue, one after the other, and then out of it."""
    took = rival.ask(stage, "enqueue", total)
    with stage.processes(commands, environment=environment(stage), cwd=RIVALS) as workers:
        rate = stage.drain(total, lambda: True, workers, once=False).rate
        time.sleep(0.5)  # the last results; a task that is stopped before may run again
    if stage.marks.count() < total:  # SAQ runs some twice when two workers start together
        raise Wrong(f"{stage.marks.count()} runs of {total} tasks")
    return {"enqueue": (total - 1) / took, "drain": rate}


def waiting(rival: Rival, stage: Stage, commands: list[list[str]]) -> Figures:
    """Seconds from starting the worker to the result of a task that waits for it, then calls."""
    waited = environment(stage) | {"BENCH_WAITED": "1"}
    caller = rival.driver(stage, "first", 1, waited)
    time.sleep(stage.size(2, 1))
    start = time.monotonic()
    with stage.processes(commands, environment=waited, cwd=RIVALS):
        first = float(answer(caller)) - start
        time.sleep(stage.size(2, 1))
        times = answer(rival.driver(stage, "round_trips", stage.size(1000, 50), waited))
    return {"first result": first, "p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}


FIGURES = (
    Figure("enqueue", "/s"),
    Figure("drain", "/s"),
    Figure("p50", "ms"),
    Figure("p99", "ms"),
    Figure("first result", "s"),
)

ROWS = tuple(
    Row(rival.name, partial(measure, rival), FIGURES, peer=True)
    for rival in (Rival(file) for file in sorted(RIVALS.glob("use_*.py")))
)
