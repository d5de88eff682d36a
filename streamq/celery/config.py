"""The settings of an app of streamq.celery: Celery's names, values and defaults.

Each setting of Celery has one of three fates: it is one of streamq's settings, it means nothing
here and is kept to be read, or it is refused with what to do.  Names that nobody knows are kept
as well: projects have settings of their own there.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamq.celery.config_names import DEFAULTS, names_of, rank, todays_name
from streamq.celery.config_notes import notes_of
from streamq.celery.config_routes import streamq_queues, with_priority
from streamq.celery.config_servers import RESULTS, server_of, with_transport
from streamq.celery.config_values import (
    DEFAULT,
    ONE_URL,
    TRANSLATIONS,
    TRUTHS,
    check_kept,
    truth,
)
from streamq.config.config import LAYERS, Config, UnknownSetting
from streamq.config.given import GivenValue
from streamq.config.objects import MISSING, LiveSetting, SettingsObject
from streamq.config.settings import ALIASES, SETTINGS
from streamq.core.text import mask_url, nearest
from streamq.core.units import texts, whole
from streamq.errors import ConfigError
from streamq.routing import Queue

#: Defaults of Celery that are not those of streamq.
CELERYS: Mapping[str, object] = {
    "acks_late": False,
    "task_default_queue": "celery",
    "task_time_limit": 0.0,
    "timezone": None,
    "track_started": False,
    "worker_name": "celery@%h",
}
#: Settings with a value that depends on other settings of Celery.
DEPENDENT = ("url", "namespace", "include")
#: Settings of streamq with names that a module may well use for something else.
SHORT = frozenset(name for name in SETTINGS if "_" not in name) - {"include", "timezone"}
#: Settings that must name the server of ``broker_url``, with what to do if they name another.
SAME_SERVER: Mapping[str, str] = {
    "result_backend": RESULTS,
    "broker_read_url": ONE_URL,
    "broker_write_url": ONE_URL,
}


class CeleryConfig(Config):
    """The settings of an app of streamq.celery."""

    #: By layer: settings of Celery that are none here, and names that nobody knows.
    _kept: dict[str, dict[str, GivenValue]]
    #: Copies of Celery's defaults that were read: a mapping may be changed in place.
    _copies: dict[str, Any]
    #: As in Celery, -b goes before the URL of the app.
    _before_url = ("flag", "code")

    def __init__(self) -> None:
        vars(self).update(_kept={layer: {} for layer in LAYERS}, _copies={})
        super().__init__()

    # Reading

    def origin(self, name: str) -> str:
        """Return the source of the value of ``name``; see ``Config.origin``."""
        setting = self._setting(name)
        if setting in SETTINGS:
            return super().origin(setting)
        return next(
            (self._kept[layer][setting].origin for layer in LAYERS if setting in self._kept[layer]),
            "default",
        )

    def is_effective(self, name: str) -> bool:
        """Whether a setting of Celery is one of streamq, by whatever name."""
        return self._setting(name) in SETTINGS

    def unknown(self) -> list[tuple[str, str]]:
        """Names that nobody knows: as they were set, and in lower case without a namespace."""
        found = [(name, name) for name in self._kept["code"] if name not in DEFAULTS]
        for source in self._objects:
            if source.prefix:
                below = source.below()
                found += [each for each in below if named_in(source.prefix, each[0]) is None]
        return found

    @property
    def declared_queues(self) -> tuple[Queue, ...]:
        """The queues of ``task_queues``; ``task_queue_max_priority`` is for all of them."""
        priority = self._kept_value("task_queue_max_priority")
        queues = streamq_queues(self._kept_value("task_queues"), "task_queues")
        default = () if queues or not priority else (Queue(self.task_default_queue),)
        return with_priority(queues or default, priority)

    def notes(self) -> list[str]:
        """Lines for a worker's banner: Celery's defaults, and settings with no effect."""
        return notes_of(self)

    def __getitem__(self, name: str) -> Any:
        self._need()
        found = self._found(name)
        if found is MISSING:
            raise KeyError(name)
        return found

    def __delitem__(self, name: str) -> None:
        setting = self._setting(name)
        self._kept["code"].pop(setting, None)
        if setting in SETTINGS:
            super().__delitem__(setting)

    def __contains__(self, name: object) -> bool:
        self._need()
        return isinstance(name, str) and self._found(name) is not MISSING

    def __iter__(self) -> Iterator[str]:
        self._need()
        kept = (name for layer in LAYERS for name in self._kept[layer])
        return iter(dict.fromkeys((*SETTINGS, *DEFAULTS, *kept)))

    def _missing(self, name: str) -> Any:
        """Return the setting of a name of Celery's or of the project's own."""
        if name.startswith("_"):
            raise AttributeError(name)
        found = self._found(name)
        if found is MISSING:
            near = nearest(name, [*SETTINGS, *DEFAULTS])
            advice = [f"did you mean {near!r}?"] if near else []
            raise UnknownSetting(f"unknown setting {name!r}", advice=advice)
        return found

    def _found(self, name: str) -> Any:
        """The value of any name; MISSING if there is none."""
        setting = self._setting(name)
        if setting in SETTINGS:
            value = getattr(self, setting)
            return in_kibibytes(value) if todays_name(name) == KIBIBYTES else value
        if setting in DEFAULTS or any(setting in kept for kept in self._kept.values()):
            return self._kept_value(setting)
        for source in reversed(self._objects):
            for written in (source.prefix + name.upper(), name):
                value = source.read(written)
                if value is not MISSING:
                    return value
        return MISSING

    def _setting(self, name: str) -> str:
        """The name of a setting by any of its names; names that nobody knows stay."""
        today = todays_name(name) or name
        if today == "imports":
            return today
        ours, _ = TRANSLATIONS.get(today, (ALIASES.get(today, today), None))
        return ours

    def _kept_value(self, setting: str) -> Any:
        """The value of a setting of Celery that is none here."""
        for layer in LAYERS:
            if given := self._kept[layer].get(setting):
                return given.value
        if setting not in self._copies:
            self._copies[setting] = copy.deepcopy(DEFAULTS.get(setting))
        return self._copies[setting]

    # Taking

    def _give(self, layer: str, settings: Iterable[GivenValue]) -> None:
        ours: dict[str, GivenValue] = {}
        kept: dict[str, GivenValue] = {}
        for given in sorted(settings, key=lambda each: rank(each.written or each.name)):
            today = todays_name(given.name) or given.name
            setting = self._setting(today)
            if setting in SETTINGS or (setting not in DEFAULTS and layer not in ("code", "object")):
                ours[setting] = self._translated(given, layer, today, setting)
            else:
                self._check(given, layer, setting)
                kept[setting] = given._replace(name=setting)
        super()._give(layer, ours.values())
        self._kept[layer].update(kept)
        self._resolve(DEPENDENT)
        if "url" in ours or not kept.keys().isdisjoint(SAME_SERVER):
            self._await_reading()  # then they are compared: the next line may change the other

    def _read_objects(self) -> None:
        super()._read_objects()
        if not self._unread:
            try:
                self._compare_servers()
            except ConfigError:
                self._await_reading()
                raise

    def _compare_servers(self) -> None:
        """Raise ConfigError if results, or a part of the messages, were to be on another server.

        Any layer's URL is good: that of a deployment replaces the one in the project's settings.
        """
        layers = (self._layers[layer] for layer in LAYERS)
        urls = [layer["url"].value for layer in layers if "url" in layer and layer["url"].value]
        servers = [server_of(url) for url in urls]
        for setting, advice in SAME_SERVER.items():
            value, server = self._kept_value(setting), server_of(self._kept_value(setting))
            if servers and server is not None and server not in servers:
                raise ConfigError(
                    f"{setting} is on another server than broker_url",
                    known={setting: mask_url(value), "broker_url": mask_url(str(urls[0]))},
                    advice=[advice],
                )

    def _of_object(self, source: SettingsObject) -> Iterator[GivenValue]:
        """Yield the settings in an object; its other names stay there, to be read."""
        for written in source.names():
            name = named_in(source.prefix, written)
            if name is None:
                continue
            value = source.read(written)
            if source.prefix or name not in SHORT or fits(name, value):
                yield GivenValue(name, value, source.origin, "", written)

    def _spellings(self, name: str, source: SettingsObject) -> tuple[str, ...]:
        if not source.prefix:
            return (name, *names_of(name))
        if source.prefix != "CELERY_":
            return (source.prefix + name.upper(),)
        return tuple(each for each in names_of(name) if each.startswith("CELERY_"))

    def _truth(self, name: str, value: object, where: LiveSetting) -> bool:
        found = truth(value)
        return bool(self._default(name)) if found is DEFAULT else super()._truth(name, found, where)

    def _translated(self, given: GivenValue, layer: str, today: str, setting: str) -> GivenValue:
        """A value in the form of the setting here."""
        value, written = given.value, given.written or given.name
        if translation := TRANSLATIONS.get(today):
            value = translation[1](value, label_of(given, layer))
        elif today in TRUTHS:
            value = truth(value)
        elif value is None and today in DEFAULTS:
            value = DEFAULT
        if value is DEFAULT or (value is None and setting in ("timezone", "task_routes")):
            value = self._default(setting)
        return given._replace(name=setting, value=value, written=written)

    def _check(self, given: GivenValue, layer: str, setting: str) -> None:
        """Raise ConfigError if a value that is kept cannot be used."""
        name = label_of(given, layer)
        check_kept(setting, given.value, name)
        if setting == "imports":
            texts(given.value or (), name)
        if setting == "task_queues":
            streamq_queues(given.value, name)
        if setting == "task_queue_max_priority" and given.value is not None:
            whole(given.value, name)

    def _of_environment(self, environ: Mapping[str, str]) -> Iterator[GivenValue]:
        """Yield the settings in the environment: also Celery's own variable for the URL."""
        ours = list(super()._of_environment(environ))
        yield from ours
        url = environ.get("CELERY_BROKER_URL")
        if url and not any(given.name in ("url", "broker_url") for given in ours):
            yield GivenValue("broker_url", url, "CELERY_BROKER_URL")

    def _take_arguments(self, code: Mapping[str, object]) -> None:
        """Set the arguments of the app; as in Celery, CELERY_BROKER_URL goes before its URL."""
        super()._take_arguments(code)
        url = self._layers["environment"].get("url")
        if url is not None and url.origin == "CELERY_BROKER_URL":
            vars(self)["_url_is_fixed"] = False
            self._resolve(["url"])

    def _default(self, name: str) -> Any:
        return CELERYS[name] if name in CELERYS else super()._default(name)

    def _winner(self, name: str) -> tuple[Any, str]:
        value, origin = super()._winner(name)
        if name == "url" and value:
            options = self._kept_value("broker_transport_options") or {}
            value = with_transport(value, options, self._kept_value("broker_use_ssl"))
        if name == "namespace" and origin == "default":
            options = self._kept_value("broker_transport_options") or {}
            prefix = re.sub(r"[^\w.-]+", "", str(options.get("global_keyprefix") or ""))
            return (prefix.strip("_.-") or value), origin
        if name == "include":
            more = texts(self._kept_value("imports") or (), "imports")
            value = tuple(dict.fromkeys((*value, *more)))
        return value, origin


#: A setting that Celery counts in KiB.
KIBIBYTES = "worker_max_memory_per_child"


def in_kibibytes(size: int | None) -> int | None:
    return None if size is None else size // 1024


def label_of(given: GivenValue, layer: str) -> str:
    """The name of a value in an error, with its source unless that is code."""
    name = given.written or given.name
    return name if layer == "code" else f"{name} ({given.origin})"


def named_in(prefix: str, written: str) -> str | None:
    """The setting that a name in an object means; None if it means none."""
    if not prefix:
        known = written in SETTINGS or written in ALIASES
        return todays_name(written) or (written if known else None)
    if written == "TIME_ZONE":
        return todays_name(written)
    if not written.startswith(prefix):
        return None
    name = written.removeprefix(prefix).lower()
    older = todays_name(written) if prefix == "CELERY_" else None
    if name in DEFAULTS or older is None:
        return name if name in DEFAULTS or name in SETTINGS else None
    return older


def fits(name: str, value: object) -> bool:
    """Whether a value may be one of a setting; else it is something else of that name."""
    try:
        SETTINGS[name].kind.read(value, name)
    except ConfigError:
        return False
    return True
