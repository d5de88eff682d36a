"""Tables and lists of facts as text; the only command module that imports rich."""

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from streamq.cli.shared import print_json
from streamq.core.text import shortened, visible

T = TypeVar("T")

#: Columns of output to a file or a pipe: no line is wrapped there.
UNBOUNDED = 100_000
#: Characters of a cell.  Every name that streamq accepts fits.
WIDEST = 256


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows, numbers aligned to the right; without rows, print ``empty``.

    A cell longer than ``WIDEST`` characters is cut; ``--json`` shows it whole.
    """
    rows = list(rows)
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        numbers = all(isinstance(row[index], int) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(shortened(str(value), WIDEST))) for value in row))
    draw(table)


def show_list(
    items: Sequence[T],
    columns: Sequence[str],
    row_of: Callable[[T], Sequence[Any]],
    *,
    empty: str,
    as_json: bool,
    described: Callable[[Any], Any] = asdict,
) -> None:
    """Print items as a table, or as JSON, where ``described`` converts each of them."""
    if as_json:
        print_json([described(item) for item in items])
    else:
        show_table(columns, map(row_of, items), empty=empty)


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print a title, and below it names and values, except those that are None."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, value in facts.items():
        if value is not None:
            table.add_row(Text(f"  {name}"), Text(visible(value)))
    draw(Text(visible(title), style="bold"))
    if table.row_count:
        draw(table)


def draw(what: RenderableType) -> None:
    """Print in the width of the terminal, without colours if NO_COLOR is set."""
    drawn = io.StringIO()
    terminal = sys.stdout.isatty()
    console = Console(
        file=drawn, force_terminal=terminal, markup=False, highlight=False, emoji=False
    )
    if not terminal:
        console.width = UNBOUNDED
    console.print(what)
    click.echo("".join(f"{line.rstrip()}\n" for line in drawn.getvalue().splitlines()), nl=False)
