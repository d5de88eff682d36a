"""An app's settings, modules and schedules by Celery's names: where they come from."""

from collections.abc import Mapping, Sequence
from typing import Any

from streamq.app import App
from streamq.celery.app.options import call_options
from streamq.celery.canvas import schedule_entry
from streamq.celery.schedules import crontab
from streamq.config.config import environment
from streamq.config.importing import NoSuchModule, import_named
from streamq.errors import ConfigError
from streamq.producer.registry import Packages
from streamq.producer.scheduling import RULES, Schedule


class ConfiguredApp(App):
    """An app that is configured as Celery's is."""

    @property
    def configured(self) -> bool:
        """Whether the settings can be read: always."""
        return True

    def config_from_object(  # type: ignore[override]
        self, obj: object, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take settings from an object, when one is first needed; see ``App``.

        With ``silent`` a module that is not there is no error; with ``force`` it is read now.
        """
        if not (silent and isinstance(obj, str) and not can_be_imported(obj)):
            super().config_from_object(obj, namespace)
        if force:
            self.conf.get("broker_url")

    def config_from_envvar(
        self, variable_name: str, silent: bool = False, force: bool = False
    ) -> bool:
        """Read settings from the module that this environment variable names."""
        module = environment(variable_name)
        if module is None and not silent:
            raise ConfigError(f"the environment variable {variable_name} names no module")
        if module is not None:
            self.config_from_object(module, silent, force)
        return module is not None

    def add_defaults(self, settings: Any) -> None:
        """Add settings, a mapping or a function that returns one, where they are not set."""
        found = settings() if callable(settings) else settings
        self.conf.update({name: found[name] for name in found if name not in self.conf})

    def autodiscover_tasks(
        self, packages: Packages = None, related_name: str | None = "tasks", force: bool = False
    ) -> None:
        """Import ``PACKAGE.tasks`` of each package when the tasks are needed; see ``App``.

        With ``force`` that is now.
        """
        super().autodiscover_tasks(packages, related_name)
        if force:
            self.tasks.discover()

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Add an entry to the setting beat_schedule; return its name."""
        key, entry = name or repr(sig), schedule_entry(schedule, sig, args, kwargs, options)
        self.conf.beat_schedule = {**(self.conf.get("beat_schedule") or {}), key: entry}
        return key

    def complete_tasks(self) -> None:
        """Complete the tasks, once."""
        raise NotImplementedError

    def _periodic(self) -> None:
        """Declare what beat_schedule has, once functions have added to it."""
        self.complete_tasks()
        super()._periodic()

    def _make_schedule(
        self, name: str, task: Any, when: Any, args: Any, kwargs: Any, **options: Any
    ) -> Schedule:
        """Make the schedule of an entry, whose options have Celery's names.

        ``beat_cron_starting_deadline`` is for crontabs.
        """
        deadline = self.conf.get("beat_cron_starting_deadline")
        rules = {rule: options.pop(rule) for rule in RULES if rule in options}
        if deadline and isinstance(when, crontab):
            rules.setdefault("deadline", deadline)
        chosen = call_options(options)
        return super()._make_schedule(name, task, when, args, kwargs, **chosen, **rules)

    def worker_sender(self, node: str) -> "WorkerSender":
        """The sender of the signals of a worker of this name."""
        sender = WorkerSender(node)
        sender.app = self
        return sender


class WorkerSender(str):
    """The name of a worker, which sends a signal; ``hostname`` and ``app`` as Celery's has."""

    app: Any = None

    @property
    def hostname(self) -> str:
        """The worker's name."""
        return str(self)


def can_be_imported(name: str) -> bool:
    """Whether the module of a name such as ``shop.config`` or ``shop.config:Config`` is there."""
    try:
        import_named(name.partition(":")[0])
    except NoSuchModule:
        return False
    return True
