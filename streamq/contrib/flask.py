"""Flask: an extension whose tasks run in the context of the Flask application.

    from flask import Flask
    from streamq.contrib.flask import Streamq

    queue = Streamq()

    @queue.task
    def welcome(user_id: int) -> None: ...

    def create_app() -> Flask:
        app = Flask(__name__)
        app.config["STREAMQ"] = {"url": "redis://localhost:6379/0"}
        queue.init_app(app)
        return app

``flask streamq worker`` runs the tasks.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from streamq.app import App
from streamq.broker.broker import Broker
from streamq.cli.embedded import EmbeddedCommand, shown_by
from streamq.context import Running
from streamq.discovery import Found
from streamq.errors import ConfigError
from streamq.host.extras import not_installed
from streamq.middleware import Middleware, RunTask
from streamq.producer.sending import CallSender

try:
    from flask import Flask, has_app_context
    from flask.cli import ScriptInfo, prepare_import
except ModuleNotFoundError as error:
    raise not_installed("Flask", "flask") from error

#: The key of the settings in ``flask_app.config``, and the name of the extension.
CONFIG_KEY, NAME = "STREAMQ", "streamq"
#: Functions that ``flask`` calls to get the application, if its module names none.
FACTORIES = ("create_app", "make_app")
#: Files in which ``flask`` looks for an application if none is named.
FILES = ("wsgi.py", "app.py")

#: Values that depend on settings, and are read once.
CACHED = ("broker", "no_results", "payloads", "url")


class ContextLayer(Middleware):
    """The layer that runs each task in the context of the Flask application."""

    def __init__(self) -> None:
        self.flask_app: Flask | None = None

    def run(self, task: Running, next: RunTask, /) -> Any:
        """Run a task in an application context of its own; an eager one in that of its caller."""
        if self.flask_app is None or (has_app_context() and task.request.is_eager):
            return next(task)
        with self.flask_app.app_context():
            return next(task)


class Streamq(App):
    """An app of streamq that takes its settings from a Flask application.

    ``Streamq(flask_app)``, or ``Streamq()`` and later ``init_app(flask_app)``.  Keywords are
    settings, which ``flask_app.config["STREAMQ"]`` may override.  Of several applications, the
    last one counts.
    """

    def __init__(
        self, flask_app: Flask | None = None, *, include: Iterable[str] = (), **settings: Any
    ) -> None:
        if include:
            settings["include"] = include
        self.context = ContextLayer()
        #: The settings of the constructor, and the names of those that are set.
        self.own_settings, self.configured = settings, set(settings)
        super().__init__("flask", **settings)
        if flask_app is not None:
            self.init_app(flask_app)

    def init_app(self, flask_app: Flask) -> None:
        """Use the settings of this application, and run tasks in its context.

        Adds the command ``flask streamq``.  Raises ConfigError for settings that are wrong, and
        if the application has another extension of this class; ClickException inside of the
        command ``flask``, which shows its message alone.
        """
        with shown_by(ScriptInfo):
            self.connect(flask_app)

    def connect(self, flask_app: Flask) -> None:
        """Use this application; see ``init_app``."""
        if not isinstance(flask_app, Flask):
            raise ConfigError(
                f"a Streamq is connected with a Flask application, not {flask_app!r}",
                advice=["queue.init_app(app), where app = Flask(__name__)"],
            )
        if flask_app.extensions.get(NAME, self) is not self:
            raise ConfigError(
                f"the Flask application {flask_app.name} has a Streamq already",
                advice=[f"use that one: app.extensions[{NAME!r}]"],
            )
        self.configure({**self.own_settings, **settings_of(flask_app)})
        self.context.flask_app = flask_app
        flask_app.extensions[NAME] = self
        flask_app.cli.add_command(EmbeddedCommand(NAME, self.found_by_flask))

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Set these settings in place of those of an earlier application."""
        self.close()
        for name in CACHED:
            vars(self).pop(name, None)
        self.conf.unset(self.configured - settings.keys())
        try:
            self.conf.update(settings)
        except ConfigError as error:
            error.add_note(f"  → app.config[{CONFIG_KEY!r}] of the Flask application sets it")
            raise
        self.configured = set(settings)

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        """The layers around sending and runs; the application's context is outside of them."""
        return self.layers

    @middleware.setter
    def middleware(self, layers: Iterable[Middleware]) -> None:
        if isinstance(layers, Iterable):
            layers = [self.context, *(layer for layer in layers if layer is not self.context)]
        own: Any = CallSender.middleware  # type checkers know no property of a class
        own.fset(self, layers)

    @cached_property
    def broker(self) -> Broker:
        """This app's access to Redis.  Raises ConfigError without an application."""
        self.required_flask_app()
        return super().broker

    @cached_property
    def url(self) -> str:
        """The URL of Redis.  Raises ConfigError without an application."""
        self.required_flask_app()
        return super().url

    def import_tasks(self) -> None:
        """Import the modules with tasks, in the context of the application."""
        with self.required_flask_app().app_context():
            super().import_tasks()

    def required_flask_app(self) -> Flask:
        """The Flask application.  Raises ConfigError if there is none."""
        if self.context.flask_app is None:
            raise ConfigError(
                "this Streamq has no Flask application yet, so it has no settings",
                advice=[
                    "call its init_app(app) where the application is made",
                    'a command names what makes it: streamq worker -A "shop:create_app()"',
                ],
            )
        return self.context.flask_app

    def found_by_flask(self, context: Any) -> Found:
        """This app as a command finds it; ``context`` is click's, inside of the command flask."""
        return Found(self, spec_of(context.ensure_object(ScriptInfo)), "flask")


def settings_of(flask_app: Flask) -> dict[str, Any]:
    """The settings in ``config["STREAMQ"]``, in lower case.  Raises ConfigError if no mapping."""
    given = flask_app.config.get(CONFIG_KEY) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"app.config[{CONFIG_KEY!r}] must be a mapping, not {type(given).__name__}",
            advice=[f'app.config[{CONFIG_KEY!r}] = {{"url": "redis://…"}}'],
        )
    return {str(name).lower(): value for name, value in given.items()}


def spec_of(info: ScriptInfo) -> str:
    """What ``-A`` would be to find the application that ``flask`` has found."""
    if info.create_app is not None:
        return f"{info.create_app.__module__}:{info.create_app.__qualname__}()"
    given = info.app_import_path or next((name for name in FILES if Path(name).is_file()), "")
    path, _, name = given.partition(":")
    module = prepare_import(path)
    there, flask_app = vars(sys.modules[module]), info.load_app()
    if not name:
        names = [name for name, value in there.items() if value is flask_app]
        name = next(iter(names or [name for name in FACTORIES if name in there]))
    is_function = name.isidentifier() and there[name] is not flask_app
    return f"{module}:{name}()" if is_function else f"{module}:{name}"
