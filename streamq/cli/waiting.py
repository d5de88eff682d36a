"""Waiting for a result on the command line: says when no worker can end the wait."""

from typing import Any

from streamq.broker.readers import advice_to_read, is_unread
from streamq.cli.shared import warn
from streamq.result import Result


def warn_if_unread(result: Result[Any], timeout: float | None) -> None:
    """Warn before a wait without a timeout if no worker reads the queue of the task.

    Where there is a timeout, the ResultTimeout says it.
    """
    if timeout is not None or result.ignored or result.ready():
        return
    readers = result.results.readers()
    for part in result.parts():
        queue = part.record().get("queue", b"").decode(errors="replace")
        if queue and is_unread(queue, readers):
            warn(advice_to_read(queue))
