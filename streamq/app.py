"""The app: an application's tasks, queues, settings and connection to Redis."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from streamq.arguments import mapping, positional
from streamq.broker.broker import Broker
from streamq.broker.results import Results
from streamq.config.config import Config
from streamq.context import Running
from streamq.core.options import checked
from streamq.devserver.server import ensure
from streamq.execution.eager import run_here
from streamq.producer.late_signal import LateSignal
from streamq.producer.periodic import schedules_of, usable
from streamq.producer.registry import (
    Discovery,
    Packages,
    Registry,
    import_modules,
    set_up_if_of_django,
)
from streamq.producer.schedules import Schedules
from streamq.producer.scheduling import Schedule
from streamq.producer.sending import CallSender
from streamq.producer.task_classes import make_task
from streamq.producer.templates import Templates
from streamq.result import Result
from streamq.routing import Exchange, Queue, check_name
from streamq.schedule import Cron, Every, When
from streamq.serialization.payload import Payloads
from streamq.serialization.signing import Signer
from streamq.tasks import Call, Signature, Task

P = ParamSpec("P")
R = TypeVar("R")

#: Every app of this process; ``default_app`` looks here.
apps: "weakref.WeakSet[App]" = weakref.WeakSet()


class App(CallSender):
    """A set of tasks and queues on one Redis.

    ``url`` overrides every other source of the URL; with no URL at all, the bundled server
    is found or started.  ``include`` names modules with tasks that a worker imports; other
    keywords are settings.  Making an app does no I/O to Redis.
    """

    #: The class of the settings.
    config_class: type[Config] = Config
    #: The class of the tasks, unless a task names another as ``base``.
    task_class: type[Task[..., Any]] = Task
    #: The class of what writes and reads values.
    payloads_class: type[Payloads] = Payloads

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
        self.conf = self.config_class.load(code={"url": url, **settings})
        self.tasks = Registry()
        self.own_queues: list[Queue] = []
        self.templates = Templates(self.conf, lambda: self.declared)
        self.middleware = ()
        self.schedules = Schedules(self)
        self.schedules.sources.append(self._periodic)
        #: Sent once, before the tasks are first needed: receivers declare periodic tasks.
        self.on_after_configure = LateSignal("on_after_configure")
        #: Sent once, when the modules with tasks are imported.
        self.on_after_finalize = LateSignal("on_after_finalize")
        apps.add(self)

    # Declarations

    def config_from_object(self, obj: object, namespace: str | None = None) -> None:
        """Take settings from an object, when one is first needed.

        ``obj`` is a module, a class, an object or a mapping, or the text that names one:
        ``"package.module"``, ``"package.module:attribute"``.  With a ``namespace`` such as
        "STREAMQ", names that begin with ``STREAMQ_`` are settings; without one, names of
        settings in lower case.  Several calls add up; the later counts.  Code, the environment
        and flags override objects.
        """
        self.conf.add_object(obj, namespace)

    @property
    def declared(self) -> list[Queue]:
        """The queues to declare: ``queues``, and those of Celery's setting ``task_queues``."""
        own = {queue.name for queue in self.own_queues}
        more = [queue for queue in self.conf.declared_queues if queue.name not in own]
        return [*self.own_queues, *more] if more else self.own_queues

    @property
    def queues(self) -> list[Queue]:
        """The queues that this app declares.  The list may be changed in place."""
        self.templates.invalidate()  # the caller may change the list
        return self.declared

    @queues.setter
    def queues(self, queues: Iterable[Queue]) -> None:
        self.own_queues[:] = queues
        self.templates.invalidate()

    def add_queue(self, queue: Queue) -> None:
        """Declare one more queue, in place of one of that name."""
        others = [other for other in self.own_queues if other.name != queue.name]
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
        first argument), ``typing`` (False sends arguments unchecked) and ``base``, a class of
        tasks in place of the app's ``task_class``.  Raises ConfigError for an unknown option or
        a name that is taken.
        """

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            chosen = dict(options)
            task = make_task(chosen.pop("base", None) or self.task_class, function, self, chosen)
            self.tasks.add(task)
            self.templates.invalidate()
            return task

        return register if function is None else register(function)

    def schedule(
        self,
        name: str,
        task: Task[..., Any] | Call[..., Any] | Signature | str,
        when: When | timedelta | float | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> Schedule:
        """Declare a schedule: every worker of the app fires it, each moment once.

        ``when`` is made by ``cron``, ``crontab``, ``every`` or ``at``, or has a method
        ``next_after(moment)``; a number or a timedelta is an interval.  Of the ``rules``, ``tz``
        names the zone of local times; ``jitter`` delays each run by up to so many seconds;
        ``overlap`` is "allow", "skip" or "replace"; ``catch_up`` is "one", "none" or "all"; what
        is later than ``deadline`` seconds is missed.  Others are options of the call.

        Raises ConfigError for a wrong value, and for a second schedule of that name.
        """
        return self.schedules.declare(self.schedules.make(name, task, when, args, kwargs, **rules))

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Declare a schedule as Celery's users do; return its name: that of the task, without one.

        ``schedule`` is a number of seconds, a timedelta, a crontab or another schedule, and ``sig``
        a signature, a task or its name.
        """
        call = self.signature_of(sig, tuple(args), dict(kwargs or {}))
        given = (*map(repr, call.args), *(f"{key}={value!r}" for key, value in call.kwargs.items()))
        chosen = usable(name or f"{call.name}({', '.join(given)})")
        self.schedule(chosen, call, schedule, **options)
        return chosen

    def _periodic(self) -> None:
        """Declare what the setting ``beat_schedule`` has, as it is now."""
        for each in schedules_of(self.conf.beat_schedule, self._make_schedule):
            self.schedules.declare(each)

    def _make_schedule(
        self, name: str, task: Any, when: Any, args: Any, kwargs: Any, **options: Any
    ) -> Schedule:
        """Make the schedule of an entry of beat_schedule."""
        return self.schedules.make(name, task, when, args, kwargs, **options)

    def every(self, interval: float | timedelta | str, **options: Any) -> Callable[[Any], Any]:
        """Run a function at an interval: ``@app.every("30s")``.

        A plain function becomes a task, as by ``task``.  ``name`` is the name of the schedule,
        if not that of the task; the other options are those of ``schedule``.
        """
        return self.scheduled(Every(interval), options)

    def cron(self, text: str, **options: Any) -> Callable[[Any], Any]:
        """Run a function at the moments of a cron text: ``@app.cron("30 2 * * *")``.

        The options are those of ``every``.
        """
        return self.scheduled(Cron(text), options)

    def scheduled(self, when: When, options: dict[str, Any]) -> Callable[[Any], Any]:
        """Make the decorator of a schedule."""

        def declare(function: Any) -> Any:
            task = function if isinstance(function, Task) else self.task(function)
            self.schedule(options.pop("name", None) or task.name, task, when, **options)
            return task

        return declare

    def signature(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Signature:
        """Make a call of a task by name, with options; the code need not be importable here."""
        task = self.tasks.tasks.get(name)
        return Signature(
            check_name(name, "task name"), positional(args), mapping(kwargs), checked(options), task
        )

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result[Any]:
        """Send a call of a task by its name, with options; see ``Task.enqueue``."""
        return self.send(self.signature(name, args, kwargs, **options))

    def autodiscover_tasks(
        self, packages: Packages = None, related_name: str | None = "tasks"
    ) -> None:
        """Import ``PACKAGE.tasks`` of each package when the tasks are needed.

        That is when a worker starts or when ``app.tasks`` is read.  ``packages`` is a list, or
        a function that returns one then; None means the apps of Django.  A package may also be
        a plain module or the class of a Django app; with ``related_name=None`` the packages
        themselves are imported.
        """
        self.tasks.discoveries.append(Discovery.of(packages, related_name))

    def worker_sender(self, node: str) -> str:
        """The sender of the signals of a worker of this name: the name."""
        return node

    def import_tasks(self) -> None:
        """Import the modules of ``include``, then those of ``autodiscover_tasks``."""
        set_up_if_of_django()
        self.on_after_configure.send_once(self)
        import_modules(tuple(self.conf.include))
        self.tasks.discover()
        self.on_after_finalize.send_once(self)

    # Redis

    @cached_property
    def broker(self) -> Broker:
        """The broker: this app's access to Redis.  The first use finds or starts the server."""
        return Broker(self.url, self.conf)

    @cached_property
    def no_results(self) -> Results:
        """The results of calls that run in this process: they never ask Redis."""
        return Broker("redis://nowhere.invalid", self.conf).results

    @cached_property
    def url(self) -> str:
        """The URL of Redis: from the configuration, else that of the bundled server."""
        return self.conf.url or ensure().url

    def close(self) -> None:
        """Close the app's connections; they open again when they are needed."""
        if "broker" in vars(self):
            self.broker.close()

    async def aclose(self) -> None:
        """Close the connections that the app opened in the running event loop."""
        if "broker" in vars(self):
            await self.broker.asyncio.aclose()

    def declare(self, exchanges: Sequence[Exchange] = ()) -> None:
        """Declare this app's queues, exchanges and bindings in Redis."""
        self.broker.topology.declare(self.declared, exchanges)

    # Results, and calls that run here

    def result(self, id: str) -> Result[Any]:
        """Make the Result of a task by its id, wherever it was sent."""
        return Result(str(id), self.broker.results, self.payloads)

    AsyncResult = result

    def revoke(
        self, ids: str | Iterable[str], *, terminate: bool = False, signal: str | int = "SIGTERM"
    ) -> None:
        """Revoke a task, or several, by id; see ``Result.revoke``."""
        for id in [ids] if isinstance(ids, str) else ids:
            self.result(id).revoke(terminate=terminate, signal=signal)

    @property
    def signer(self) -> Signer | None:
        """The signer of messages; None if they are not signed."""
        self.templates.refresh()
        return self.templates.signer

    @cached_property
    def payloads(self) -> Payloads:
        """The reader and writer of values, with the limits of the configuration."""
        conf = self.conf
        return self.payloads_class(
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
