"""The app of a Django project, made from the settings of the project."""

from collections.abc import Mapping
from typing import Any

from streamq.api import chosen, default_app, set_default
from streamq.app import App, apps
from streamq.config.settings import find
from streamq.errors import ConfigError
from streamq.host.extras import not_installed

try:
    from django.conf import settings
    from django.core.signals import setting_changed
except ImportError as error:
    raise not_installed("Django", "django") from error

#: The name of the setting of Django that holds all of ours.
SETTING = "STREAMQ"
#: An example, for errors.
EXAMPLE = 'STREAMQ = {"URL": "redis://localhost:6379/0"}'


def make_app() -> App:
    """Make the app from ``settings.STREAMQ``, as the default app of this process.

    A project that has made an app of its own, and has no ``STREAMQ``, keeps that one.  Raises
    ConfigError for settings that are wrong.
    """
    given = read_settings()
    if not given and len(apps):
        return default_app()
    check_order()
    app = App(project_name())
    ProjectSettings(app, given).apply()
    app.autodiscover_tasks()
    set_default(app)
    return app


def check_order() -> None:
    """Raise ConfigError if a module has declared tasks with an app that was made for it."""
    early = [name for each in chosen for name in each.tasks.tasks]
    if early:
        raise ConfigError(
            "tasks were declared before streamq.contrib.django has made the app",
            known={"tasks": ", ".join(sorted(early))},
            advice=['put "streamq.contrib.django" first in INSTALLED_APPS'],
        )


def project_name() -> str:
    """The name of the project: the package of its settings."""
    return (getattr(settings, "SETTINGS_MODULE", None) or "django").partition(".")[0]


def read_settings() -> dict[str, Any]:
    """Read ``settings.STREAMQ``: our settings, by their names in upper case.

    Raises ConfigError for anything else, with the nearest name.
    """
    given = getattr(settings, SETTING, None) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"settings.{SETTING} must be a dict, not {type(given).__name__}", advice=[EXAMPLE]
        )
    return {setting_named(name): value for name, value in given.items()}


def setting_named(name: object) -> str:
    """The name of a setting of ours that is written in upper case.  Raises ConfigError."""
    known = {"in": f"settings.{SETTING}"}
    if not isinstance(name, str):
        raise ConfigError(f"the name of a setting is text, not {name!r}", known=known)
    found = find(name.lower(), str.upper, known)
    if name != name.upper():
        raise ConfigError(
            f"settings of Django are in upper case: {name!r}",
            known=known,
            advice=[f"write {name.upper()!r}"],
        )
    return found.name


class ProjectSettings:
    """The settings of a project in the configuration of its app, also when a test changes them."""

    def __init__(self, app: App, given: Mapping[str, Any]) -> None:
        self.app = app
        self.given = dict(given)
        setting_changed.connect(self.changed, weak=False, dispatch_uid="streamq")

    def apply(self) -> None:
        """Set them in the configuration, above files and below the environment."""
        self.app.conf.update(self.given)

    def changed(self, *, setting: str, **_: Any) -> None:
        """Apply the settings again, after ``override_settings(STREAMQ=…)`` of a test."""
        if setting != SETTING:
            return
        new = read_settings()
        self.app.conf.unset(self.given.keys() - new.keys())
        self.given = new
        self.apply()
