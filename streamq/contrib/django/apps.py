"""The Django app of streamq."""

from django.apps import AppConfig

from streamq.contrib.django import checks


class StreamqConfig(AppConfig):  # type: ignore[misc]
    """The entry of streamq in ``INSTALLED_APPS``."""

    name = "streamq.contrib.django"
    label = "streamq"
    verbose_name = "streamq"

    def ready(self) -> None:
        """Register the checks of ``manage.py check``."""
        checks.register()
