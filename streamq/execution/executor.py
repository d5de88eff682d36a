"""One message, run: from the fields that were read to the fields of its record.

Knows no Redis and no pool.  Whatever happens inside a task ends as an ``Outcome``.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from streamq.config.config import Config
from streamq.context import Request, Running, current
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome, millis
from streamq.core.policy import Manner
from streamq.core.retry import RetryPolicy
from streamq.errors import (
    ConfigError,
    ContentDisallowed,
    DecodeError,
    Retry,
    SignatureInvalid,
    Stopped,
)
from streamq.execution.outcomes import Endings
from streamq.execution.request import request_of
from streamq.host.clock import monotonic, perf_counter
from streamq.host.forks import FORKS
from streamq.producer.registry import Registry
from streamq.serialization.codec import decode_json
from streamq.serialization.payload import Payloads, as_text, check_headers
from streamq.serialization.signing import Seal, Seldom
from streamq.tasks import Task

logger = logging.getLogger("streamq.worker")

#: What pickle carries has its types already; annotations have nothing to turn back.
PICKLED = b"application/x-python-serialize"

#: What positional arguments may come as; ``list | tuple`` would be built for each message.
LISTS = (list, tuple)

#: Called with the request, a state and what to know about it.
Tell = Callable[[Request, str, Any], None]


class Execution:
    """Runs messages of the registered tasks."""

    def __init__(
        self,
        tasks: Registry,
        payloads: Payloads,
        conf: Config,
        *,
        hostname: str,
        tell: Tell,
        seal: Seal | None = None,
    ) -> None:
        self.tasks = tasks
        self.payloads = payloads
        self.json_accepted = "json" in payloads.accept
        self.endings = Endings(tasks, payloads, conf, seal=seal)
        self.conf = conf
        self.hostname = hostname
        self.tell = tell
        self.seal = seal
        self.unsigned = Seldom(60)
        self.manners: dict[bytes, Manner[Task[..., Any]]] = {}
        #: Tasks of which we said that their soft limit is dropped.
        self.outrun: set[str] = set()
        #: Whose function is running just now; of greenlets, whose began or ended last.
        self.inside: Delivery | None = None
        self.forks = FORKS.count

    def admit(self, delivery: Delivery) -> None:
        """Find the task of a message, and whether it is acknowledged early.

        One without a proper id is not admitted.
        """
        if not delivery.has_good_id():
            return
        fields = delivery.fields
        name = fields.get(b"task", b"")
        manner = self.manners.get(name)
        if manner is None:
            task = self.tasks.tasks.get(name.decode(errors="replace"))
            if task is None:
                return
            manner = self.manners[name] = self.manner_of(task)
        delivery.manner = manner
        late = fields.get(b"acks_late")
        delivery.early = manner.early if late is None else late != b"1"
        delivery.hard, delivery.soft = manner.hard, manner.soft
        if b"time_limit" in fields or b"soft_time_limit" in fields:
            hard, soft = delivery.seconds(b"time_limit"), delivery.seconds(b"soft_time_limit")
            delivery.hard = manner.hard if hard is None else hard
            delivery.soft = manner.soft if soft is None else soft
        if delivery.soft and 0 < delivery.hard <= delivery.soft:
            self.drop_soft_limit(delivery, manner.task)

    def drop_soft_limit(self, delivery: Delivery, task: Task[..., Any]) -> None:
        """Let only the hard limit count, which comes no later; say so once for each task."""

        def origin(name: str) -> str:
            if name.encode() in delivery.fields:
                return "of the call"
            return "of the task" if name in task.own_options else f"from task_{name}"

        if task.name not in self.outrun:
            self.outrun.add(task.name)
            logger.warning(
                "%s: soft_time_limit %g s (%s) is dropped, as time_limit %g s (%s) ends it before",
                *(task.name, delivery.soft, origin("soft_time_limit")),
                *(delivery.hard, origin("time_limit")),
            )
        delivery.soft = 0.0

    def manner_of(self, task: Task[..., Any]) -> Manner[Task[..., Any]]:
        own, conf = task.own_options, self.conf
        hard = own.get("time_limit", conf.task_time_limit)
        soft = own.get("soft_time_limit", conf.task_soft_time_limit)
        standing = RetryPolicy(
            max_retries=conf.max_retries,
            delay=conf.default_retry_delay,
            backoff_max=conf.retry_backoff_max,
            jitter=conf.retry_jitter,
        )
        return Manner(
            task,
            early=not own.get("acks_late", conf.acks_late),
            keep=not own.get("ignore_result", conf.ignore_result),
            track_started=own.get("track_started", conf.track_started),
            expires=millis(own.get("result_expires", conf.result_expires)),
            hard=hard,
            soft=soft,
            retry=standing.changed(own),
            throws=own.get("throws", frozenset()),
        )

    def run(self, delivery: Delivery) -> Outcome:
        """Run a message.  Never raises for what the task does.

        In a child that the task has forked it raises SystemExit, if that ends itself.
        """
        manner, endings = delivery.manner, self.endings
        if self.seal is not None and (forged := self.forged(delivery, self.seal)) is not None:
            return forged
        if manner is None:
            return endings.unknown(delivery)
        try:
            args, kwargs = self.arguments(manner.task, delivery.fields)
        except ContentDisallowed as error:
            return endings.buried(delivery, error, "content type not accepted")
        except (DecodeError, ConfigError) as error:
            return endings.buried(delivery, error, "undecodable message")
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # a class of the task's
            return endings.failed(delivery, error, 0.0)
        running = LazyRunning(self, delivery, args, kwargs)
        token = current.set(running)
        began = perf_counter()
        try:
            task = manner.task
            self.inside = delivery
            if task.bind:
                value = task.function(running, *args, **kwargs)
            else:
                value = task.function(*args, **kwargs)
            self.inside = None
        except BaseException as error:  # also sys.exit(): it is the task that fails, not we
            self.inside = None
            if self.forks != FORKS.count and issubclass(type(error), SystemExit):
                raise
            if error is running.final:
                return endings.failed(delivery, error, perf_counter() - began)
            return self.judged(delivery, error, perf_counter() - began)
        finally:
            current.reset(token)
        if running.retrying is not None:
            return self.judged(delivery, running.retrying, perf_counter() - began)
        return endings.returned(delivery, value, perf_counter() - began)

    def judged(self, delivery: Delivery, error: BaseException, seconds: float) -> Outcome:
        """How a run ends that raised this, however odd it is."""
        try:
            return self.endings.raised(delivery, error, seconds)
        except Stopped:
            raise
        except BaseException as odd:  # a Retry that asks for nonsense, a class that lies
            return self.endings.failed(delivery, odd, seconds)

    def interrupted(self, delivery: Delivery, error: BaseException) -> Outcome:
        """What a limit means that was raised on the way into the task, or out of it."""
        self.inside = None
        return self.endings.raised(delivery, error, 0.0)

    def forged(self, delivery: Delivery, seal: Seal) -> Outcome | None:
        """The end of a message that must not run, for want of a signature that fits."""
        try:
            signed = seal.check(delivery.id, delivery.queue.encode(), delivery.fields)
        except SignatureInvalid as error:
            delivery.keep = True  # that there is no record is not for the message to say
            return self.endings.buried(delivery, error, "signature")
        if not signed and self.unsigned.due(monotonic()):
            more = self.unsigned.missed()
            logger.warning(
                "%s runs without a signature%s: signing is permissive",
                delivery.title,
                f", like {more} before it" if more else "",
            )
        return None

    def arguments(
        self, task: Task[..., Any], fields: Mapping[bytes, bytes]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Decode args and kwargs; DecodeError if they are not a list and a mapping."""
        raw_args, raw_kwargs = fields.get(b"args", b"[]"), fields.get(b"kwargs", b"{}")
        if len(raw_args) + len(raw_kwargs) > self.payloads.limit:
            raise self.payloads.not_read(len(raw_args) + len(raw_kwargs))
        if b"headers" in fields:
            check_headers(fields[b"headers"])
        if b"content_type" not in fields and b"compression" not in fields and self.json_accepted:
            args = decode_json(raw_args)
            kwargs = {} if raw_kwargs == b"{}" else decode_json(raw_kwargs)
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


class LazyRunning(Running):
    """The running task; its request is only put together when somebody asks."""

    in_worker = True
    made: Request | None = None

    def __init__(
        self, execution: Execution, delivery: Delivery, args: Any, kwargs: dict[str, Any]
    ) -> None:
        self.execution = execution
        self.delivery = delivery
        self.arguments = (args, kwargs)
        self.tell = execution.tell

    @property
    def request(self) -> Request:  # type: ignore[override]
        if self.made is None:
            self.made = request_of(self.delivery, *self.arguments, self.execution.hostname)
        return self.made

    def last_word(self, asked: Retry) -> BaseException | None:
        """What is raised if the task may not be tried again as asked; None if it may."""
        return self.execution.endings.last_word(self.delivery, asked)


def shown(error: BaseException) -> str:
    """One line about an exception, for the log."""
    return traceback.format_exception_only(error)[-1].strip()
