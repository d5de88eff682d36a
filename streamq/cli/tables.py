"""Tables and lists of facts as text; the only command module that imports rich."""

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from streamq.cli.shared import print_json
from streamq.core.text import shortened, visible

T = TypeVar("T")

#: Columns of output to a file or a pipe: no line is wrapped there.
UNBOUNDED = 100_000
#: Columns between the columns of a table.
GAP = 2
#: Columns in which text that is longer can be read.
READABLE = 20
#: Characters of a cell.  Every name that streamq accepts fits.
WIDEST = 256


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows, numbers aligned to the right; without rows, print ``empty``.

    A cell longer than ``WIDEST`` characters is cut; ``--json`` shows it whole.  Where a terminal
    is too narrow for a table without broken words, each row is printed as a list of facts.
    """
    rows = list(rows)
    if not rows:
        click.echo(empty)
        return
    shown = [[visible(shortened(str(value), WIDEST)) for value in row] for row in rows]
    widths = fitting_widths(columns, shown, columns_of_terminal())
    if widths is None:
        show_rows_as_facts(columns, shown)
        return
    numbers = [all(isinstance(row[index], int) for row in rows) for index in range(len(columns))]
    if fits(shown, widths):
        show_lines(columns, shown, widths, numbers)
        return
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name, width, right in zip(columns, widths, numbers, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold", width=width)
    for cells in shown:
        table.add_row(*map(Text, cells))
    draw(table, sum(widths) + GAP * len(widths))


def fits(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> bool:
    """Whether each cell is one line that its column has room for."""
    return all(
        cell_len(cell) <= width and "\n" not in cell
        for row in rows
        for cell, width in zip(row, widths, strict=True)
    )


def show_lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    numbers: Sequence[bool],
) -> None:
    """Print a table each row of which is one line: rich takes long for many."""

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, width, right in zip(cells, widths, numbers, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if right else cell + space)
        return (" " * GAP).join(padded)

    draw(Text(line(columns), style="bold"), sum(widths) + GAP * len(widths))
    click.echo("".join(f"{line(row).rstrip()}\n" for row in rows), nl=False)


def fitting_widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], most: int
) -> list[int] | None:
    """The widths of columns with which a table fits into ``most`` columns; None if none are.

    No word is broken: a column is as wide as its longest one, or as ``READABLE``, and shares what
    is left.
    """
    cells = [[name, *(row[index] for row in rows)] for index, name in enumerate(columns)]
    whole = [max(map(longest_line, column)) for column in cells]
    least = [
        max(*map(longest_word, column), min(width, READABLE))
        for column, width in zip(cells, whole, strict=True)
    ]
    room = most - GAP * (len(columns) - 1)
    if sum(whole) <= room:
        return whole
    left, wanted = room - sum(least), sum(whole) - sum(least)
    if left < 0:
        return None
    return [low + left * (high - low) // wanted for low, high in zip(least, whole, strict=True)]


def longest_line(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def show_rows_as_facts(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as its first cell, and the others below it with the names of their columns."""
    for first, *others in rows:
        named = zip(columns[1:], others, strict=True)
        show_facts(first, {name: value for name, value in named if value})


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
    shown = {f"  {name}": visible(value) for name, value in facts.items() if value is not None}
    names = max(map(cell_len, shown), default=0)
    room = columns_of_terminal() - names - GAP
    values = max((fitting(value, room) for value in shown.values()), default=0)
    table = Table(box=None, show_header=False, padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column(width=names)
    table.add_column(width=values, overflow="fold")
    for name, value in shown.items():
        table.add_row(Text(name), Text(value))
    draw(Text(visible(title), style="bold"), longest_word(visible(title)))
    if table.row_count:
        draw(table, names + values + 2 * GAP)


def fitting(text: str, room: int) -> int:
    """The width in which no word of a text is broken, and no more than ``room`` if that is it."""
    return max(longest_word(text), min(longest_line(text), room))


def columns_of_terminal() -> int:
    """The columns of the terminal; more than any line has for a file or a pipe."""
    return Console(file=sys.stdout).width if sys.stdout.isatty() else UNBOUNDED


def draw(what: RenderableType, least: int) -> None:
    """Print in the width of the terminal, without colours if NO_COLOR is set.

    Lines are ``least`` columns long where a terminal is narrower: it breaks them itself.
    """
    drawn = io.StringIO()
    console = Console(
        file=drawn, force_terminal=sys.stdout.isatty(), markup=False, highlight=False, emoji=False
    )
    console.width = max(columns_of_terminal(), least)
    console.print(what)
    click.echo("".join(f"{line.rstrip()}\n" for line in drawn.getvalue().splitlines()), nl=False)
