"""A plugin of pytest: the longest tests first, and a share of the controls.

Two processes that take one test after the other end together if the longest begin first.  How long
each took stands in `tests/durations.json`, which `make durations` writes anew; a test that is not
in it takes a moment.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
#: Seconds from which on a duration is worth writing down.
LONG = 0.5
SHARE = re.compile(r"([1-9][0-9]*):([0-9a-fA-F]+)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    parser.addoption(
        "--share", metavar="COUNT:COMMIT", help="run one part of COUNT, chosen by a commit"
    )
    parser.addoption("--write-durations", action="store_true", help="write tests/durations.json")


def pytest_configure(config: pytest.Config) -> None:
    """Check the share; listen to all durations where they come together."""
    if share := config.getoption("--share"):
        part_of(share)  # else each process of a distributed run complains in its own way
    if config.getoption("--write-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the share that is asked for, and put the longest first."""
    if share := config.getoption("--share"):
        keep, leave = split(items, *part_of(share))
        items[:] = keep
        config.hook.pytest_deselected(items=leave)
    known = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    items.sort(key=lambda item: -known.get(item.nodeid, 0.0))


def part_of(share: str) -> tuple[int, int]:
    """Which part of how many: ``5:COMMIT`` is one of five."""
    if not (words := SHARE.fullmatch(share)):
        raise pytest.UsageError(f"--share is COUNT:COMMIT, such as 5:a1b2c3d, not {share!r}")
    count = int(words[1])
    return int(words[2], 16) % count, count


def split(items: list[Any], part: int, count: int) -> tuple[list[Any], list[Any]]:
    """Every ``count``-th item from this one on, and the others."""
    keep = items[part::count]
    kept = set(map(id, keep))
    return keep, [item for item in items if id(item) not in kept]


class Durations:
    """Writes down how long each test took, with its preparation."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add the duration of a phase."""
        test = report.nodeid.partition("@")[0]
        self.seconds[test] = self.seconds.get(test, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Bring the file up to date; what did not run keeps its time."""
        known = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
        known |= self.seconds
        long = {test: round(known[test], 1) for test in sorted(known) if known[test] >= LONG}
        DURATIONS.write_text(json.dumps(long, indent=0) + "\n")
