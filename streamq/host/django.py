"""The Django of this process: found where a program has loaded it, never imported."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")


def loaded_database() -> Any | None:
    """Return the module ``django.db``; None if nothing has imported it: no connection exists."""
    return sys.modules.get("django.db")


def database_in_use() -> Any | None:
    """Return the module ``django.db`` of a process in which Django is set up; else None."""
    registry = getattr(sys.modules.get("django.apps"), "apps", None)
    return loaded_database() if getattr(registry, "ready", False) is True else None


async def call_beside_loop(function: Callable[[], R]) -> R:
    """Call a function from asyncio: where Django is set up, in its thread for synchronous code.

    Django refuses its database on the thread of a running event loop.
    """
    if database_in_use() is None:
        return function()
    found: R = await sys.modules["asgiref.sync"].sync_to_async(function)()
    return found
