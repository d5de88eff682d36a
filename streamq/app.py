"""The app: tasks, topology, settings and Redis, held together."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from streamq.arguments import mapping, positional
from streamq.broker.broker import Store
from streamq.broker.confirmation import Confirmation
from streamq.broker.publish_retry import Refusal
from streamq.broker.publisher import Lane, answers_of
from streamq.broker.results import Results
from streamq.config.config import Config
from streamq.context import Running
from streamq.core.message import Envelope, Publication
from streamq.core.options import checked
from streamq.devserver.server import ensure
from streamq.errors import EncodeError, NotConfirmed
from streamq.execution.eager import run_here
from streamq.host.clock import monotonic
from streamq.host.ids import new_id
from streamq.producer.bulk import Bulk
from streamq.producer.registry import Discovery, Packages, Registry, import_modules, task_name
from streamq.producer.templates import Plans
from streamq.result import Result
from streamq.routing import Exchange, Queue, check_name
from streamq.serialization.codec import encode_json
from streamq.serialization.payload import Payloads
from streamq.serialization.signing import Seal
from streamq.tasks import Call, Signature, Task, flattened

P = ParamSpec("P")
R = TypeVar("R")

#: Every app of this process, for those who ask for the default one.
apps: "weakref.WeakSet[App]" = weakref.WeakSet()


class App:
    """A set of tasks and queues on one Redis.

    ``url`` wins over every other place that names a Redis; without any, a bundled server
    is found or started.  ``include`` names modules with tasks that a worker imports; other
    keywords are settings.  Making an app does no I/O to Redis.
    """

    def __init__(
        self,
        name: str = "app",
        *,
        url: str | None = None,
        include: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self.name = check_name(name, "app name")
        if include:
            settings["include"] = include
        self.conf = Config.load(code={"url": url, **settings})
        self.tasks = Registry()
        self.declared: list[Queue] = []
        self.plans = Plans(self.conf, lambda: self.declared)
        apps.add(self)

    # What there is

    @property
    def queues(self) -> list[Queue]:
        """The queues that this app declares.  The list may be changed in place."""
        self.plans.forget()  # what was settled for other queues: whoever asks may change them
        return self.declared

    @queues.setter
    def queues(self, queues: Iterable[Queue]) -> None:
        self.declared[:] = queues
        self.plans.forget()

    def add_queue(self, queue: Queue) -> None:
        """Declare one more queue, in place of one of that name."""
        others = [other for other in self.declared if other.name != queue.name]
        self.queues = [*others, queue]

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, /, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Running, P], R]], Task[P, R]]: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function a task of this app: ``@app.task`` or ``@app.task(queue="mail")``.

        Options are those of a call, and ``name``, ``bind`` (the running task becomes the
        first argument) and ``typing`` (False sends arguments unchecked).  Raises
        ConfigError for an unknown option or a name that is taken.
        """

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            settled = checked(options, decorator=True)
            name = check_name(settled.get("name") or task_name(function), "task name")
            task: Task[..., Any] = Task(function, name, self, settled)
            self.tasks.add(task)
            self.plans.forget()
            return task

        return register if function is None else register(function)

    def signature(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Signature:
        """A call of a task by name, with options; the code need not be importable here."""
        task = self.tasks.tasks.get(name)
        return Signature(
            check_name(name, "task name"), positional(args), mapping(kwargs), checked(options), task
        )

    def autodiscover_tasks(
        self, packages: Packages = None, related_name: str | None = "tasks"
    ) -> None:
        """Have ``PACKAGE.tasks`` of each package imported when the tasks are needed.

        That is when a worker starts, or whoever looks into ``app.tasks``.  ``packages`` is a
        list, or what returns one then; None means the apps of Django.  A package may also be
        a plain module or the class of a Django app; with ``related_name=None`` the packages
        themselves are imported.
        """
        self.tasks.discoveries.append(Discovery.of(packages, related_name))

    def import_tasks(self) -> None:
        """Import the modules of ``include``, and what is to be discovered."""
        import_modules(tuple(self.conf.include))
        self.tasks.discover()

    # Redis

    @cached_property
    def store(self) -> Store:
        """What this app keeps in Redis; the first use finds or starts the server."""
        return Store(self.url, self.conf)

    @cached_property
    def no_results(self) -> Results:
        """For results that are here already: no Redis is asked."""
        return Store("redis://nowhere.invalid", self.conf).results

    @cached_property
    def url(self) -> str:
        """The URL of Redis: of the configuration, or of the bundled server."""
        return self.conf.url or ensure().url

    def close(self) -> None:
        """Close the app's connections; they open again when they are needed."""
        if "store" in vars(self):
            self.store.close()

    async def aclose(self) -> None:
        """Close what the app opened in the running event loop."""
        if "store" in vars(self):
            await self.store.asyncio.aclose()

    def declare(self, exchanges: Sequence[Exchange] = ()) -> None:
        """Declare this app's queues, exchanges and bindings in Redis."""
        self.store.topology.declare(self.declared, exchanges)

    # Sending

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
        return self.send(self.signature_of(what, args, kwargs))

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
        return await self.asend(self.signature_of(what, args, kwargs))

    def signature_of(self, what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
        """The call that ``enqueue`` is asked for."""
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

    def send(self, signature: Signature) -> Result[Any]:
        """Publish one call."""
        if self.conf.task_always_eager:
            return self.run_here(signature)
        envelope = self.plans.envelope(signature)
        args, kwargs = self.encoded(signature, envelope)
        given = signature.options.get("task_id")
        id = given or new_id()
        answer, began = None, monotonic()
        try:
            if envelope.short and given is None:
                answer = self.push(envelope, (id, args, kwargs), began)
            if answer is None:
                moment = self.moment(envelope, began)
                publication = envelope.publication(
                    id, args, kwargs, given=given is not None, expires=moment
                )
                answer = self.publish([publication], [signature], began=began)[0]
        except NotConfirmed as unmet:
            unmet.result = self.result_of(id, envelope, signature, answers_of(unmet.answer)[0])
            raise
        return self.result_of(id, envelope, signature, answer)

    async def asend(self, signature: Signature) -> Result[Any]:
        """Publish one call from asyncio."""
        if self.conf.task_always_eager:
            return self.run_here(signature)
        envelope, began = self.plans.envelope(signature), monotonic()
        lasts, store = envelope.lasts, self.store.asyncio
        moment = None if lasts is None else str(await store.moment(lasts, began))
        id, publication = self.publication(signature, envelope, moment)
        confirm = self.confirmations([envelope])
        try:
            try:
                answers = await store.publish([publication], confirm, began=began)
            except Refusal as refused:
                if not await store.in_thread(self.mend, refused, [signature], began):
                    raise
                answers = await store.publish([publication], confirm, began=began)
        except Refusal as refused:
            raise refused.error() from None
        except NotConfirmed as unmet:
            unmet.result = self.result_of(id, envelope, signature, answers_of(unmet.answer)[0])
            raise
        return self.result_of(id, envelope, signature, answers[0])

    def moment(self, envelope: Envelope, began: float) -> str | None:
        """The moment of the server's clock when a signed message expires, if it does."""
        lasts = envelope.lasts
        return None if lasts is None else str(self.store.moment(lasts, began))

    def publication(
        self, signature: Signature, envelope: Envelope, moment: str | None = None
    ) -> tuple[str, Publication]:
        """A call's id, and the script's arguments for it."""
        args, kwargs = self.encoded(signature, envelope)
        given = signature.options.get("task_id")
        id = given or new_id()
        return id, envelope.publication(id, args, kwargs, given=given is not None, expires=moment)

    def encoded(self, signature: Signature, envelope: Envelope) -> tuple[bytes, bytes]:
        """Check the arguments of a call against its task, and encode them."""
        args, kwargs = signature.args, signature.kwargs
        if signature.task is not None:
            signature.task.check(args, kwargs)
        try:
            if envelope.plain:
                encoded = encode_json(args)
                named = encode_json(kwargs) if kwargs else NO_KWARGS
            else:
                format = (envelope.serializer, envelope.compression)
                encoded = self.payloads.write(args, *format, "the arguments")
                named = self.payloads.write(kwargs, *format, "the arguments")
        except EncodeError as error:
            return self.encoded(flattened(signature, error), envelope)
        if len(encoded) + len(named) > self.payloads.limit:
            raise self.payloads.too_large(len(encoded) + len(named), "the arguments")
        return encoded, named

    def push(
        self, envelope: Envelope, message: tuple[str, bytes, bytes], began: float
    ) -> str | None:
        """Publish one plain message the short way; None if that is not the way for it."""
        confirm = () if envelope.confirm == "server" else self.confirmations([envelope])
        try:
            return self.store.publisher.push(envelope, message, confirm, began=began)
        except Refusal as refused:
            raise refused.error() from None

    def publish(
        self,
        publications: list[Publication],
        signatures: Sequence[Signature],
        lane: Lane | None = None,
        *,
        began: float | None = None,
    ) -> list[str]:
        """Publish all or none; declare this app's topology again if they lead nowhere.

        On ``lane``, if the caller has one, else on the next that is free.  All of it ends by
        ``publish_timeout`` after ``began`` (monotonic seconds), else after now.
        """
        confirm = self.confirmations(map(self.plans.envelope, signatures))
        began = monotonic() if began is None else began
        publish = partial(self.store.publisher.publish, publications, lane, confirm, began=began)
        try:
            return publish()
        except Refusal as refused:
            if not self.mend(refused, signatures, began):
                raise refused.error() from None
        try:
            return publish()
        except Refusal as refused:
            raise refused.error() from None

    def confirmations(self, envelopes: Iterable[Envelope]) -> tuple[Confirmation, ...]:
        """What these calls need beyond the server's word."""
        return self.store.confirmations(envelope.confirm for envelope in envelopes)

    def mend(self, refused: Refusal, signatures: Sequence[Signature], began: float) -> bool:
        """Declare what a refused publish may have missed; tell whether to publish again.

        Tries as long as there is time for the publish that began then.  Raises ConfigError if the
        user of the URL may not.
        """
        queues = self.plans.missed_by(signatures) if refused.leads_nowhere else []
        if queues:
            self.store.declare_again(queues, began, reason=refused.reason)
        return bool(queues)

    def result_of(
        self, id: str, envelope: Envelope, signature: Signature, answer: str
    ) -> Result[Any]:
        """The Result of a call that was accepted by these queues."""
        return Result(
            id,
            self.store.results,
            self.payloads,
            ignored=not envelope.keep,
            queues=tuple(answer.split(":")) if ":" in answer else (),
            convert=signature.task.result_converter if signature.task is not None else None,
        )

    def enqueue_many(self, signatures: Iterable[Signature]) -> list[Result[Any]]:
        """Send many calls in few round trips, each chunk all or nothing.

        Raises PartlyPublished when it cannot go on, with ``accepted`` (results) and
        ``remaining`` (signatures).
        """
        if self.conf.task_always_eager:
            return [self.run_here(signature) for signature in signatures]
        return Bulk(self, self.store.publisher, signatures).send()

    # Asking, and running here

    def result(self, id: str) -> Result[Any]:
        """The Result of a task that was sent elsewhere."""
        return Result(str(id), self.store.results, self.payloads)

    @property
    def seal(self) -> Seal | None:
        """What signs messages and checks them; None where they are not signed."""
        self.plans.refresh()
        return self.plans.seal

    @cached_property
    def payloads(self) -> Payloads:
        """How values are written and read, with the limits of the configuration."""
        conf = self.conf
        return Payloads(
            accept=conf.accept_content,
            limit=conf.message_limit,
            decompressed_limit=conf.decompressed_limit,
            ratio=conf.decompressed_ratio,
        )

    def run_here(self, signature: Signature) -> Result[Any]:
        """Run a call in this process, through serializer and result handling."""
        return run_here(self, signature)

    def __repr__(self) -> str:
        return f"<app {self.name}: {len(self.tasks.tasks)} tasks>"


NO_KWARGS = b"{}"
