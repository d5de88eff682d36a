"""The pictures of the documentation are what their scripts make of their sources."""

import inspect
import re
import xml.etree.ElementTree as ET

import pytest

from docs.pictures import architecture, terminal
from streamq.transport.keys import Keys

SCRIPTS = {
    "architecture": (architecture.draw, architecture.SOURCE, architecture.PICTURE),
    "terminal": (terminal.draw, terminal.TRANSCRIPT, terminal.PICTURE),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_committed_picture_is_drawn_from_the_committed_source(name):
    draw, source, picture = SCRIPTS[name]

    drawn = draw(source.read_text(encoding="utf-8"))

    assert picture.read_text(encoding="utf-8") == drawn, "draw it again: make pictures"
    assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


def key_names():
    """Every key that streamq makes, with NAME for each part that varies."""
    keys = Keys()
    for name, member in inspect.getmembers_static(Keys):
        if isinstance(member, property):
            yield getattr(keys, name)
        elif inspect.isfunction(member) and not name.startswith("_") and name != "streams":
            given = list(inspect.signature(member).parameters.values())[1:]
            needed = [each for each in given if each.default is each.empty]
            yield getattr(keys, name)(*["NAME"] * len(needed))


def test_every_key_in_the_architecture_picture_exists():
    shown = re.findall(r"\{streamq\}[\w:]+", architecture.PICTURE.read_text(encoding="utf-8"))

    assert len(shown) > 5
    assert {re.sub(r"\b[A-Z]+\b", "NAME", key) for key in shown} <= set(key_names())


def test_every_script_in_the_architecture_picture_exists():
    shown = re.findall(r"(\w+)\.lua", architecture.PICTURE.read_text(encoding="utf-8"))
    folder = architecture.HERE.parents[1] / "scripts" / "lua"

    assert "settle" in shown
    assert [name for name in shown if not (folder / f"{name}.lua").exists()] == []


def test_the_terminal_picture_shows_the_quick_start():
    worker, producer = terminal.terminals_in(terminal.TRANSCRIPT.read_text(encoding="utf-8"))

    assert worker.lines[0] == "$ streamq worker"
    assert [line for line in producer.lines if line.startswith("$ ")] == [
        f"$ {command}" for command in terminal.COMMANDS
    ]
    assert "→ 5" in producer.lines
    widest = max(map(len, [*worker.lines, *producer.lines]))
    assert widest <= terminal.COLUMNS, "a line is cut off: COLUMNS"
