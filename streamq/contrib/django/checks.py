"""The checks of ``manage.py check``: settings, a URL, and modules with tasks."""

from collections.abc import Iterator
from typing import Any

import django.core.checks as checks
from django.apps import apps as django_apps
from django.conf import settings
from django.core import mail

from streamq.contrib.django import app
from streamq.errors import ConfigError
from streamq.producer.registry import NameTaken, import_related

NO_URL = "streamq.W001"
NAME_TAKEN, NOT_IMPORTED, WRONG_SETTINGS = "streamq.E001", "streamq.E002", "streamq.E003"


def register() -> None:
    """Register the checks with Django."""
    checks.register(check_settings, "streamq")
    checks.register(check_url, "streamq")
    checks.register(check_tasks, "streamq")


def check_settings(**_: Any) -> list[Any]:
    """Find settings that are wrong; those of an app of the project's own are first read now."""
    wrong = wrong_settings()
    return [] if wrong is None else [error_of(str(wrong), WRONG_SETTINGS)]


def wrong_settings() -> ConfigError | None:
    """The error of the settings of the app; None if they are right."""
    try:
        _ = app.conf.url  # reading one reads all
    except ConfigError as error:
        return error
    return None


def check_url(**_: Any) -> list[Any]:
    """Warn of a project that is in production and does not say where Redis is.

    Django's test runner turns DEBUG off too; while it runs there is an outbox.
    """
    conf = app.conf
    if (
        settings.DEBUG
        or wrong_settings()
        or conf.url
        or conf.task_always_eager
        or hasattr(mail, "outbox")
    ):
        return []
    return [
        checks.Warning(
            "streamq has no URL, and DEBUG is off: tasks would go to a server for development.",
            hint='STREAMQ = {"URL": "redis://…"} in the settings, or STREAMQ_URL; '
            "CELERY_BROKER_URL where proj/celery.py makes the app.",
            id=NO_URL,
        )
    ]


def check_tasks(**_: Any) -> list[Any]:
    """Find two tasks of one name, and modules with tasks that cannot be imported."""
    if wrong_settings():
        return []
    return [error_of(text, id) for text, id in dict(wrong_modules()).items()]


def error_of(text: str, id: str) -> Any:
    """The error of a check, from the text of a ConfigError."""
    return checks.Error(first_line(text), hint=rest_of(text), id=id)


def wrong_modules() -> Iterator[tuple[str, str]]:
    """Import the tasks of all installed apps, and the app's own modules; yield what is wrong."""
    for config in django_apps.get_app_configs():
        try:
            import_related([config.name], "tasks")
        except ConfigError as error:
            yield str(error), id_of(error)
    try:
        app.import_tasks()
    except ConfigError as error:
        yield str(error), id_of(error)


def id_of(error: ConfigError) -> str:
    """The id of the check that an error belongs to."""
    return NAME_TAKEN if isinstance(error, NameTaken) else NOT_IMPORTED


def first_line(text: str) -> str:
    """What happened."""
    return text.partition("\n")[0]


def rest_of(text: str) -> str | None:
    """What is known, and what to do; None if nothing is."""
    return text.partition("\n")[2] or None
