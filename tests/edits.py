"""The checkout with some lines changed: what runs where a guard is missing."""

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
    """Copy parts of the checkout, and change lines of the copy."""
    unfinished = shutil.ignore_patterns("*.pyc.*")  # somebody compiles meanwhile
    for part in parts:
        if (CHECKOUT / part).is_dir():
            shutil.copytree(CHECKOUT / part, folder / part, ignore=unfinished)
        else:
            shutil.copy2(CHECKOUT / part, folder / part)
    for edit in edits:
        change(folder, *edit)


def change(folder: Path, file: str, line: str, instead: str) -> None:
    """Put something else in the place of a line that a file of a copy has once."""
    path = folder / file
    text = path.read_text()
    assert text.count(line) == 1, f"{file} has changed: {line!r}"
    path.write_text(text.replace(line, instead))
