"""The checkout with some lines changed: what runs where a guard is missing."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
#: The package and its scripts.
PACKAGE = ("streamq", "scripts")

#: A line of the product, and what stands there instead: (file, line, instead).
Edit = tuple[str, str, str]


def copy_checkout(
    folder: Path, edits: Iterable[Edit] = (), *, parts: Iterable[str] = PACKAGE
) -> None:
    """Copy parts of the checkout, and change lines of the copy.

    What stays as it is is a hard link where that works.  No symbolic one: what looks for what lies
    beside itself would find the checkout, and its Lua scripts.
    """
    unfinished = shutil.ignore_patterns("*.pyc.*")  # somebody compiles meanwhile
    for part in parts:
        if (CHECKOUT / part).is_dir():
            shutil.copytree(
                CHECKOUT / part, folder / part, ignore=unfinished, copy_function=link_or_copy
            )
        else:
            link_or_copy(CHECKOUT / part, folder / part)
    for edit in edits:
        change(folder, *edit)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; a copy where it cannot have one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def change(folder: Path, file: str, line: str, instead: str) -> None:
    """Put something else in the place of a line that a file of a copy has once."""
    path = folder / file
    text = path.read_text()
    assert text.count(line) == 1, f"{file} has changed: {line!r}"
    path.unlink()  # the other name of the file keeps what it says
    path.write_text(text.replace(line, instead))
