"""Census: every row of the table has a test."""

import re
from pathlib import Path

#: The rows of the table: what 18 public projects use of Celery.
ROWS = range(1, 87)


def test_every_row_of_the_census_has_a_test():
    text = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"(?:def test_|id=\")rows?_(\d+)", text)

    assert {int(number) for number in named} == set(ROWS)
