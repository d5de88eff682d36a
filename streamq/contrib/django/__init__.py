"""streamq for Django: settings in ``STREAMQ``, tasks of all apps, and ``manage.py streamq``.

    INSTALLED_APPS = ["streamq.contrib.django", ...]
    STREAMQ = {"URL": "redis://localhost:6379/0"}

``app`` is made from the settings when Django imports this package, and is the default app: in the
module ``tasks`` of an installed app, ``@streamq.task`` makes a function a task.
"""

from streamq.contrib.django.project import make_app

__all__ = ["app"]

#: The app of the project.
app = make_app()
