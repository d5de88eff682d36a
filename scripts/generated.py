"""Files that a script writes from a source, and that checks compare with it."""

import sys
from pathlib import Path


def write_or_check(path: Path, text: str) -> int:
    """Write a generated file, or with ``--check`` on the command line compare it.

    Returns the exit code: 1 if it differs, which is said.
    """
    if "--check" not in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        print(f"{path} is not up to date: run python {sys.argv[0]}", file=sys.stderr)
        return 1
    return 0
