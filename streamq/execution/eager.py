"""Running a call in the process that makes it, as ``apply`` and eager mode do."""

import socket
from typing import Any, Protocol

from streamq.broker.results import Results
from streamq.config.config import Config
from streamq.context import Request
from streamq.core.delivery import Delivery
from streamq.core.message import Envelope, Publication
from streamq.core.outcome import LATER, Outcome
from streamq.errors import MaxRetriesExceeded, Reject, SoftTimeLimitExceeded, Stopped
from streamq.execution.executor import Execution
from streamq.producer.registry import Registry
from streamq.producer.templates import Plans
from streamq.result import Result, ResultHere
from streamq.serialization.payload import Payloads
from streamq.tasks import Signature, Task

#: How often a task is tried at most: here there is no pause between two tries.
MOST_TRIES = 1000


class Setting(Protocol):
    """What of an app running here needs."""

    plans: Plans

    @property
    def tasks(self) -> Registry: ...
    @property
    def no_results(self) -> Results: ...
    @property
    def payloads(self) -> Payloads: ...
    @property
    def conf(self) -> Config: ...

    def publication(self, signature: Signature, envelope: Envelope) -> tuple[str, Publication]: ...


class Local(Execution):
    """Runs a call where it is made, which may be inside of another task."""

    def judged(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """How a run ends that raised this; the limits of the task around it pass through."""
        if isinstance(error, Stopped) or (isinstance(error, SoftTimeLimitExceeded) and error.here):
            raise error
        if isinstance(error, Reject):  # there is no queue to go back to
            return self.endings.failed(delivery, error, seconds)
        return super().judged(delivery, error, seconds)


def run_here(app: Setting, signature: Signature) -> Result[Any]:
    """Run a call through serializer and result handling; raises as the settings say."""
    task = signature.task or app.tasks[signature.name]
    envelope = app.plans.here(signature)
    id, publication = app.publication(signature, envelope)
    record = run_local(app, task, id, publication)
    result: Result[Any] = ResultHere(
        id,
        app.no_results,
        app.payloads,
        ignored=not envelope.keep,
        convert=task.result_converter,
    )
    result.final = record
    if record.get("state") == b"FAILURE" and app.conf.task_eager_propagates:
        raise result.error(record)
    return result


def run_local(
    app: Setting, task: Task[..., Any], id: str, publication: tuple[str | bytes | int, ...]
) -> dict[str, bytes]:
    """Run one publication through the same steps as in a worker; return its record."""
    execution = Local(app.tasks, app.payloads, app.conf, hostname=socket.gethostname(), tell=ignore)
    fields = {b"id": id.encode(), **wire_fields(publication)}
    manner = execution.manner_of(task)
    for _ in range(MOST_TRIES):
        delivery = Delivery("here", b"0-0", fields)
        delivery.manner = manner
        outcome = execution.run(delivery)
        if not outcome.follow or outcome.follow[0] != LATER:
            return record_of(outcome)
        # Tried again at once: nobody waits for the pause here.
        changes = outcome.follow[3:]
        fields |= dict(zip(changes[::2], changes[1::2], strict=True))
    error = MaxRetriesExceeded(
        f"{task.name} was tried {MOST_TRIES:,} times at once, and asks to be tried again",
        advice=["only a worker pauses between two tries; give max_retries to end it here"],
    )
    return record_of(execution.endings.failed(delivery, error, 0.0))


def ignore(request: Request, state: str, meta: Any) -> None:
    """Nobody can look at a task that runs in its caller."""


def wire_fields(publication: tuple[str | bytes | int, ...]) -> dict[bytes, bytes]:
    """The fields of a stream entry, out of the arguments of the publish script."""
    headers_at = 8
    fields_at = headers_at + 1 + 2 * int(publication[headers_at])
    parts = [str(p).encode() if not isinstance(p, bytes) else p for p in publication]
    fields = parts[fields_at + 1 :]
    return dict(zip(fields[::2], fields[1::2], strict=True))


def record_of(outcome: Outcome) -> dict[str, bytes]:
    """The record that settling the outcome would write; it shows a failure in any case."""
    pairs = iter(outcome.fields)
    record = {name.decode(): value for name, value in zip(pairs, pairs, strict=True)}
    ended = b"FAILURE" if "error_type" in record else b"SUCCESS"
    return {"state": outcome.state or ended, **record}
