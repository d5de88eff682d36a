"""Tables on a terminal: as wide as it is, and no word is broken."""

import pytest

from streamq.cli import tables
from streamq.cli.tables import fitting_widths, show_facts, show_table

COLUMNS = ("task", "why")
ROWS = [("shop.tasks.send_a_mail", "the server has hung up " * 4)]


@pytest.fixture
def terminal(monkeypatch):
    """Sets the columns of the terminal."""
    return lambda columns: monkeypatch.setattr(tables, "columns_of_terminal", lambda: columns)


def test_a_column_of_words_gives_way_and_one_of_names_does_not():
    assert fitting_widths(COLUMNS, ROWS, 200) == [22, 92]
    assert fitting_widths(COLUMNS, ROWS, 60) == [22, 36]
    assert fitting_widths(COLUMNS, ROWS, 44) == [22, 20]
    assert fitting_widths(COLUMNS, ROWS, 43) is None, "words below each other are hard to read"


@pytest.mark.parametrize("columns", [200, 60, 25, 10])
def test_no_word_is_broken_at_any_width(columns, terminal, capsys):
    terminal(columns)

    show_table(COLUMNS, ROWS, empty="")

    words = capsys.readouterr().out.split()
    assert words.count("shop.tasks.send_a_mail") == 1
    assert words.count("server") == 4


def test_rows_of_a_table_that_does_not_fit_are_lists_of_facts(terminal, capsys):
    terminal(30)

    show_table(COLUMNS, [*ROWS, ("b", "")], empty="")

    assert capsys.readouterr().out.splitlines() == [
        "shop.tasks.send_a_mail",
        "  why  the server has hung up",
        "       the server has hung up",
        "       the server has hung up",
        "       the server has hung up",
        "b",
    ]


def test_a_fact_of_one_long_word_is_not_broken(terminal, capsys):
    terminal(20)

    show_facts("redis", {"url": f"redis://{'a' * 40}"})

    assert capsys.readouterr().out == f"redis\n  url  redis://{'a' * 40}\n"
