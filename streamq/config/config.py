"""Config: the values of the settings, their sources and their precedence.

    flag  >  environment  >  code  >  object  >  file  >  default

Only an explicit ``App(url=…)`` is never overridden.  Files and the environment are read
once, in ``Config.load``, objects when a setting is first needed; afterwards a setting is an
attribute like any other.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from streamq.config.cpus import usable_cpus
from streamq.config.files import of_nearest_file
from streamq.config.given import GivenValue
from streamq.config.lazy import LIVE
from streamq.config.mapping import SettingsMapping
from streamq.config.reading import ObjectReader
from streamq.config.settings import ALIASES, SETTINGS, USABLE_CPUS, Setting, find
from streamq.core.text import mask_url
from streamq.errors import ConfigError
from streamq.routing import Queue
from streamq.serialization.signing import KeyRing

LAYERS = ("flag", "environment", "code", "object", "file")
#: The layers that are above objects.
ABOVE = LAYERS[: LAYERS.index("object")]

PREFIX = "STREAMQ_"
#: Variables with our prefix that are no settings: those for streamq's own processes and
#: tests, and those that Kubernetes sets for a service named "streamq…".
NOT_SETTINGS = re.compile(
    r"STREAMQ_(?:CHILD_|TEST_|SERVER_).*"
    r"|STREAMQ_(?:\w+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT(?:_\d+_(?:TCP|UDP)\w*)?)"
)


class UnknownSetting(ConfigError, AttributeError):
    """No setting has the name of this attribute."""


class Shown(NamedTuple):
    """One line of ``streamq config show``; passwords are masked."""

    name: str
    value: object
    origin: str


class Config(ObjectReader, SettingsMapping):
    """The settings of one app.

    A setting is a plain attribute.  Assigning one, or an item, or calling ``update`` sets it
    in the layer ``code``: the environment and flags override it.  ``Config()`` has the
    defaults.
    """

    url: str | None
    namespace: str
    app: str | None
    include: tuple[str, ...]
    timezone: str | None
    beat_schedule: Any
    scheduler: bool
    schedule_revision: int
    queues: tuple[str, ...]
    task_default_queue: str
    task_create_missing_queues: bool
    task_routes: Any
    task_default_priority: int
    task_serializer: str
    result_serializer: str
    accept_content: tuple[str, ...]
    task_compression: str | None
    result_compression: str | None
    message_limit: int
    result_limit: int
    decompressed_limit: int
    decompressed_ratio: int
    signing: str
    signing_keys: KeyRing | None
    signing_key: str | None
    publish_timeout: float
    confirm: str
    confirm_replicas: int
    confirm_timeout: float
    on_commit: bool | str
    dedup_window: float
    task_always_eager: bool
    task_eager_propagates: bool
    acks_late: bool
    max_deliveries: int
    task_time_limit: float
    task_soft_time_limit: float
    max_retries: int | None
    default_retry_delay: float
    retry_backoff_max: float
    retry_jitter: bool
    unknown_task_patience: float
    revoke_expires: float
    ignore_result: bool
    track_started: bool
    result_expires: float
    dead_max_length: int
    dead_expires: float
    pool: str
    concurrency: int
    processes: int
    worker_name: str
    lease: float
    shutdown_timeout: float
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    log_level: str
    log_format: str

    _layers: dict[str, dict[str, GivenValue]]
    _origins: dict[str, str]
    _url_is_fixed: bool
    #: The layers that are looked at first for the URL of an app that was made with one.
    _before_url: tuple[str, ...] = ("code",)
    _changes: int

    def __init__(self) -> None:
        state: dict[str, Any] = vars(self)
        state.update(_layers={layer: {} for layer in LAYERS}, _origins={}, _url_is_fixed=False)
        state.update(_changes=0, _unread=[], _objects=[], _live={}, _above=set())
        self._resolve(SETTINGS)

    @classmethod
    def load(
        cls,
        code: Mapping[str, object] | None = None,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Read all sources of settings, once.

        ``code`` are the arguments of ``App``.  ``environ`` is the process's own unless
        given; the file is the nearest to ``folder``, or to the current one.
        """
        config = cls()
        try:
            config._give("file", of_nearest_file(folder))
            environ = os.environ if environ is None else environ
            config._give("environment", config._of_environment(environ))
        except ConfigError as error:
            error.in_code = False
            raise
        config._take_arguments(code or {})
        config.with_flags(**(flags or {}))
        return config

    def with_flags(self, **flags: object) -> None:
        """Set the layer of command line flags; a flag that is None or () was not given."""
        given = [(name, value) for name, value in flags.items() if value not in (None, ())]
        self._give("flag", (GivenValue(name, value, flag_of(name)) for name, value in given))

    def update(self, settings: Mapping[str, object] | None = None, /, **more: object) -> None:
        """Set several settings in the layer ``code``: all of them or, if one is wrong, none."""
        given = {**(settings or {}), **more}
        self._give("code", (GivenValue(name, value, "code") for name, value in given.items()))

    def unset(self, names: Iterable[str]) -> None:
        """Drop what was set in the layer ``code``: the next source of each value counts again."""
        dropped = [name for name in names if self._layers["code"].pop(name, None) is not None]
        self._resolve(dropped)

    @property
    def declared_queues(self) -> tuple[Queue, ...]:
        """The queues that a setting of Celery declares; none here."""
        return ()

    def notes(self) -> list[str]:
        """Lines for a worker's banner about settings with another default or no effect."""
        return []

    @property
    def changes(self) -> int:
        """The number of changes so far, for caches of values that depend on settings."""
        return self._changes

    def origin(self, name: str) -> str:
        """Return the source of the value of ``name``.

        For example "STREAMQ_LEASE", "streamq.toml (/srv/shop)", "code", "--concurrency"
        or "default".
        """
        setting = find(name).name
        return self._live_origin(setting) or self._origins[setting]

    def shown(self) -> list[Shown]:
        """All settings with their origins, with secrets masked."""
        return [Shown(name, self._to_show(name), self.origin(name)) for name in SETTINGS]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, find(name).name)

    def __setitem__(self, name: str, value: object) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        self.unset([find(name).name])

    def __setattr__(self, name: str, value: object) -> None:
        self.update({name: value})

    def __contains__(self, name: object) -> bool:
        return name in SETTINGS or name in ALIASES

    def __iter__(self) -> Iterator[str]:
        return iter(SETTINGS)

    def __repr__(self) -> str:
        try:
            chosen = [shown for shown in self.shown() if shown.origin != "default"]
        except ConfigError as error:  # an object that cannot be read
            return f"Config({str(error).splitlines()[0]})"
        return f"Config({', '.join(f'{shown.name}={shown.value!r}' for shown in chosen)})"

    def _of_environment(self, environ: Mapping[str, str]) -> Iterator[GivenValue]:
        """Yield the settings in environment variables; an empty variable counts as not set."""
        for variable, value in environ.items():
            ours = variable.startswith(PREFIX) and not NOT_SETTINGS.fullmatch(variable)
            if ours and value.strip():
                yield GivenValue(variable.removeprefix(PREFIX).lower(), value, variable, PREFIX)

    def _give(self, layer: str, settings: Iterable[GivenValue]) -> None:
        """Check values and put them into a layer."""
        taken: dict[str, GivenValue] = {}
        for given in settings:
            setting = recognise(layer, given)
            if setting.name in taken:
                raise ConfigError(
                    f"{setting.name} is set twice",
                    known={"as": f"{taken[setting.name].name} and {given.name}"},
                    advice=["two names of one setting: keep one"],
                )
            value = setting.kind.read(given.value, label(layer, setting, given))
            taken[setting.name] = given._replace(value=value)
        self._layers[layer].update(taken)
        self._resolve(taken)

    def _take_arguments(self, code: Mapping[str, object]) -> None:
        """Set the arguments of ``App``; its url is fixed: no other layer overrides it."""
        urls = {name for name in code if ALIASES.get(name, name) == "url"}
        given = {name for name in urls if code[name] is not None}
        vars(self)["_url_is_fixed"] = bool(given)
        self.update({name: code[name] for name in code if name not in urls - given})

    def _resolve(self, names: Iterable[str]) -> None:
        vars(self)["_changes"] += 1
        for name in names:
            value, origin = self._winner(name)
            vars(self)[name] = value
            self._origins[name] = origin
        vars(self)["_above"] = {
            name for name in LIVE if any(name in self._layers[layer] for layer in ABOVE)
        }

    def _winner(self, name: str) -> tuple[Any, str]:
        first = self._before_url if name == "url" and self._url_is_fixed else ()
        for layer in (*first, *LAYERS):
            if given := self._layers[layer].get(name):
                return given.value, given.origin
        return self._default(name), "default"

    def _default(self, name: str) -> Any:
        setting = SETTINGS[name]
        default = usable_cpus() if setting.default is USABLE_CPUS else setting.default
        return setting.kind.read(default, name)

    def _to_show(self, name: str) -> object:
        value = getattr(self, name)
        if name == "url" and value:
            return mask_url(value)
        if name == "signing_keys" and value:
            return repr(value)
        if name == "signing_key" and value not in (self.signing_keys or ()):
            return value and "***"  # no key has this id: it may be a secret in the wrong place
        return value

    def _missing(self, name: str) -> Any:
        """Return the setting of one of Celery's names.  Raises UnknownSetting for any other."""
        if name in ALIASES:
            return self[name]
        if not name.startswith("_"):  # else copy, pickle or a console looks for it
            try:
                find(name)
            except ConfigError as error:
                raise UnknownSetting(str(error)) from None
        raise AttributeError(name)


