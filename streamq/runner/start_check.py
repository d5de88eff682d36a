"""Start checks: may messages that were read run, or have they been revoked or expired?"""

from collections.abc import Callable, Sequence
from typing import Any

from streamq.broker.consumer import Consumer
from streamq.core.delivery import Delivery

#: Sends commands in one packet and returns their replies.
SendCommands = Callable[[list[tuple[Any, ...]]], list[Any]]

#: Why a message is not run, by the letter that check_start.lua answers.
REASONS = {"r": b"revoked", "e": b"expired"}


def not_runnable(
    consumer: Consumer, asked: Sequence[Delivery], send: SendCommands
) -> dict[Delivery, bytes]:
    """Ask Redis which of these messages must not run; return the reason for each of those."""
    answer = send([consumer.check_start_command(asked)])[0]
    if isinstance(answer, Exception):
        raise answer
    return {
        delivery: REASONS[letter]
        for delivery, letter in zip(asked, answer.decode(), strict=True)
        if letter != "1"
    }
