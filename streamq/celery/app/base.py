"""The app by Celery's names: ``Celery``."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import cached_property, partial
from types import MethodType
from typing import Any, Self
from zoneinfo import ZoneInfo

from streamq.app import App
from streamq.celery.app.configured import ConfiguredApp
from streamq.celery.app.names import (
    ELSEWHERE,
    IGNORED,
    app_name,
    is_redefined,
    maker_of,
    named_class,
    without_program,
    words_for,
)
from streamq.celery.app.options import call_options, task_options
from streamq.celery.app.registry import CeleryRegistry, actual
from streamq.celery.app.task import CeleryTask
from streamq.celery.canvas import CelerySignature
from streamq.celery.config import CeleryConfig
from streamq.celery.current import CurrentApp, celery_apps, get_current_task
from streamq.celery.eager import run_eagerly
from streamq.celery.marks import MarkedPayloads
from streamq.celery.result import AsyncResult, EagerResult, GroupResult, ResultSet
from streamq.celery.shared import makers, share
from streamq.config.importing import import_named
from streamq.context import NotInThisVersion
from streamq.core.functions import check_has_name
from streamq.core.message import MessageTemplate
from streamq.errors import ConfigError
from streamq.host import clock
from streamq.host.modules import module_of
from streamq.producer.encoding import encoded
from streamq.producer.late_signal import LateSignal
from streamq.producer.task_classes import make_task
from streamq.result import Result
from streamq.tasks import Signature as Call
from streamq.tasks import Task


class Celery(ConfiguredApp):
    """An app with Celery's names and defaults.

    ``broker`` is the URL of Redis; ``backend`` must name the same server.  ``include`` names
    modules with tasks, ``task_cls`` is the class of the tasks or its name as text; other keywords
    are settings.  The app becomes the current one unless ``set_as_current`` is False.
    """

    config_class = CeleryConfig
    payloads_class = MarkedPayloads
    #: The settings can always be read.
    configured = True
    #: What users may name without an import.
    GroupResult = GroupResult
    ResultSet = ResultSet

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] = (),
        task_cls: Any = None,
        set_as_current: bool = True,
        **settings: Any,
    ) -> None:
        self.main = main
        self.task_cls = task_cls or CeleryTask
        self.finalized = self.completed = False
        #: What makes the tasks that name no class again, for a class that is assigned later.
        self.of_default_class: list[Callable[[Any], Any]] = []
        self.set_as_current = set_as_current
        self.user_options: dict[str, set[Any]] = defaultdict(set)
        self.on_configure = LateSignal("on_configure")
        source = settings.pop("config_source", None)
        namespace = settings.pop("namespace", None) if source is not None else None
        settings |= settings.pop("changes", None) or {}
        tasks = settings.pop("tasks", None)
        for ignored in IGNORED:
            settings.pop(ignored, None)
        if backend is not None:
            settings["result_backend"] = backend
        url = broker or settings.pop("url", None)
        super().__init__(app_name(main), url=url, include=include, **settings)
        self.tasks = CeleryRegistry(self.finalize)
        for task in (tasks or {}).values():
            self.tasks.register(task)
        celery_apps.add(self)
        if set_as_current:
            self.set_current()
        if source is not None:
            self.config_from_object(source, namespace=namespace)

    # The current app

    def set_current(self) -> None:
        """Make this the current app of the process."""
        CurrentApp.app = self

    def set_default(self) -> None:
        """Make this the app that is current where no other is."""
        CurrentApp.default = self

    @property
    def current_task(self) -> Any:
        """The task that is running here; None outside of one."""
        return get_current_task()

    current_worker_task = current_task

    # Tasks

    @property
    def Task(self) -> Any:
        """The class of the app's tasks; assign another, or its name as text.

        Factories assign it after the modules of tasks are imported: until the app is complete,
        tasks that were made before and name no class become tasks of the new one.
        """
        if isinstance(self.task_cls, str):
            self.task_cls = named_class(self.task_cls)
        return self.task_cls

    @Task.setter
    def Task(self, cls: Any) -> None:
        self.task_cls = cls
        for make in self.of_default_class:
            make(self.Task)

    def task(self, /, *args: Any, **options: Any) -> Any:
        """Make a function a task: ``@app.task`` or ``@app.task(bind=True, queue="mail")``.

        The other apps of the process have it too, unless ``shared=False``.  Options that nobody
        knows become attributes of the task.
        """
        shared = options.pop("shared", True)

        def register(function: Callable[..., Any]) -> Any:
            task = self._task_from_fun(function, again=True, **options)
            if shared:
                share(task.name, maker_of(task, options))
            return task

        if len(args) == 1 and callable(args[0]):
            return register(args[0])
        if args:
            raise ConfigError(
                f"app.task takes a function, and its options by name: not {args[0]!r}",
                advice=['@app.task(name="shop.send_mail")'],
            )
        return register

    def _task_from_fun(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        base: Any = None,
        *,
        again: bool = False,
        **options: Any,
    ) -> Any:
        """Register a function as a task, and return it; the known one if it is registered.

        ``again``: it is defined now, and so may replace one of its name, or is a mistake.
        """
        options.pop("shared", None)
        options.pop("lazy", None)
        if name is None:
            if not hasattr(function, "__name__"):
                check_has_name(function)
            module = module_of(function) or self.main or function.__module__
            name = self.gen_task_name(function.__name__, module)
        known = self.tasks.tasks.get(name)
        if known is not None and not again and not is_redefined(known, function):
            return known
        chosen, attributes = task_options(name, options)
        chosen["name"] = name

        def make(cls: Any, task: Any = None) -> Any:
            task = make_task(cls, function, self, chosen, task)
            task.warn_unimportable = "name" not in options and module_of(function) is None
            if task.bind:  # tests call task.__wrapped__(…), or its __func__ with their own self
                attributes["__wrapped__"] = MethodType(function, task)
            task.converter = task.result_converter = None  # marks say what a value is
            vars(task).update(attributes)
            return task

        task = make(base or self.Task)
        if base is None and not self.completed:
            self.of_default_class.append(partial(make, task=task))
        if again:
            self.tasks.add(task)
        else:
            self.tasks.tasks[name] = task
        self.templates.invalidate()
        return task

    def gen_task_name(self, name: str, module: str) -> str:
        """Make the name of a task that is given none: ``module.function``."""
        return f"{module}.{name}"

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a task of a class with its own ``run``: an instance, or the class."""
        if isinstance(task, type):
            task = task()
        if not isinstance(task, Task):
            return self.task(task, **options)
        cls = type(task)
        if cls.run is Task.run:
            raise ConfigError(
                f"{cls.__qualname__} has no method run",
                known={"given to": "app.register_task"},
                advice=["def run(self, x): …", "or @app.task on a function"],
            )
        name = options.pop("name", None) or getattr(task, "name", None)
        name = name or f"{cls.__module__}.{cls.__qualname__}"
        chosen, attributes = task_options(name, options)
        made = make_task(cls, task.run, self, {**chosen, "name": name})
        vars(task).update({**vars(made), **vars(task), **attributes})
        task.converter = task.result_converter = None
        self.tasks.tasks[name] = task
        self.templates.invalidate()
        return task

    def finalize(self, auto: bool = False) -> None:
        """Complete the tasks, once: shared ones are taken in, and on_after_finalize is sent."""
        if self.completed:
            return
        first, self.finalized = not self.finalized, True  # what is shared from here on is taken in
        for make in list(makers.values()):
            make(self)
        self.completed = True
        self.of_default_class.clear()
        if first:
            self.on_configure.send_once(self)
            self.on_after_configure.send_once(self)
            self.on_after_finalize.send_once(self)

    def complete_tasks(self) -> None:
        """Complete the tasks, once."""
        self.finalize()

    def import_tasks(self) -> None:
        """Import the modules with tasks, complete the tasks, and make this the current app."""
        self.set_current()
        super().import_tasks()
        self.finalize()

    # Sending

    def signature(  # type: ignore[override]
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> CelerySignature:
        """Make a signature: a call of a task by name, as a value."""
        return CelerySignature(name, args, kwargs, app=self, **options)

    subtask = signature

    def signature_of(self, what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Make a call of the arguments of ``enqueue``."""
        what = actual(what)
        if isinstance(what, str):
            return App.signature(self, what, args, kwargs)
        if isinstance(what, Task):
            return Call(what.name, args, kwargs, {}, what)
        if isinstance(what, CelerySignature):
            return self.call_of(what).with_args(args, kwargs)
        return super().signature_of(what, args, kwargs)

    def call_of(self, signature: CelerySignature) -> Call:
        """The call that a signature stands for."""
        options = call_options(signature.options)
        return App.signature(self, signature.task, signature.args, signature.kwargs, **options)

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Send a call of a task by its name, with options; the code need not be importable here."""
        call = App.signature(self, name, args, kwargs, **call_options(options))
        return self.send(call)

    def enqueue_many(self, signatures: Iterable[Any]) -> list[Result[Any]]:
        """Send many calls in few round trips; see ``App.enqueue_many``."""
        return super().enqueue_many(
            self.call_of(each) if isinstance(each, CelerySignature) else each for each in signatures
        )

    def result_of(
        self, id: str, template: MessageTemplate, signature: Call, answer: str
    ) -> Result[Any]:
        """Make the AsyncResult of an accepted call; ``answer`` names its queues."""
        queues = tuple(answer.split(":")) if ":" in answer else ()
        return AsyncResult.sent(id, self, ignored=not template.keep, queues=queues)

    def result_here(self, id: str, template: MessageTemplate) -> Result[Any]:
        """Make the AsyncResult of a call that is to run in this process."""
        return AsyncResult.sent(id, self, ignored=not template.keep, queues=())

    def run_here(self, signature: Call) -> EagerResult:
        """Run a call in this process, with arguments that a serializer has written and read."""
        template = self.templates.for_local_run(signature)
        args, kwargs = encoded(signature, template, self.payloads)
        form = (template.serializer, template.compression)
        found = self.payloads.read(args, *form), self.payloads.read(kwargs, *form)
        call = Call(signature.name, tuple(found[0]), found[1], signature.options, signature.task)
        return run_eagerly(self, call)

    run_eagerly = run_eagerly

    def result(self, id: str) -> AsyncResult:
        """Make the AsyncResult of a task by its id."""
        return AsyncResult(id, app=self)

    def AsyncResult(
        self, id: str, backend: Any = None, task_name: str | None = None
    ) -> AsyncResult:
        """Make the AsyncResult of a task by its id."""
        return AsyncResult(id, task_name=task_name, app=self)

    # What else Celery's app has

    @cached_property
    def on_after_fork(self) -> Any:
        """A signal that is never sent: worker_process_init is."""
        advice = "worker_process_init is sent in each new process"
        not_sent = import_named("streamq.celery.signals").SignalNotSent
        return not_sent("on_after_fork", advice=advice)

    @cached_property
    def control(self) -> Any:
        """The remote control of workers."""
        return import_named("streamq.celery.app.control").Control(self)

    @property
    def timezone(self) -> tzinfo:
        """The time zone of times that name none."""
        return ZoneInfo(self.conf.timezone or "UTC")

    def uses_utc_timezone(self) -> bool:
        """Whether times that name no zone are UTC."""
        return str(self.timezone) == "UTC"

    def now(self) -> datetime:
        """The time now, in the app's time zone."""
        return datetime.fromtimestamp(clock.time(), self.timezone)

    def start(self, argv: Sequence[str] | None = None) -> None:
        """Run the command line for this app: ``app.start(["worker", "-l", "info"])``.

        Without words: those that follow the name of this program.
        """
        command = import_named("streamq.cli.main").main
        words = without_program(sys.argv if argv is None else argv)
        command.main([*words_for(self), *words], prog_name="streamq celery")

    def worker_main(self, argv: Sequence[str] | None = None) -> None:
        """Run a worker of this app: ``app.worker_main(["worker", "-l", "info"])``."""
        words = without_program(sys.argv if argv is None else argv)
        self.start(words if words[:1] == ["worker"] or argv else ["worker"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name in ELSEWHERE:
            raise NotInThisVersion(
                f"not in this version: app.{name}", advice=[f"instead: {ELSEWHERE[name]}"]
            )
        raise AttributeError(f"the app has no attribute {name!r}")

    def __reduce__(self) -> Any:
        raise TypeError(
            "an app cannot be pickled: it holds connections\n  → import it where it is needed"
        )

    def __repr__(self) -> str:
        return f"<Celery {self.main or 'default'}>"
