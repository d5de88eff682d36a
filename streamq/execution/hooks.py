"""Hooks and signals around a run: the methods of a task's class, and what users connect.

The order is that of Celery: task_prerun, before_start, the function; then on_success,
task_success, after_return, task_postrun; or on_retry, task_retry, task_postrun; or on_failure,
task_failure, after_return, task_postrun.  All that follows the function comes when the outcome is
known, and before it is settled.
"""

import logging
import traceback
from collections.abc import Callable
from typing import Any

from streamq.context import Running
from streamq.core.outcome import Outcome, RunLater
from streamq.core.termination import SIGTERM
from streamq.errors import Ignore, Reject, SoftTimeLimitExceeded, Stopped, Terminated
from streamq.signals import (
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_revoked,
    task_success,
)
from streamq.tasks import HOOKS, Task

logger = logging.getLogger("streamq.worker")


class ExceptionInfo:
    """An exception as hooks and receivers get it: ``einfo``; as text it is the traceback."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.type = type(exception)

    @property
    def traceback(self) -> str:
        """The traceback as text."""
        return "".join(traceback.format_exception(self.exception))

    @property
    def tb(self) -> Any:
        """The traceback as an object."""
        return self.exception.__traceback__

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"


def has_hooks(task: Task[..., Any]) -> bool:
    """Whether the class of a task overrides one of the hooks."""
    return any(getattr(type(task), name) is not getattr(Task, name) for name in HOOKS)


def before_run(running: Running) -> None:
    """Send task_prerun, then call before_start, whose exceptions are those of the task."""
    task, request = running.task, running.request
    arguments = {"args": request.args, "kwargs": request.kwargs}
    if task_prerun.links:
        task_prerun.send(task, task_id=request.id, task=task, **arguments)
    task.before_start(request.id, request.args, request.kwargs)


def after_run(running: Running, outcome: Outcome) -> None:
    """Call the hooks and send the signals of this outcome.

    The outcome stands: whatever is raised here is logged, a limit of the task's too.
    """
    try:
        state, returned = report(running, outcome)
        if task_postrun.links:
            task, request = running.task, running.request
            task_postrun.send(
                task,
                task_id=request.id,
                task=task,
                args=request.args,
                kwargs=request.kwargs,
                retval=returned,
                state=state,
            )
    except (SoftTimeLimitExceeded, Stopped):
        logger.warning("%s: its time was up after it had ended", running.name)
    finally:
        running.value = running.error = None  # their frames refer to this run


def report(running: Running, outcome: Outcome) -> tuple[str, Any]:
    """Call the hooks and send the signals before task_postrun; return the state and the value."""
    error = running.error
    if error is None:
        succeeded(running)
        return "SUCCESS", running.value
    if isinstance(outcome.then, RunLater):
        reason = reason_of(error)
        while_handling(reason, tried_again, running, error, reason)
        return "RETRY", error
    kind = type(error)  # ``isinstance`` would run code of the exception
    if issubclass(kind, Terminated):
        if task_revoked.links:
            facts = {"terminated": True, "signum": SIGTERM, "expired": False}
            task_revoked.send(running.task, request=running.request, **facts)
        return "REVOKED", error
    if issubclass(kind, Ignore):
        return "IGNORED", error
    if issubclass(kind, Reject):
        return "REJECTED", error
    while_handling(error, failed, running, error)
    return "FAILURE", error


def while_handling(error: BaseException, function: Callable[..., object], *given: Any) -> None:
    """Call a function as an ``except`` does: sys.exc_info() and logger.exception see the error."""
    frames, context = error.__traceback__, error.__context__
    try:
        raise error
    except BaseException as caught:
        if caught is not error:  # the task is stopped
            raise
        BaseException.with_traceback(error, frames)  # without this frame
        BaseException.__setattr__(error, "__context__", context)
        function(*given)


def succeeded(running: Running) -> None:
    """Report a run that has returned."""
    task, request, value = running.task, running.request, running.value
    call(task.on_success, value, request.id, request.args, request.kwargs)
    if task_success.links:
        task_success.send(task, result=value)
    call(task.after_return, "SUCCESS", value, request.id, request.args, request.kwargs, None)


def reason_of(asked: BaseException) -> BaseException:
    """The exception for which a Retry asks; itself if there is none."""
    reason: Any = getattr(asked, "exc", None)
    return reason if issubclass(type(reason), BaseException) else asked


def tried_again(running: Running, asked: BaseException, reason: BaseException) -> None:
    """Report a run that is to be tried again; ``asked`` is the Retry."""
    task, request, info = running.task, running.request, ExceptionInfo(reason)
    call(task.on_retry, reason, request.id, request.args, request.kwargs, info)
    if task_retry.links:
        task_retry.send(task, request=request, reason=asked, einfo=info)


def failed(running: Running, error: BaseException) -> None:
    """Report a run that has failed, and is not tried again."""
    task, request, info = running.task, running.request, ExceptionInfo(error)
    call(task.on_failure, error, request.id, request.args, request.kwargs, info)
    if task_failure.links:
        task_failure.send(
            task,
            task_id=request.id,
            exception=error,
            args=request.args,
            kwargs=request.kwargs,
            traceback=error.__traceback__,
            einfo=info,
        )
    call(task.after_return, "FAILURE", error, request.id, request.args, request.kwargs, info)


def call(hook: Callable[..., object], *arguments: Any) -> None:
    """Call a hook that follows a run; what it raises is logged."""
    try:
        hook(*arguments)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SoftTimeLimitExceeded) and error.here:
            raise
        logger.exception("%s failed", getattr(hook, "__qualname__", hook))
