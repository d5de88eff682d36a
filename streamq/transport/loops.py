"""Timeouts in asyncio that also work where the clock of the loop is frozen.

Tests of users freeze it: then an event loop runs no timer.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable
from typing import TypeVar

from streamq.host import clock

R = TypeVar("R")

#: Seconds by which the clock of a loop may differ from ours; a frozen one differs by years.
CLOCK_TOLERANCE = 60.0


async def within(act: Awaitable[R], seconds: float) -> R:
    """``asyncio.wait_for``, by our clock if that of the loop differs.  Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    if abs(loop.time() - clock.monotonic()) < CLOCK_TOLERANCE:
        return await asyncio.wait_for(act, seconds)
    future = asyncio.ensure_future(act)
    late = threading.Event()

    def cancel() -> None:
        late.set()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(future.cancel)

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), cancel)
    timer.daemon = True
    timer.start()
    try:
        return await future
    except asyncio.CancelledError:
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


async def pause(seconds: float) -> None:
    """``asyncio.sleep``, by the same clock as ``within``."""
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with contextlib.suppress(TimeoutError):
        await within(never, seconds)
