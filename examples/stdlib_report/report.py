"""What the demo prints."""

import shlex
import shutil
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from streamq.devserver import server

from tasks import Report, app

console = Console(highlight=False)

#: A task's id, and what came of it.
Reports = dict[str, tuple[str, Report]]
Failures = dict[str, tuple[str, Exception]]


def say(line: str) -> None:
    """Print a line as it is."""
    console.print(Text(line), soft_wrap=True)


def summary(reports: Reports, failures: Failures, seconds: float) -> None:
    """The largest files, the totals, and what failed."""
    console.print(largest(reports))
    console.print()
    found = [report for _, report in reports.values()]
    tasks = len(reports) + len(failures)
    say(
        f"{len(found):,} files: {sum(report.lines for report in found):,} lines, "
        f"{sum(report.functions for report in found):,} functions, "
        f"{sum(report.classes for report in found):,} classes"
    )
    say(f"{tasks:,} tasks in {seconds:.1f} s: {tasks / seconds:,.0f} tasks/s")
    say(f"\n{len(failures)} failed, as a file does that Python cannot parse:")
    for name, (_, error) in sorted(failures.items()):
        reason = str(error.args[0]) if error.args else str(error)
        console.print(
            Text(f"  {name}  {type(error).__name__}: {reason}"), no_wrap=True, overflow="ellipsis"
        )


def largest(reports: Reports, count: int = 10) -> Table:
    """A table that fits into the terminal, from 80 columns on."""
    spare = max(0, console.width - 80)
    table = Table(
        title=f"The {count} largest files",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("file", overflow="ellipsis", max_width=22 + spare // 2)
    for name in ("lines", "functions", "classes"):
        table.add_column(name, justify="right")
    table.add_column("longest function", overflow="ellipsis", max_width=14 + spare // 2)
    table.add_column("sha256")
    for column in table.columns:
        column.no_wrap = True
    by_size = sorted(reports.items(), key=lambda item: -item[1][1].lines)
    for name, (_, report) in by_size[:count]:
        numbers = (report.lines, report.functions, report.classes)
        longest = f"{report.longest_lines:>3} {report.longest}"
        table.add_row(name, *map("{:,}".format, numbers), longest, report.sha256[:7])
    return table


def next_steps(begun_in: Path, reports: Reports, failures: Failures) -> None:
    """Commands that show what this has left in Redis."""
    program = Path(sys.executable).with_name("streamq")
    near = program.is_relative_to(begun_in)
    streamq = shlex.quote(str(program.relative_to(begun_in) if near else program))
    keys = app.broker.keys
    done = next(iter(reports.values()), ("ID",))[0]
    failed = failures.get("broken.py", ("ID",))[0]
    commands = {
        "a result": f"result {done}",
        "the same, as Redis has it": f"redis HGETALL '{keys.task(done)}'",
        "why broken.py failed": f"redis HGET '{keys.task(failed)}' traceback",
        "how a message found its queue": "exchanges route files module.json.decoder",
        "nothing waits, nothing is pending": f"redis XINFO GROUPS '{keys.queue('packages')}'",
    }
    say("\nLook at what is in Redis now:")
    for meaning, command in commands.items():
        say(f"  # {meaning}\n  {streamq} {command}")
    if app.conf.url is None:
        say("\nWorker and server end now.  The data stays; `streamq redis` wakes the server.")
        if shutil.which("redis-cli"):
            socket = shlex.quote(str(server.project_folder().socket))
            say(
                f"  {streamq} server start\n  redis-cli -s {socket} DBSIZE\n  {streamq} server stop"
            )
