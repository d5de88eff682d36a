"""Eager calls of streamq.celery: run where they are made, without a serializer between.

A task gets the very objects of the caller, and the caller what the task returns, as with Celery:
tests hand over models, mocks and files.
"""

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import streamq.celery.states as states
from streamq.celery.result import EagerResult
from streamq.context import lineage
from streamq.core.delivery import Delivery
from streamq.core.message import Message
from streamq.core.outcome import Outcome, RunLater
from streamq.errors import Ignore, MaxRetriesExceeded
from streamq.execution.eager import MOST_TRIES, EagerExecutor, drop
from streamq.execution.hooks import ExceptionInfo
from streamq.execution.outcomes import Outcomes
from streamq.host.ids import new_id
from streamq.tasks import Signature, Task

#: What stands in a message for arguments that are handed over as they are.
NO_ARGS, NO_KWARGS = b"[]", b"{}"


class Ended(NamedTuple):
    """How an eager run ended: its state, and the value or the exception."""

    state: str
    value: Any


class EagerOutcomes(Outcomes):
    """The maker of outcomes of eager runs: it keeps values and exceptions as they are."""

    ended = Ended(states.PENDING, None)

    def returned(self, delivery: Delivery, value: Any, seconds: float) -> Outcome:
        """Make the outcome of a task that returned ``value``."""
        self.ended = Ended(states.SUCCESS, value)
        return Outcome(delivery, b"SUCCESS", ())

    def failed(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a task that failed and is not retried."""
        self.ended = Ended(states.FAILURE, error)
        return super().failed(delivery, error, seconds)

    def raised(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a task that raised this exception."""
        if isinstance(error, Ignore):
            self.ended = Ended(states.IGNORED, error)
        return super().raised(delivery, error, seconds)


class DirectExecutor(EagerExecutor):
    """The executor of eager calls whose arguments are not decoded."""

    arguments: tuple[list[Any], dict[str, Any]] = ([], {})

    def decode(
        self, fields: Mapping[bytes, bytes], task: Task[..., Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the caller; those that a retry gave in their place are decoded."""
        args, kwargs = fields.get(b"args", NO_ARGS), fields.get(b"kwargs", NO_KWARGS)
        if (args, kwargs) == (NO_ARGS, NO_KWARGS):
            return self.arguments
        found, named = super().decode(fields, task)
        mine = self.arguments
        return (mine[0] if args == NO_ARGS else found), (mine[1] if kwargs == NO_KWARGS else named)


def run_eagerly(
    app: Any, signature: Signature, *, throw: bool | None = None, retries: int = 0
) -> EagerResult:
    """Run a call here, and return its EagerResult.

    With ``throw``, else by the setting task_eager_propagates, what the task raises is raised.
    """
    task = signature.task or app.tasks[signature.name]
    template = app.templates.for_local_run(signature)
    id = signature.options.get("task_id") or new_id()
    outcomes = EagerOutcomes(app.tasks, app.payloads, app.conf)
    executor = DirectExecutor(
        outcomes, hostname=socket.gethostname(), report=drop, middleware=app.middleware
    )
    executor.arguments = (list(signature.args), dict(signature.kwargs))
    publication = template.publication(id, NO_ARGS, NO_KWARGS, given=True, more=lineage())
    (message,) = Message.read(publication)
    fields = message.entry
    if retries:
        fields[b"retries"] = b"%d" % retries
    ended = run_to_end(executor, outcomes, task, fields)
    trace = None
    if isinstance(ended.value, BaseException):
        trace = str(ExceptionInfo(ended.value))
        propagate = app.conf.task_eager_propagates if throw is None else throw
        if propagate and ended.state == states.FAILURE:
            raise ended.value
    return EagerResult(id, ended.value, ended.state, trace, name=task.name)


def run_to_end(
    executor: DirectExecutor, outcomes: EagerOutcomes, task: Task[..., Any], fields: dict[Any, Any]
) -> Ended:
    """Run a message and the retries that it asks for, without their pauses."""
    policy = executor.policy_of(task)
    for _ in range(MOST_TRIES):
        delivery = Delivery("here", b"0-0", fields)
        delivery.policy = policy
        outcome = executor.run(delivery)
        if not isinstance(outcome.then, RunLater):
            return outcomes.ended
        fields |= outcome.then.changes
    return Ended(
        states.FAILURE,
        MaxRetriesExceeded(
            f"{task.name} was tried {MOST_TRIES:,} times at once, and asks to be tried again",
            advice=["only a worker pauses between two tries; give max_retries to end it here"],
        ),
    )
