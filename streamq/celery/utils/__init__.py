"""Utilities by Celery's names."""

from functools import cached_property
from uuid import uuid4

__all__ = ["cached_property", "gen_unique_id", "uuid"]


def uuid() -> str:
    """Make an id for a task: a random UUID as text."""
    return str(uuid4())


gen_unique_id = uuid
