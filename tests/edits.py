"""Copies of the checkout with some lines changed, to run it without a guard."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
#: The package and its scripts.
PACKAGE = ("streamq", "scripts")

#: A change of a line of the product: (file, line, replacement).
Edit = tuple[str, str, str]


def copy_checkout(
    folder: Path, edits: Iterable[Edit] = (), *, parts: Iterable[str] = PACKAGE
) -> None:
    """Copy parts of the checkout, and change lines of the copy.

    Unchanged files are hard links where that works.  Symbolic links would not do: code that looks
    for files beside itself would find the checkout, and its Lua scripts.
    """
    unfinished = shutil.ignore_patterns("*.pyc.*")  # another process may compile meanwhile
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
    """Hard-link a file; copy it where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def change(folder: Path, file: str, line: str, instead: str) -> None:
    """Replace a line that a file of the copy contains exactly once."""
    path = folder / file
    text = path.read_text()
    assert text.count(line) == 1, f"{file} has changed: {line!r}"
    path.unlink()  # so that the file of the checkout, a hard link, stays unchanged
    path.write_text(text.replace(line, instead))
