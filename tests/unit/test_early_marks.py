"""The mark that an early message leaves: what it holds, and what somebody else has written."""

import pytest

from streamq.broker.consumer import fields_of_mark, mark_of
from streamq.core.delivery import Delivery

BYTES = {b"id": b"a", b"task": b"tasks.add", b"args": bytes(range(256))}


def test_every_byte_of_a_message_comes_back():
    assert fields_of_mark(mark_of(Delivery("mail", b"1-1", dict(BYTES)))) == BYTES


@pytest.mark.parametrize(
    "mark",
    [
        *(b"", b"junk", b"\xff", b"null", b"[]", b"{}", b'{"fields": 7}', b'{"fields": [7]}'),
        b'{"fields": ["odd"]}',
        b'{"fields": ["id", "\\u2603"]}',
    ],
)
def test_what_somebody_else_has_written_is_no_message(mark):
    assert fields_of_mark(mark) is None
