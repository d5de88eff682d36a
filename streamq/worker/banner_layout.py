"""The layout of the banner on a terminal: lines that fit, and colours."""

import re
import textwrap
from collections.abc import Sequence

from streamq.runner.terminal import BOLD, CYAN, DIM, RED, Style

#: Columns before the facts of a line, where its label stands.
INDENT = " " * 10
#: The version in the first line, where a setting comes from, and what has to be looked at.
VERSION, ORIGIN = re.compile(r"^streamq \S+"), re.compile(r"\[[^\]]*\]$")
#: A space inside of a fact, such as ``pid 7``, and what keeps textwrap from breaking there.
INSIDE, KEPT = re.compile(r"(?<=[^\s·,]) (?=[^\s·])"), "\0"
ALARM = re.compile(r"none registered!")


def laid_out(banner: str, queues: Sequence[str], style: Style, columns: int | None) -> str:
    """The banner in this style; on a terminal of so many columns no word is broken."""
    if not style.is_terminal:
        return banner
    return "\n".join(
        painted(line, label_of(whole), queues, style)
        for whole in banner.split("\n")
        for line in fitted(whole, columns)
    )


def label_of(line: str) -> str:
    """The label of a line of the banner, such as ``queues``; '' if it has none."""
    return line[: len(INDENT)].strip() if line.startswith("  ") else ""


def fitted(line: str, columns: int | None) -> list[str]:
    """Break a line between its facts, else at spaces; a word that is too long stays whole."""
    if columns is None or len(line) <= columns:
        return [line]
    lines = [each.replace(KEPT, " ") for each in wrapped(INSIDE.sub(KEPT, line), columns)]
    return lines if max(map(len, lines)) <= columns else wrapped(line, columns)


def wrapped(line: str, columns: int) -> list[str]:
    return textwrap.wrap(
        line, columns, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )


def painted(line: str, label: str, queues: Sequence[str], style: Style) -> str:
    """A line of the banner in its colours."""
    line = VERSION.sub(lambda found: style.paint(found[0], BOLD), line)
    line = ALARM.sub(lambda found: style.paint(found[0], RED), line)
    line = ORIGIN.sub(lambda found: style.paint(found[0], DIM), line)
    if label == "queues":
        names = "|".join(map(re.escape, queues))
        word = re.compile(rf"(?<![^\s,])(?:{names})(?=[,\s]|$)")
        line = word.sub(lambda found: style.paint(found[0], CYAN), line)
    return line
