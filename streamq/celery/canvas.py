"""Signatures by Celery's names: a single call as a value.

``chain``, ``group`` and ``chord`` can be imported; using one is refused by its name.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

from streamq.arguments import mapping, positional
from streamq.celery.current import get_current_app
from streamq.context import NotInThisVersion
from streamq.host.ids import new_id

__all__ = [
    "CelerySignature",
    "Signature",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "starmap",
    "subtask",
    "xmap",
    "xstarmap",
]

logger = logging.getLogger("streamq")


def refuse(what: str) -> NoReturn:
    """Raise the error of what belongs to a later version."""
    raise NotInThisVersion(f"not in this version: {what}")


class CelerySignature(dict[str, Any]):
    """A call of a task as a value: its name, arguments and options.

    It is a mapping, as Celery's is, so that it can be sent as an argument; ``signature(mapping)``
    makes a signature again.
    """

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        **more: Any,
    ) -> None:
        app = more.pop("app", None)
        immutable = more.pop("immutable", False)
        subtask_type = more.pop("subtask_type", None)
        if isinstance(task, Mapping):
            super().__init__(task)
        else:
            name = task if isinstance(task, str) else getattr(task, "name", None)
            type = type if task is None or isinstance(task, str) else task
            super().__init__(
                task=name,
                args=positional(args),
                kwargs=dict(mapping(kwargs)),
                options={**(options or {}), **more},
                subtask_type=subtask_type,
                immutable=immutable,
            )
        self._type = type
        self._app = app if app is not None else getattr(type, "app", None)

    # What it holds

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self["task"])

    name = task

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return tuple(self.get("args") or ())

    @args.setter
    def args(self, args: Sequence[Any]) -> None:
        self["args"] = positional(args)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The named arguments."""
        found: dict[str, Any] = self.setdefault("kwargs", {})
        return found

    @kwargs.setter
    def kwargs(self, kwargs: Mapping[str, Any]) -> None:
        self["kwargs"] = dict(kwargs)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the call."""
        found: dict[str, Any] = self.setdefault("options", {})
        return found

    @property
    def immutable(self) -> bool:
        """Whether the arguments stay as they are: made by ``si``."""
        return bool(self.get("immutable"))

    @property
    def id(self) -> str | None:
        """The id that the task will have; None if that is not decided."""
        return self.options.get("task_id")

    @property
    def app(self) -> Any:
        """The app that sends it."""
        return self._app if self._app is not None else get_current_app()

    @property
    def type(self) -> Any:
        """The task, if this process knows it.  Raises TaskNotFound if not."""
        return self._type if self._type is not None else self.app.tasks[self.task]

    # Changing

    def clone(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Return a copy, with more arguments before its own and with more options."""
        merged_args, merged_kwargs, merged_options = self._merge(args, kwargs, options)
        copy = type(self)(
            {
                **self,
                "args": merged_args,
                "kwargs": merged_kwargs,
                "options": merged_options,
            },
            type=self._type,
            app=self._app,
        )
        return copy

    partial = clone

    def _merge(
        self,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        *,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """The arguments and options with more of them; an immutable call keeps its arguments."""
        merged = {**self.options, **options}
        if self.immutable and not force:
            return self.args, dict(self.kwargs), merged
        return positional(args) + self.args, {**self.kwargs, **mapping(kwargs)}, merged

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Set options of the call, and return the same signature."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Set whether the arguments stay as they are."""
        self["immutable"] = immutable

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a copy with other arguments or options in place of its own."""
        copy = self.clone()
        if args is not None:
            copy["args"] = positional(args)
        if kwargs is not None:
            copy["kwargs"] = dict(kwargs)
        if options is not None:
            copy["options"] = dict(options)
        return copy

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "CelerySignature":
        """Make a signature of the mapping that one is."""
        return signature(d, app=app)

    def freeze(self, _id: str | None = None, **unused: Any) -> Any:
        """Decide the id of the call, and return the AsyncResult that it will have."""
        id = self.options.setdefault("task_id", _id or new_id())
        return self.app.AsyncResult(id)

    _freeze = freeze

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Write the call with more arguments, for people."""
        return repr(self.clone(args, kwargs))

    # Sending

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Send the call, with more arguments before its own and with more options."""
        found, named, merged = self._merge(args, kwargs, options)
        task = self._type
        if task is None:
            task = self.app.tasks.get(self.task)
        if task is None:
            return self.app.send_task(self.task, found, named, **merged)
        return task.apply_async(found, named, **merged)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the call, with more arguments before its own."""
        return self.apply_async(args, kwargs)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run the call here, through serializer and result handling."""
        found, named, merged = self._merge(args, kwargs, options)
        return self.type.apply(found, named, **merged)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here, now."""
        found, named, _ = self._merge(args, kwargs, {})
        return self.type(*found, **named)

    # Workflows, which are of a later version

    def link(self, callback: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("link")

    def link_error(self, errback: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("link_error")

    def on_error(self, errback: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("on_error")

    def stamp(self, visitor: Any = None, **headers: Any) -> NoReturn:
        """Refuse: not in this version."""
        refuse("stamp; set(headers={…}) gives a call headers")

    def __or__(self, other: Any) -> NoReturn:
        refuse("chain, as in a | b")

    __ror__ = __or__

    def __deepcopy__(self, memo: Any) -> Self:
        return self.clone()

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __repr__(self) -> str:
        shown = [*map(repr, self.args), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        return f"{self.task}({', '.join(shown)})"


Signature = CelerySignature


def signature(varies: Any, *args: Any, **kwargs: Any) -> CelerySignature:
    """Make a signature: of a task or its name with args and kwargs, or of a mapping."""
    app = kwargs.pop("app", None)
    if isinstance(varies, Mapping):
        if varies.get("subtask_type"):
            refuse(str(varies["subtask_type"]))
        if isinstance(varies, CelerySignature):
            return varies.clone()
        return CelerySignature(varies, app=app)
    return CelerySignature(varies, *args, app=app, **kwargs)


subtask = signature


def maybe_signature(given: Any, app: Any = None, clone: bool = False) -> CelerySignature | None:
    """Make a signature of a mapping; return a signature and None as they are."""
    if given is None or (isinstance(given, CelerySignature) and not clone):
        return given
    return signature(given, app=app)


def schedule_entry(
    schedule: Any,
    what: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Make an entry of beat_schedule: of a signature, a task or its name, with more arguments."""
    given = isinstance(what, CelerySignature)
    return {
        "schedule": schedule,
        "task": what.task if given else getattr(what, "name", what),
        "args": (*(what.args if given else ()), *args),
        "kwargs": {**(what.kwargs if given else {}), **(kwargs or {})},
        "options": {**(what.options if given else {}), **options},
    }


class LaterWorkflow:
    """The base of workflows of a later version: using one is refused by its name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__doc__ = f"``{cls.__name__}`` is not in this version: calling it says so."

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(cls.__name__.removeprefix("_"))


class chain(LaterWorkflow): ...


class group(LaterWorkflow): ...


class chord(LaterWorkflow): ...


class chunks(LaterWorkflow): ...


class xmap(LaterWorkflow): ...


class xstarmap(LaterWorkflow): ...


starmap = xstarmap
