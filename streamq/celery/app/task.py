"""Tasks by Celery's names: the class of the tasks of ``Celery``, and the base of users' own."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

from streamq.arguments import mapping, positional
from streamq.celery.app.options import call_options, warn_once
from streamq.celery.canvas import CelerySignature, refuse
from streamq.celery.current import get_current_app
from streamq.celery.request import CeleryRequest, Context
from streamq.celery.states import PENDING
from streamq.config.importing import import_named
from streamq.context import NotInThisVersion, current
from streamq.core.options import checked, read_option
from streamq.errors import (
    CHANGEABLE,
    UNCHANGED,
    BrokerUnavailable,
    ConfigError,
    MaxRetriesExceeded,
)
from streamq.host.modules import module_of
from streamq.result import Result
from streamq.states import FINAL, State
from streamq.tasks import PLAIN_APPLY_ASYNC
from streamq.tasks import Signature as Call
from streamq.tasks import Task as StreamqTask

__all__ = ["CeleryTask", "Context", "Task"]


class CeleryTask(StreamqTask[..., Any]):
    """A task of an app of streamq.celery.

    In a class of one's own, attributes named like options are options of its tasks, and methods
    such as ``on_failure`` are called around a run.  A bound function gets the task itself.
    """

    abstract = True
    rate_limit: Any = None
    trail = True
    send_events = True
    store_errors_even_if_ignored = False
    reject_on_worker_lost: Any = None
    acks_on_failure_or_timeout = True
    resultrepr_maxsize = 1024
    MaxRetriesExceededError = MaxRetriesExceeded
    OperationalError = BrokerUnavailable

    # Sending

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Send a call with its arguments as values and its options as keywords.

        Options that nobody knows are dropped, with one warning each.  Raises ConfigError for
        ``link`` and ``link_error``, which are not in this version.
        """
        more = {"task_id": task_id, "link": link, "link_error": link_error, "shadow": shadow}
        chosen = checked(call_options({**options, **more}))
        return self.sender.send(Call(self.name, positional(args), mapping(kwargs), chosen, self))

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run the call here, and return an EagerResult.

        Its arguments and value are not serialized.  With ``throw=True``, else by the setting
        task_eager_propagates, what the task raises is raised.
        """
        throw, retries = options.pop("throw", None), options.pop("retries", None) or 0
        for ignored in ("logfile", "loglevel"):
            options.pop(ignored, None)
        chosen = checked(call_options(options))
        call = Call(self.name, positional(args), mapping(kwargs), chosen, self)
        return self.app.run_eagerly(call, throw=throw, retries=retries)

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> CelerySignature:
        """Make a signature of this task: a call as a value."""
        return CelerySignature(self, args, kwargs, **options)

    subtask = signature

    def s(self, /, *args: Any, **kwargs: Any) -> Any:
        """Make a signature with these arguments."""
        return CelerySignature(self, args, kwargs)

    def si(self, /, *args: Any, **kwargs: Any) -> CelerySignature:
        """Make a signature whose arguments stay as they are."""
        return CelerySignature(self, args, kwargs, immutable=True)

    def subtask_from_request(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("subtask_from_request")

    def map(self, it: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("map")

    def starmap(self, it: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("starmap")

    def chunks(self, it: Any, n: int) -> NoReturn:
        """Refuse: not in this version."""
        refuse("chunks")

    def replace(self, sig: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("replace")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> NoReturn:
        """Refuse: not in this version."""
        refuse("add_to_chord")

    # The run

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function here, now; a test may have replaced ``run``."""
        replaced = self.__dict__.get("run")
        if replaced is not None:
            return replaced(*args, **kwargs)
        if "function" not in self.__dict__:  # an instance of a class, that no app has
            return self.run(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    @property
    def request(self) -> Any:
        """The request of the run that goes on here; outside of any, one with the id None."""
        pushed = vars(self).get("pushed_requests")
        if pushed:
            return pushed[-1]
        running = current.get()
        if running is None or running.task is not self:
            return CeleryRequest(task=self.name)
        found = vars(running).get("celery_request")
        if found is None:
            found = vars(running)["celery_request"] = CeleryRequest.of(running.request)
        return found

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Make a request with these attributes the task's, until ``pop_request``."""
        vars(self).setdefault("pushed_requests", []).append(CeleryRequest(*args, **kwargs))

    def pop_request(self) -> None:
        """Remove the request that ``push_request`` has made last."""
        vars(self)["pushed_requests"].pop()

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: Any = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Retry the task; see ``Running.retry``.  Unknown options are dropped, with a warning."""
        if eta is not None:
            countdown = None
        known = {name: value for name, value in options.items() if name in CHANGEABLE}
        for name in options.keys() - known.keys():
            warn_once(f"retry {name}", "the option %s of retry is dropped: unknown here", name)
        return self.running.retry(
            exc=exc,
            countdown=countdown,
            eta=eta,
            max_retries=UNCHANGED if max_retries is None else max_retries,
            args=args,
            kwargs=kwargs,
            throw=throw,
            **known,
        )

    def update_state(  # type: ignore[override]
        self,
        task_id: str | None = None,
        state: str | None = None,
        meta: Any = None,
        **more: Any,
    ) -> None:
        """Store a custom state and its data.

        A final state, such as FAILURE, is kept until the task raises Ignore, and is then its end.
        States of waiting tasks are not written: streamq itself sets those.
        """
        running, state = self.running, state or "PROGRESS"
        if task_id not in (None, self.request.id):
            raise ConfigError(
                "update_state sets the state of the task that runs, and of no other",
                known={"asked for": task_id, "running": self.request.id},
            )
        if state in FINAL:
            running.ending = (str(state), meta)
        elif state == State.STARTED and running.report is not None:
            running.report(running.request, state, meta)
        elif state in State.__members__ or state == PENDING:
            warn_once(f"state {state}", "update_state(%r) writes nothing: streamq sets it", state)
        else:
            running.update_state(state, meta)

    # What Celery's tasks have beside

    @property
    def request_stack(self) -> Any:
        """The requests pushed by ``push_request``, the newest last."""
        return vars(self).setdefault("pushed_requests", [])

    def add_trail(self, result: Result[Any]) -> Result[Any]:
        """Return the result: streamq keeps ``parent_id`` instead of a list of children."""
        return result

    def send_event(self, type_: str, **fields: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("send_event")

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """Return the name shown in place of the task's; None for the task's own."""
        return None

    def __reduce__(self) -> Any:
        """Pickle the task by its name: there it is that of the current app."""
        return named_task, (self.name, module_of(self.function))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {getattr(self.app, 'main', None)}>"


def read_attribute(task: Any, name: str) -> Any:
    """Return an option of a task that its class does not set; refuse what Celery's tasks have."""
    if name == "backend":
        advice = "instead: app.AsyncResult(id) reads results; self.update_state() sets a state"
        raise NotInThisVersion("not in this version: task.backend", advice=[advice])
    return read_option(task, name)


# Set so that type checkers do not see it, and still find a misspelt attribute.
type.__setattr__(CeleryTask, "__getattr__", read_attribute)


def named_task(name: str, module: str | None) -> Any:
    """The task of this name of the current app, for pickle; its module is imported first."""
    if module is not None:
        import_named(module)
    return get_current_app().tasks[name]


PLAIN_APPLY_ASYNC.add(id(CeleryTask.apply_async))

Task = CeleryTask
