"""The Django of this process: found where a program has loaded it, never imported."""

import sys
from typing import Any


def loaded_database() -> Any | None:
    """Return the module ``django.db``; None if nothing has imported it: no connection exists."""
    return sys.modules.get("django.db")


def database_in_use() -> Any | None:
    """Return the module ``django.db`` of a process in which Django is set up; else None."""
    registry = getattr(sys.modules.get("django.apps"), "apps", None)
    return loaded_database() if getattr(registry, "ready", False) is True else None
