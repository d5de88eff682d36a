"""An app's settings and modules by Celery's names: where both come from."""

from typing import Any

from streamq.app import App
from streamq.config.config import environment
from streamq.config.importing import NoSuchModule, import_named
from streamq.errors import ConfigError
from streamq.producer.registry import Packages


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
