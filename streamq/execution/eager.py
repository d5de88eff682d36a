"""Eager calls: run in the process that makes them, by ``apply`` and eager mode."""

import socket
from collections.abc import Sequence
from typing import Any, Protocol

from streamq.broker.results import Results
from streamq.config.config import Config
from streamq.context import Request
from streamq.core.delivery import Delivery
from streamq.core.message import Message, MessageTemplate, Publication
from streamq.core.outcome import Outcome, RunLater
from streamq.errors import MaxRetriesExceeded, Reject, SoftTimeLimitExceeded
from streamq.execution.executor import Executor
from streamq.execution.outcomes import Outcomes
from streamq.middleware import Middleware
from streamq.producer.registry import Registry
from streamq.producer.templates import Templates
from streamq.result import Result, ResultHere
from streamq.serialization.payload import Payloads
from streamq.tasks import Signature, Task

#: The most tries of an eager task: there is no pause between two tries.
MOST_TRIES = 1000


class EagerApp(Protocol):
    """The parts of an app that an eager call uses."""

    templates: Templates

    @property
    def tasks(self) -> Registry: ...
    @property
    def no_results(self) -> Results: ...
    @property
    def payloads(self) -> Payloads: ...
    @property
    def conf(self) -> Config: ...
    @property
    def middleware(self) -> Sequence[Middleware]: ...

    def publication(
        self, signature: Signature, template: MessageTemplate
    ) -> tuple[str, Publication]: ...


class EagerExecutor(Executor):
    """The executor of eager calls, which may run inside another task."""

    eager = True

    def judge(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a run that raised this.

        Limits of an outer task are raised, and what is meant for the caller: Ctrl-C, the
        cancellation of an asyncio task, ``pytest.fail``.
        """
        if not issubclass(type(error), Exception | SystemExit | GeneratorExit):
            raise error
        if isinstance(error, SoftTimeLimitExceeded) and error.here:
            raise error
        if isinstance(error, Reject):  # there is no queue to return the message to
            return self.outcomes.failed(delivery, error, seconds)
        return super().judge(delivery, error, seconds)


def run_here(app: EagerApp, signature: Signature) -> Result[Any]:
    """Run a call through serializer and result handling, and return its Result.

    Raises what the task raised if ``task_eager_propagates`` is set.
    """
    task = signature.task or app.tasks[signature.name]
    template = app.templates.for_local_run(signature)
    id, publication = app.publication(signature, template)
    record = run_local(app, task, publication)
    result: Result[Any] = ResultHere(
        id,
        app.no_results,
        app.payloads,
        ignored=not template.keep,
        convert=task.result_converter,
    )
    result.final = record
    if record.get("state") == b"FAILURE" and app.conf.task_eager_propagates:
        raise result.error(record)
    return result


def run_local(app: EagerApp, task: Task[..., Any], publication: Publication) -> dict[str, bytes]:
    """Run one publication through the steps of a worker; return its record."""
    executor = EagerExecutor(
        Outcomes(app.tasks, app.payloads, app.conf),
        hostname=socket.gethostname(),
        report=drop,
        middleware=app.middleware,
    )
    (message,) = Message.read(publication)
    fields = message.entry
    policy = executor.policy_of(task)
    for _ in range(MOST_TRIES):
        delivery = Delivery("here", b"0-0", fields)
        delivery.policy = policy
        outcome = executor.run(delivery)
        if not isinstance(outcome.then, RunLater):
            return record_of(outcome)
        fields |= outcome.then.changes  # at once: an eager call does not wait for the pause
    error = MaxRetriesExceeded(
        f"{task.name} was tried {MOST_TRIES:,} times at once, and asks to be tried again",
        advice=["only a worker pauses between two tries; give max_retries to end it here"],
    )
    return record_of(executor.outcomes.failed(delivery, error, 0.0))


def drop(request: Request, state: str, meta: Any) -> None:
    """Drop a custom state: nothing can read the record of a task that runs here."""


def record_of(outcome: Outcome) -> dict[str, bytes]:
    """Make the record that settling the outcome would write; a failure is always in it."""
    pairs = iter(outcome.fields)
    record = {name.decode(): value for name, value in zip(pairs, pairs, strict=True)}
    ended = b"FAILURE" if "error_type" in record else b"SUCCESS"
    return {"state": outcome.state or ended, **record}
