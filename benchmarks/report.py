"""What a row is, what it should reach, and how a run is told: a table, and JSON beside it."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures, Stage

#: Figures of all peers together: the best of them stands under this name.
PEERS = "fastest peer"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for a figure; with ``of``, a multiple of another figure of the same run."""

    limit: float
    most: bool
    of: str = ""

    def __str__(self) -> str:
        sign = "≤" if self.most else "≥"
        return f"{sign} {number(self.limit)}" + (f" × {self.of}" if self.of else "")

    def holds(self, value: float, medians: Mapping[str, float]) -> bool | None:
        """None where the figure to compare with is not in this run."""
        if self.of and self.of not in medians:
            return None
        bound = self.limit * (medians[self.of] if self.of else 1.0)
        return value <= bound if self.most else value >= bound


def at_least(limit: float, of: str = "") -> Target:
    return Target(limit, most=False, of=of)


def at_most(limit: float, of: str = "") -> Target:
    return Target(limit, most=True, of=of)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a row measures."""

    name: str
    unit: str
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement that is repeated: a name to ask for it by, the act, what comes out."""

    name: str
    measure: Callable[[Stage], Figures]
    figures: tuple[Figure, ...]
    peer: bool = False

    def key(self, figure: Figure) -> str:
        return f"{self.name}: {figure.name}"


@dataclass
class Run:
    """All rounds of all rows, per kind of server; ``failures`` says which rows could not be run."""

    rows: Sequence[Row]
    facts: dict[str, Any]
    modes: Sequence[str]
    judged: bool = True
    """Whether the figures are worth comparing with their targets."""
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, mode: str, row: Row, figures: Figures) -> None:
        unknown = figures.keys() - {figure.name for figure in row.figures}
        if unknown:
            raise KeyError(f"row {row.name} measured {sorted(unknown)}, which it does not declare")
        for name, value in figures.items():
            self.rounds.setdefault(mode, {}).setdefault(f"{row.name}: {name}", []).append(value)

    def medians(self, mode: str) -> dict[str, float]:
        found = {key: statistics.median(v) for key, v in self.rounds.get(mode, {}).items()}
        drains = [
            found[key] for row in self.rows if row.peer if (key := f"{row.name}: drain") in found
        ]
        return found | ({f"{PEERS}: drain": max(drains)} if drains else {})

    def verdict(self, mode: str, row: Row, figure: Figure) -> str:
        """``met``, or ``missed`` with the bounds that were missed, or nothing to say."""
        medians = self.medians(mode)
        value = medians.get(row.key(figure))
        if value is None or not self.judged:
            return ""
        judged = {target: target.holds(value, medians) for target in figure.targets}
        missed = [str(target) for target, holds in judged.items() if holds is False]
        if missed:
            return "missed " + ", ".join(missed) if len(judged) > 1 else "missed"
        return "met" if True in judged.values() else ""

    # --- telling it ---

    def text(self) -> str:
        """The whole run as Markdown, which reads well in a terminal too."""
        parts = [self.heading(), "\n".join(self.comparison()).strip(), "\n".join(self.figures())]
        if self.failures:
            failed = [
                f"* {name}: {reason.splitlines()[0]}" for name, reason in self.failures.items()
            ]
            parts.append("Not measured:\n\n" + "\n".join(failed))
        return "\n\n".join(part for part in parts if part) + "\n"

    def heading(self) -> str:
        return ", ".join(f"{value}" for value in self.facts.values()) + "."

    def comparison(self) -> Iterator[str]:
        """One line a library: the same no-op workload for the bare loop, streamq and the peers."""
        names = ("enqueue", "drain", "p50", "p99", "first result")
        heads = ("enqueue/s", "drain/s", "round trip p50 ms", "p99 ms", "start to first result s")
        for mode in self.modes:
            medians = self.medians(mode)
            lines = {
                row.name: [
                    medians.get(COMPARED.get(row.name, {}).get(n, f"{row.name}: {n}"))
                    for n in names
                ]
                for row in self.rows
                if row.peer or row.name in COMPARED
            }
            if any(row.peer for row in self.rows) and lines:
                cells = [
                    [TITLES.get(name, name), *map(number, line)] for name, line in lines.items()
                ]
                yield from table((mode, *heads), cells)
                yield ""

    def figures(self) -> Iterator[str]:
        """One line a figure, with its target and whether it was met."""
        cells = []
        for row in self.rows:
            if row.peer:
                continue
            for figure in row.figures:
                columns = [self.cell(mode, row, figure) for mode in self.modes]
                if any(columns):
                    target = "; ".join(map(str, figure.targets))
                    cells.append([row.key(figure), figure.unit, *columns, target])
        if cells:
            yield from table(("figure", "unit", *self.modes, "target"), cells)

    def cell(self, mode: str, row: Row, figure: Figure) -> str:
        value = self.medians(mode).get(row.key(figure))
        return (
            "" if value is None else f"{number(value)} {self.verdict(mode, row, figure)}".rstrip()
        )

    def save(self, folder: Path, name: str) -> Path:
        """Every round as JSON, and the table beside it."""
        folder.mkdir(exist_ok=True)
        whole = {"facts": self.facts, "rounds": self.rounds, "failures": self.failures}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(whole, indent=1) + "\n")
        (folder / "last.md").write_text(self.text())
        return path


#: Where the common figures stand in rows that measure more than a peer's row does.
COMPARED = {
    "bare": {"drain": "bare: drain, batches of 64", "enqueue": "bare: publish one by one"},
    "throughput": {
        "enqueue": "enqueue: one by one",
        "drain": "throughput: late ack, results",
        "p50": "roundtrip: p50",
        "p99": "roundtrip: p99",
        "first result": "start: first result",
    },
}
TITLES = {"bare": "bare loop", "throughput": "**streamq**"}


def number(value: float | None) -> str:
    """Three or more digits that count, thousands apart."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table with straight columns: texts to the left, numbers to the right."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    yield "| " + " | ".join(h.ljust(w) for h, w in zip(heads, widths, strict=True)) + " |"
    yield "| " + " | ".join("-" * w for w in widths) + " |"
    for row in rows:
        yield "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"


def machine() -> str:
    """Processor and cores, as the operating system tells them."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.split(": ", 1)[1] for x in lines if x.startswith("model name")), model)
    return f"{len(os.sched_getaffinity(0))} cores ({model})"
