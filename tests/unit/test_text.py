"""Text for people."""

import pytest

from streamq.core.text import first_few


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ([], {}, ""),
        ("abcde", {}, "a, b, c, d, e"),
        ("abcdef", {}, "a, b, c, d, e and 1 more"),
        ("ab", {"most": 2, "total": 1205}, "a, b and 1 203 more"),
        ("abc", {"most": 2, "separator": "  "}, "a  b and 1 more"),
    ],
)
def test_the_first_names_are_written_and_the_others_counted(names, options, said):
    assert first_few(names, **options) == said