# Set so that type checkers do not see it, and still find a misspelt attribute.
type.__setattr__(Config, "__getattr__", lambda config, name: config._missing(name))


def recognise(layer: str, given: GivenValue) -> Setting:
    known = {} if layer == "code" else {"set by": given.origin}
    setting = find(given.name, given.spell if given.prefix else SPELLINGS[layer], known)
    if setting.kind.in_python_only and layer not in ("code", "object"):
        raise ConfigError(f"{setting.name} can only be set in Python", known=known)
    return setting


def label(layer: str, setting: Setting, given: GivenValue) -> str:
    """The setting's name in an error, with its source unless that is code."""
    if layer == "code":
        return given.written or given.name
    return f"{given.written or setting.name} ({given.origin})"


def variable_of(name: str) -> str:
    return PREFIX + name.upper()


def flag_of(name: str) -> str:
    """The flag that sets ``name``, in its long form if it has one."""
    setting = SETTINGS.get(name)
    long = f"--{name.replace('_', '-')}"
    return setting.flag.split(", ")[-1] if setting and setting.flag else long


#: How a setting's name is written in each layer.
SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "flag": flag_of,
    "environment": variable_of,
    "code": str,
    "object": str,
    "file": str,
}


def environment(variable: str) -> str | None:
    """A variable of the environment that is no setting of streamq; None if not set."""
    return os.environ.get(variable) or None
