"""Results of tasks that were run where they were called."""

from typing import Any, Self

import streamq.celery.states as states
from streamq.celery.async_result import AsyncResult


class EagerResult(AsyncResult):
    """The result of a task that was run where it was called: value or exception, and state."""

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: Any = None,
        name: str | None = None,
    ) -> None:
        self.id = str(id)
        self.task_name = name
        self._value, self._state, self._traceback = ret_value, state, traceback

    @property
    def state(self) -> str:
        """The state in which the task ended."""
        return self._state

    status = state

    @property
    def info(self) -> Any:
        """The value, or the exception."""
        return self._value

    result = info

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task, as text."""
        return None if self._traceback is None else str(self._traceback)

    def record(self) -> Any:
        """There is no record."""
        return {}

    def _text(self, name: str) -> str | None:
        """There is no record."""
        return None

    def ready(self) -> bool:
        """Whether the task has ended: it has."""
        return True

    def successful(self) -> bool:
        """Whether the task has succeeded."""
        return self._state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task has ended with an exception."""
        return self._state == states.FAILURE

    def get(  # type: ignore[override]
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **ignored: Any,
    ) -> Any:
        """Return the value, or raise what the task raised; with ``propagate=False`` return that."""
        if self._state in states.PROPAGATE_STATES and propagate:
            raise self._value if isinstance(self._value, BaseException) else Exception(self._value)
        return self._value

    wait = get  # type: ignore[assignment]

    async def aget(self, timeout: float | None = None, **options: Any) -> Any:
        """``get`` for asyncio."""
        return self.get(propagate=options.get("propagate", True))

    def forget(self) -> None:
        """Do nothing: there is no record."""

    def revoke(self, *args: Any, **options: Any) -> None:
        """Note that the task was revoked."""
        self._state = states.REVOKED

    def __reduce__(self) -> Any:
        fields = (self.id, self._value, self._state, self._traceback, self.task_name)
        return type(self), fields

    def __copy__(self) -> Self:
        fields = (self.id, self._value, self._state, self._traceback, self.task_name)
        return type(self)(*fields)

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
