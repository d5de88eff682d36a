"""Values of settings as they were given."""

from typing import NamedTuple


class GivenValue(NamedTuple):
    """A value as it was given, with its name and source.

    ``prefix`` is what names begin with in that source; such names are upper-case.  ``written``
    is the name there, if it is not ``name``.
    """

    name: str
    value: object
    origin: str
    prefix: str = ""
    written: str = ""

    def spell(self, name: str) -> str:
        """Write a name as names are written in the source of this value."""
        return f"{self.prefix}{name.upper()}" if self.prefix else name
