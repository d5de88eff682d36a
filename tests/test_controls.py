"""What the controls change in the product is there to be changed.

Most controls run late in a long suite.  Whoever renames something that one of them breaks
shall hear of it at once.
"""

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.guards.test_guards import GUARDS

CHECKOUT = Path(__file__).parent.parent
#: What stands in tests for the folder of the scripts.
SCRIPTS = {"LUA": "scripts/lua/"}


class Edit(NamedTuple):
    """A text of a file that a test replaces."""

    test: str
    file: str
    text: str


def edits(test: Path) -> Iterator[Edit]:
    """The edits in a file of tests: a product's file, followed by a text that is known here."""
    tree = ast.parse(test.read_text())
    known = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(args=members) | ast.Tuple(elts=members):
                for one, following in itertools.pairwise(members):
                    if (file := file_of(one)) and (text := text_of(following, known)):
                        yield Edit(test.name, file, text)


def file_of(node: ast.expr) -> str:
    """The file of the product that this names, if it does."""
    match node:
        case ast.Constant(value=str(name)) if name.startswith("streamq/") and ".py" in name:
            return name
        case ast.Constant(value=str(name)) if name.endswith(".lua"):
            return SCRIPTS["LUA"] + name.removeprefix(SCRIPTS["LUA"])
        case ast.BinOp(left=ast.Name(id=place), right=ast.Constant(value=str(name))):
            return SCRIPTS[place] + name if place in SCRIPTS else ""
    return ""


def text_of(node: ast.expr, known: dict[str, ast.expr]) -> str:
    """The text that this stands for, if it can be told without running it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in known:
            return text_of(known[name], {})
    return ""


ALL = [edit for test in sorted((CHECKOUT / "tests").rglob("*.py")) for edit in edits(test)]


@pytest.mark.parametrize("edit", ALL, ids=lambda edit: f"{edit.test}: {edit.file}")
def test_what_a_control_changes_is_there_once(edit):
    found = (CHECKOUT / edit.file).read_text().count(edit.text)

    assert found == 1, f"{edit.test} changes {edit.text!r} in {edit.file}"


def test_controls_are_found():
    assert {edit.file for edit in ALL} >= {
        "streamq/worker/services/hard_limits.py",
        "streamq/worker/lease_view.py",
        "scripts/lua/recover.lua",
    }


def test_no_guard_brings_a_name_that_does_not_exist(tmp_path):
    """Else its test fails for another reason than the guard that is missing."""
    for number, guard in enumerate(GUARDS):
        for file in {edit[0] for edit in guard.edits if edit[0].endswith(".py")}:
            text = (CHECKOUT / file).read_text()
            for _, old, new in (edit for edit in guard.edits if edit[0] == file):
                text = text.replace(old, new)
            (tmp_path / f"{number}-{Path(file).name}").write_text(text)

    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821"]
    done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
