"""Sending: the part of an app that turns calls into messages and publishes them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

from streamq.broker.aio import in_thread
from streamq.broker.broker import Broker
from streamq.broker.confirmation import Confirmation
from streamq.broker.publish_retry import Refusal
from streamq.broker.publisher import PublisherChannel
from streamq.broker.publisher_channel import answers_of
from streamq.broker.results import Results
from streamq.config.config import Config
from streamq.context import current, lineage
from streamq.core.message import MessageTemplate, Publication
from streamq.errors import NotConfirmed
from streamq.host.clock import monotonic
from streamq.host.django import call_beside_loop
from streamq.host.ids import new_id
from streamq.middleware import Middleware, checked_layers, layers_around
from streamq.producer.announcing import aannounce, announce
from streamq.producer.bulk import Bulk, checked_signature, no_layers, one_by_one
from streamq.producer.encoding import encoded
from streamq.producer.on_commit import in_transaction, send_on_commit
from streamq.producer.registry import Registry
from streamq.producer.templates import Templates
from streamq.result import Result
from streamq.serialization.payload import Payloads
from streamq.signals import PUBLISH_SIGNALS
from streamq.tasks import Call, Signature, Task, asend, has_own_apply_async, send

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class CallSender:
    """The base class of an app: sends calls, through the layers of middleware."""

    conf: Config
    tasks: Registry
    templates: Templates
    layers: tuple[Middleware, ...]

    @property
    def broker(self) -> Broker:
        """The app's access to Redis."""
        raise NotImplementedError

    @property
    def no_results(self) -> Results:
        """The results of calls that run in this process."""
        raise NotImplementedError

    @property
    def payloads(self) -> Payloads:
        """The reader and writer of values."""
        raise NotImplementedError

    def signature(self, name: str, args: Any = None, kwargs: Any = None) -> Signature:
        """Make a call of a task by name."""
        raise NotImplementedError

    def run_here(self, signature: Signature) -> Result[Any]:
        """Run a call in this process, through serializer and result handling."""
        raise NotImplementedError

    def result(self, id: str) -> Result[Any]:
        """Make the Result of a task by its id."""
        raise NotImplementedError

    async def in_thread(self, act: Callable[[], T]) -> T:
        """Call this in a thread, and return what it returns."""
        return await in_thread(act)

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        """The layers around sending and runs, the outermost first; assign a list to change them."""
        return self.layers

    @middleware.setter
    def middleware(self, layers: Iterable[Middleware]) -> None:
        self.layers = checked_layers(layers)
        send, asend = partial(self.send, innermost=True), partial(self.asend, innermost=True)
        self.around_send = layers_around(self.layers, "publish", send)
        self.around_asend = layers_around(self.layers, "apublish", asend)

    @overload
    def enqueue(
        self, what: Task[P, R] | Call[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Result[R]: ...
    @overload
    def enqueue(self, what: Signature | str, /, *args: Any, **kwargs: Any) -> Result[Any]: ...

    def enqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """Send a call: a task, a task with options, a signature or a task's name, then arguments.

        See ``Task.enqueue`` for what it raises.
        """
        return send(self.signature_of(what, args, kwargs), self)

    @overload
    async def aenqueue(
        self, what: Task[P, R] | Call[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Result[R]: ...
    @overload
    async def aenqueue(
        self, what: Signature | str, /, *args: Any, **kwargs: Any
    ) -> Result[Any]: ...

    async def aenqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """Send a call from asyncio; see ``enqueue``."""
        return await asend(self.signature_of(what, args, kwargs), self)

    def signature_of(self, what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
        """Make a signature of the arguments of ``enqueue``."""
        match what:
            case Task() | Call():
                return what.s(*args, **kwargs)
            case Signature():
                return what.with_args(args, kwargs) if args or kwargs else what
            case str():
                return self.signature(what, args, kwargs)
        raise TypeError(
            f"cannot enqueue {what!r}: not a task\n  → decorate the function with @app.task"
        )

    def send(
        self, signature: Signature, *, innermost: bool = False, announced: bool = False
    ) -> Result[Any]:
        """Send one call: through the layers of middleware; as their ``innermost`` step, itself.

        ``announced``: the signals of sending are sent by the caller.
        """
        if self.around_send is not None and not innermost:
            return self.around_send(signature)
        if self.conf.task_always_eager:
            return self.send_later(signature) or self.run_here(signature)
        if PUBLISH_SIGNALS.connected and not announced:
            send = partial(self.send, innermost=True, announced=True)
            return self.send_later(signature) or announce(signature, send, self)
        template = self.templates.template(signature)
        if template.on_commit and (later := send_on_commit(self, signature, template)) is not None:
            return later
        args, kwargs = encoded(signature, template, self.payloads)
        given = signature.options.get("task_id")
        id = given or new_id()
        answer, began = None, monotonic()
        try:
            if template.fits_plain_script and given is None and current.get() is None:
                answer = self.publish_plain(template, (id, args, kwargs), began)
            if answer is None:
                moment = self.moment(template, began)
                publication = template.publication(
                    *(id, args, kwargs), given=given is not None, expires=moment, more=lineage()
                )
                answer = self.publish([publication], [signature], began=began)[0]
        except NotConfirmed as unmet:
            unmet.result = self.result_of(id, template, signature, answers_of(unmet.answer)[0])
            raise
        return self.result_of(id, template, signature, answer)

    async def asend(
        self, signature: Signature, *, innermost: bool = False, announced: bool = False
    ) -> Result[Any]:
        """Send one call from asyncio; see ``send``."""
        if self.around_asend is not None and not innermost:
            return await self.around_asend(signature)
        if (later := self.send_later(signature)) is not None:
            return later
        if self.conf.task_always_eager:
            return await call_beside_loop(partial(self.run_here, signature))
        if PUBLISH_SIGNALS.connected and not announced:
            return await aannounce(
                signature, partial(self.asend, innermost=True, announced=True), self
            )
        template, began = self.templates.template(signature), monotonic()
        seconds, broker = template.expires_after, self.broker.asyncio
        moment = None if seconds is None else str(await broker.moment(seconds, began))
        id, publication = self.publication(signature, template, moment)
        confirm = self.confirmations([template])
        declare = partial(self.declare_again, signatures=[signature], began=began)
        try:
            answers = await broker.publish([publication], confirm, began=began, declare=declare)
        except Refusal as refused:
            raise refused.error() from None
        except NotConfirmed as unmet:
            unmet.result = self.result_of(id, template, signature, answers_of(unmet.answer)[0])
            raise
        return self.result_of(id, template, signature, answers[0])

    def send_later(self, signature: Signature) -> Result[Any] | None:
        """Send a call when its transaction commits; return its Result, None for a call to send now.

        A call with ``on_commit`` outside of a transaction is one to send now.
        """
        eager = self.conf.task_always_eager
        make = self.templates.for_local_run if eager else self.templates.template
        template = make(signature)
        return send_on_commit(self, signature, template) if template.on_commit else None

    def moment(self, template: MessageTemplate, began: float) -> str | None:
        """The server's time (ms) at which a signed message expires; None if it does not."""
        seconds = template.expires_after
        return None if seconds is None else str(self.broker.moment(seconds, began))

    def publication(
        self, signature: Signature, template: MessageTemplate, moment: str | None = None
    ) -> tuple[str, Publication]:
        """Make a call's id and the publish script's arguments for it."""
        args, kwargs = encoded(signature, template, self.payloads)
        given = signature.options.get("task_id")
        id = given or new_id()
        return id, template.publication(
            *(id, args, kwargs), given=given is not None, expires=moment, more=lineage()
        )

    def publish_plain(
        self, template: MessageTemplate, message: tuple[str, bytes, bytes], began: float
    ) -> str | None:
        """Publish one plain message with publish_plain.lua; None if it needs publish.lua."""
        confirm = () if template.confirm == "server" else self.confirmations([template])
        try:
            return self.broker.publisher.publish_plain(template, message, confirm, began=began)
        except Refusal as refused:
            raise refused.error() from None

    def publish(
        self,
        publications: list[Publication],
        signatures: Sequence[Signature],
        channel: PublisherChannel | None = None,
        *,
        began: float | None = None,
    ) -> list[str]:
        """Publish all or none; declare this app's topology again if they lead nowhere.

        Uses ``channel``, if the caller has one, else the next free publisher channel.  All of it
        ends by ``publish_timeout`` after ``began`` (monotonic seconds; None means now).
        """
        confirm = self.confirmations(map(self.templates.template, signatures))
        began = monotonic() if began is None else began
        declare = partial(self.declare_again, signatures=signatures, began=began)
        try:
            return self.broker.publisher.publish(
                publications, channel, confirm, began=began, declare=declare
            )
        except Refusal as refused:
            raise refused.error() from None

    def confirmations(self, templates: Iterable[MessageTemplate]) -> tuple[Confirmation, ...]:
        """The confirmations that these calls need beyond the server's answer."""
        return self.broker.confirmations(template.confirm for template in templates)

    def declare_again(
        self, refused: Refusal, signatures: Sequence[Signature], began: float
    ) -> bool:
        """Declare the queues that a refused publish may have missed; return whether any are.

        If so, publishing again may succeed.  Tries until the publish that ``began`` then must
        end.  Raises ConfigError if the Redis user of the URL may not declare.
        """
        queues = self.templates.missed_by(signatures) if refused.is_unroutable else []
        if queues:
            self.broker.declare_again(queues, began, reason=refused.reason)
        return bool(queues)

    def result_of(
        self, id: str, template: MessageTemplate, signature: Signature, answer: str
    ) -> Result[Any]:
        """Make the Result of an accepted call; ``answer`` names its queues."""
        return Result(
            id,
            self.broker.results,
            self.payloads,
            ignored=not template.keep,
            queues=tuple(answer.split(":")) if ":" in answer else (),
            convert=signature.task.result_converter if signature.task is not None else None,
        )

    def result_here(self, id: str, template: MessageTemplate) -> Result[Any]:
        """Make the Result of a call that is to run in this process; it asks no Redis."""
        return Result(id, self.no_results, self.payloads, ignored=not template.keep)

    def waits_for_commit(self, given: Any) -> bool:
        """Whether this is a call with ``on_commit``."""
        return isinstance(given, Signature) and bool(self.templates.template(given).on_commit)

    def enqueue_many(self, signatures: Iterable[Signature]) -> list[Result[Any]]:
        """Send many calls in few round trips, each chunk all or nothing.

        Where middleware publishes, each call goes through it, and is sent alone.  Raises
        PartlyPublished if it stops half-way, with ``accepted`` (results) and ``remaining`` (calls).
        """
        if self.conf.task_always_eager:
            return [send(checked_signature(each), self) for each in signatures]
        if any(map(has_own_apply_async, self.tasks.tasks.values())):
            return one_by_one(lambda signature: send(signature, self), no_layers, signatures)
        if self.around_send is not None or PUBLISH_SIGNALS.connected:
            layers = partial(layers_around, self.layers, "publish")
            return one_by_one(partial(self.send, innermost=True), layers, signatures)
        if in_transaction():
            signatures = list(signatures)
            if any(self.waits_for_commit(each) for each in signatures):
                return one_by_one(self.send, no_layers, signatures)
        return Bulk(self, self.broker.publisher, signatures).send()
