"""The executor: runs one message and returns its outcome.

It uses no Redis and no pool.  Whatever happens inside a task becomes an ``Outcome``.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamq.context import Request, Running, current
from streamq.core.delivery import Delivery
from streamq.core.log_limit import LogLimit
from streamq.core.outcome import Outcome, millis
from streamq.core.policy import TaskPolicy
from streamq.core.retry import RetryPolicy
from streamq.errors import (
    ConfigError,
    DecodeError,
    Retry,
    SignatureInvalid,
    SoftTimeLimitExceeded,
    Stopped,
)
from streamq.execution.hooks import after_run, before_run, has_hooks
from streamq.execution.not_run import send_not_run
from streamq.execution.outcomes import Outcomes
from streamq.execution.request import request_of
from streamq.host.clock import monotonic, perf_counter
from streamq.host.forks import FORKS
from streamq.middleware import Middleware, layers_around
from streamq.serialization.payload import as_text, check_headers
from streamq.serialization.signing import Signer
from streamq.signals import RUN_SIGNALS, task_rejected, task_unknown
from streamq.tasks import Task

logger = logging.getLogger("streamq.worker")

#: The content type of pickle, which keeps all types: annotations convert nothing there.
PICKLED = b"application/x-python-serialize"

#: Types of decoded ``args``; ``list | tuple`` would be built for each message.
LISTS = (list, tuple)

#: Stores a custom state: called with the request, the state and its ``meta``.
ReportState = Callable[[Request, str, Any], None]


class Executor:
    """The executor of messages of the registered tasks, with ``middleware`` around each call."""

    #: Whether it runs calls in the process that makes them.
    eager = False

    def __init__(
        self,
        outcomes: Outcomes,
        *,
        hostname: str,
        report: ReportState,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.outcomes = outcomes
        self.tasks = outcomes.tasks
        self.payloads = outcomes.payloads
        self.json_accepted = "json" in self.payloads.accept
        self.from_json = self.payloads.from_json
        self.conf = outcomes.conf
        self.signer = outcomes.signer
        self.hostname = hostname
        self.report = report
        self.middleware = middleware
        self.unsigned = LogLimit(60)
        self.policies: dict[bytes, TaskPolicy[Task[..., Any]]] = {}
        #: Names of the tasks for which a dropped soft limit was logged.
        self.soft_limits_dropped: set[str] = set()
        #: The delivery whose function is running; with greenlets, the last that began or ended.
        self.inside: Delivery | None = None
        self.forks = FORKS.count

    def admit(self, delivery: Delivery) -> None:
        """Set the delivery's task policy, acknowledgement and time limits, if its task is known.

        A message without a well-formed id gets none, and ends as a dead letter.
        """
        if not delivery.has_good_id():
            return
        fields = delivery.fields
        name = fields.get(b"task", b"")
        policy = self.policies.get(name)
        if policy is None:
            task = self.tasks.tasks.get(name.decode(errors="replace"))
            if task is None:
                return
            policy = self.policies[name] = self.policy_of(task)
        delivery.policy = policy
        late = fields.get(b"acks_late")
        delivery.early = policy.early if late is None else late != b"1"
        delivery.hard, delivery.soft = policy.hard, policy.soft
        if b"time_limit" in fields or b"soft_time_limit" in fields:
            hard, soft = delivery.seconds(b"time_limit"), delivery.seconds(b"soft_time_limit")
            delivery.hard = policy.hard if hard is None else hard
            delivery.soft = policy.soft if soft is None else soft
        if delivery.soft and 0 < delivery.hard <= delivery.soft:
            self.drop_soft_limit(delivery, policy.task)

    def drop_soft_limit(self, delivery: Delivery, task: Task[..., Any]) -> None:
        """Drop a soft limit that is not below the hard one; log that once for each task."""

        def origin(name: str) -> str:
            if name.encode() in delivery.fields:
                return "of the call"
            return "of the task" if name in task.own_options else f"from task_{name}"

        if task.name not in self.soft_limits_dropped:
            self.soft_limits_dropped.add(task.name)
            logger.warning(
                "%s: soft_time_limit %g s (%s) is dropped, as time_limit %g s (%s) ends it before",
                *(task.name, delivery.soft, origin("soft_time_limit")),
                *(delivery.hard, origin("time_limit")),
            )
        delivery.soft = 0.0

    def policy_of(self, task: Task[..., Any]) -> TaskPolicy[Task[..., Any]]:
        """Decide how the messages of a task are run."""
        own, conf = task.own_options, self.conf
        hard = own.get("time_limit", conf.task_time_limit)
        soft = own.get("soft_time_limit", conf.task_soft_time_limit)
        standing = RetryPolicy(
            max_retries=conf.max_retries,
            delay=conf.default_retry_delay,
            backoff_max=conf.retry_backoff_max,
            jitter=conf.retry_jitter,
        )
        return TaskPolicy(
            task,
            early=not own.get("acks_late", conf.acks_late),
            keep=not own.get("ignore_result", conf.ignore_result),
            track_started=own.get("track_started", conf.track_started),
            expires=millis(own.get("result_expires", conf.result_expires)),
            hard=hard,
            soft=soft,
            retry=standing.changed(own),
            throws=own.get("throws", frozenset()),
            around=self.around(task),
            hooks=has_hooks(task),
        )

    def around(self, task: Task[..., Any]) -> Callable[[Any], Any] | None:
        """The call of a task's function through middleware and its class; None if plain."""
        call = call_of(task)
        own_class = call if type(task) is not Task else None
        return layers_around(self.middleware, "run", call) or own_class

    def run(self, delivery: Delivery) -> Outcome:
        """Run a message in four steps: verify, decode, call, judge.  Returns its outcome.

        Exceptions of the task are not raised, except SystemExit in a child process that it has
        forked, and a limit that is raised outside of its function: see ``interrupted``.
        """
        policy, outcomes = delivery.policy, self.outcomes
        if self.signer is not None:
            refused = self.verify(delivery, self.signer)
            if refused is not None:
                return refused
        if policy is None:
            return self.not_run(outcomes.unknown_task(delivery))
        try:
            args, kwargs = self.decode(delivery.fields, policy.task)
        except (DecodeError, ConfigError) as error:
            return self.not_run(outcomes.undecodable(delivery, error), error)
        except (SoftTimeLimitExceeded, Stopped):
            raise  # it was raised into this thread
        except BaseException as error:  # raised by a class of the task
            return outcomes.failed(delivery, error, 0.0)
        running = RunningInWorker(self, delivery, args, kwargs)
        if not (policy.hooks or RUN_SIGNALS.connected):
            return self.call(running, policy, args, kwargs)
        running.observed = True
        token = current.set(running)
        try:
            outcome = self.call(running, policy, args, kwargs, observed=True)
            after_run(running, outcome)
        finally:
            current.reset(token)
        return outcome

    # The steps

    def call(
        self,
        running: "RunningInWorker",
        policy: TaskPolicy[Task[..., Any]],
        args: Any,
        kwargs: dict[str, Any],
        observed: bool = False,
    ) -> Outcome:
        """Call the function of a message's task, and judge how that ends.

        ``observed``: hooks and signals are to be told of the run.
        """
        delivery = running.delivery
        token = current.set(running)
        began = perf_counter()
        try:
            task = policy.task
            self.inside = delivery
            if observed:
                before_run(running)
            if policy.around is not None:  # layers of middleware, or a class of its own
                value = policy.around(running)
            elif task.bind:
                value = task.function(running, *args, **kwargs)
            else:
                value = task.function(*args, **kwargs)
            self.inside = None
        except BaseException as error:  # also sys.exit(): it fails the task only
            self.inside = None
            if self.forks != FORKS.count and issubclass(type(error), SystemExit):
                raise
            if error is running.final:
                return self.outcomes.failed(delivery, error, perf_counter() - began)
            return self.judge(delivery, error, perf_counter() - began)
        finally:
            current.reset(token)
        if running.retrying is not None:
            return self.judge(delivery, running.retrying, perf_counter() - began)
        if observed:
            running.value = value
        return self.outcomes.returned(delivery, value, perf_counter() - began)

    def verify(self, delivery: Delivery, signer: Signer) -> Outcome | None:
        """Return the outcome of a message that must not run, for its signature; else None."""
        try:
            signed = signer.check(delivery.id, delivery.queue.encode(), delivery.fields)
        except SignatureInvalid as error:
            delivery.keep = True  # an unsigned ignore_result must not hide this
            return self.outcomes.dead_lettered(delivery, error, "signature")
        if not signed and self.unsigned.due(monotonic()):
            more = self.unsigned.take_skipped()
            logger.warning(
                "%s runs without a signature%s: signing is permissive",
                delivery.title,
                f", like {more} before it" if more else "",
            )
        return None

    def decode(
        self, fields: Mapping[bytes, bytes], task: Task[..., Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Decode args and kwargs.  Raises DecodeError if they are not a list and a mapping."""
        raw_args, raw_kwargs = fields.get(b"args", b"[]"), fields.get(b"kwargs", b"{}")
        if len(raw_args) + len(raw_kwargs) > self.payloads.limit:
            raise self.payloads.not_read(len(raw_args) + len(raw_kwargs))
        if b"headers" in fields:
            check_headers(fields[b"headers"])
        if b"content_type" not in fields and b"compression" not in fields and self.json_accepted:
            args = self.from_json(raw_args)
            kwargs = {} if raw_kwargs == b"{}" else self.from_json(raw_kwargs)
        else:
            content = as_text(fields.get(b"content_type"), "content_type")
            compression = as_text(fields.get(b"compression"), "compression")
            args = self.payloads.read(raw_args, content, compression)
            absent = b"kwargs" not in fields
            kwargs = {} if absent else self.payloads.read(raw_kwargs, content, compression)
        if not isinstance(args, LISTS) or not isinstance(kwargs, dict):
            raise DecodeError("args must be a list and kwargs a mapping with text keys")
        if kwargs and any(not isinstance(key, str) for key in kwargs):
            raise DecodeError("kwargs must have text keys")
        if task.converter is not None and fields.get(b"content_type") != PICKLED:
            return task.converter.apply(args, kwargs)
        return args, kwargs  # type: ignore[return-value]

    def judge(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """Make the outcome of a run that raised this, whatever its class does."""
        try:
            return self.outcomes.raised(delivery, error, seconds)
        except Stopped:
            raise
        except BaseException as broken:  # a Retry with bad options, or a broken class
            return self.outcomes.failed(delivery, broken, seconds)

    def not_run(self, outcome: Outcome, error: Exception | None = None) -> Outcome:
        """Send task_unknown or task_rejected about a message that cannot be run.

        Returns its outcome.  ``error`` says why it cannot be decoded; None if its task is unknown
        or has no well-formed name.
        """
        if task_unknown.links or task_rejected.links:
            send_not_run(outcome, error, self.tasks, self.hostname)
        return outcome

    def interrupted(self, delivery: Delivery, error: BaseException) -> Outcome:
        """Make the outcome for a limit that was raised just before or after the task's code."""
        self.inside = None
        return self.outcomes.raised(delivery, error, 0.0)


class RunningInWorker(Running):
    """The running task in a worker; its request is made when it is first read."""

    in_worker = True
    made: Request | None = None

    def __init__(
        self, executor: Executor, delivery: Delivery, args: Any, kwargs: dict[str, Any]
    ) -> None:
        self.executor = executor
        self.delivery = delivery
        self.arguments = (args, kwargs)

    @property
    def report(self) -> ReportState:
        return self.executor.report

    @property
    def request(self) -> Request:  # type: ignore[override]
        if self.made is None:
            executor = self.executor
            self.made = request_of(
                self.delivery, *self.arguments, executor.hostname, eager=executor.eager
            )
        return self.made

    @property
    def task(self) -> Any:
        policy = self.delivery.policy
        return policy.task if policy is not None else None

    def lineage(self) -> tuple[str, ...]:
        """The fields of a message that this task sends; no request is made for them."""
        id = self.delivery.id.decode(errors="replace")
        root = self.delivery.fields.get(b"root_id")
        return ("parent_id", id, "root_id", id if root is None else root.decode(errors="replace"))

    def final_error(self, asked: Retry) -> BaseException | None:
        """The exception that ends a task which may not be retried like this; None if it may."""
        return self.executor.outcomes.retries.final_error(self.delivery, asked)


def call_of(task: Task[..., Any]) -> Callable[[Any], Any]:
    """The innermost step of a run: it calls the task's function for the running task.

    A task of a class of the user's is called itself: its class may have its own ``__call__``.
    """
    bind = task.bind and type(task) is Task
    function: Callable[..., Any] = task.function if type(task) is Task else task

    def call(running: RunningInWorker) -> Any:
        args, kwargs = running.arguments
        return function(running, *args, **kwargs) if bind else function(*args, **kwargs)

    return call
