"""What people see on a terminal: colours and short ids; a file gets neither."""

import os
import re
from dataclasses import dataclass

from streamq.config.config import environment

#: Colours by their number in the escape sequence of a terminal.
BOLD, DIM, RED, GREEN, YELLOW, MAGENTA, CYAN = "1", "2", "31", "32", "33", "35", "36"

#: The part of an id of ours that is left out: its last 8 digits are chance, what stands before
#: them is mostly the time.
BEGINNING_OF_ID = re.compile(r"\b[0-9a-f]{18}(?=[0-9a-f]{8}(?![0-9a-f]))")


@dataclass(frozen=True, slots=True)
class Style:
    """How to write: for a terminal or a file, and with colours or without."""

    is_terminal: bool = False
    has_colours: bool = False

    @classmethod
    def of(cls, descriptor: int) -> "Style":
        """The style of an open file.  NO_COLOR, and a terminal without any, mean no colours."""
        is_terminal = os.isatty(descriptor)
        plain = environment("NO_COLOR") is not None or environment("TERM") in (None, "dumb")
        return cls(is_terminal, is_terminal and not plain)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, if there are any."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.has_colours and colour and text else text

    def short_ids(self, text: str) -> str:
        """The text with ids of ours cut to their last 8 digits, on a terminal."""
        return BEGINNING_OF_ID.sub("…", text) if self.is_terminal else text


def columns_of(descriptor: int) -> int | None:
    """The width of a terminal in characters; None for a file, and for a width that is unknown."""
    try:
        return os.get_terminal_size(descriptor).columns or None
    except OSError:
        return None
