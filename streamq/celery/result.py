"""Results by Celery's names; those of groups are refused where they are made."""

from typing import Any, NoReturn

from streamq.celery.async_result import (
    AsyncResult,
    ResultBase,
    allow_join_result,
    denied_join_result,
)
from streamq.celery.eager_result import EagerResult
from streamq.context import NotInThisVersion

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "denied_join_result",
    "result_from_tuple",
]


class ResultSet(ResultBase):
    """The results of a group, which is not in this version: making one says so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotInThisVersion(f"not in this version: {type(self).__name__}")

    @classmethod
    def restore(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: not in this version."""
        raise NotInThisVersion(f"not in this version: {cls.__name__}.restore")


class GroupResult(ResultSet):
    """The results of a group, which is not in this version: making one says so."""


def result_from_tuple(given: Any, app: Any = None) -> AsyncResult:
    """Make a result of what ``as_tuple`` returned."""
    if isinstance(given, ResultBase):
        return given  # type: ignore[return-value]
    (id, _), nodes = given
    if nodes:
        raise NotInThisVersion("not in this version: results of a group")
    return AsyncResult(id, app=app)
