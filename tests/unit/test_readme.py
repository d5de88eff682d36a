"""The figures in the README are those of the last table of the benchmarks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")

#: The column of the tasks that run in a second, and the names of the numbers in the README.
DRAIN, NUMBERS = 1, {"fifty": 50, "forty": 40, "sixty": 60}


def figures_of(library):
    """The figures of a library, one list for each table: without and with Redis on disk."""
    rows = re.findall(rf"^\| \**{library}\**\s+\|(.+)\|$", TABLES, re.M)
    return [[float(cell.replace(" ", "")) for cell in row.split("|")] for row in rows]


def test_the_readme_says_what_was_measured_last():
    for library in ("streamq", "celery"):
        for figures in figures_of(library):
            assert f"{figures[DRAIN]:,.0f}".replace(",", " ") in README, f"{library}: {figures}"


def test_the_first_sentence_claims_no_more_than_the_slower_of_both_runs():
    (claim,) = re.findall(r"(\w+) times as fast as Celery", README)

    ratios = [
        ours[DRAIN] / theirs[DRAIN]
        for ours, theirs in zip(figures_of("streamq"), figures_of("celery"), strict=True)
    ]
    assert NUMBERS[claim] <= min(ratios)
