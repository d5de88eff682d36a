"""Discovery of the app that a command uses."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from inspect import isroutine
from pathlib import Path
from types import ModuleType
from typing import Any

from streamq.app import App
from streamq.config.importing import MANAGE, add_place, failed, import_failed
from streamq.core.text import nearest, shown
from streamq.errors import ConfigError
from streamq.host.launch import working_folder

#: Modules of the current folder in which an app is looked for if none is named.
CANDIDATES = ("streamq_app", "tasks", "app", "worker", "celery_app")
#: Names of Flask extensions that may be an app.
EXTENSIONS = ("streamq", "celery")

#: Apps that were found by other means than a spec, or made by a factory, by their specs.
FOUND: "dict[str, Found]" = {}


class NoApp(ConfigError):
    """No app was named, and the current folder has none."""


@dataclass(frozen=True, slots=True)
class Found:
    """An app and how it was found; with ``spec`` another process finds it again."""

    app: App
    spec: str
    how: str


def remember(found: Found) -> None:
    """Let ``find_app`` return this app for its spec: a factory is called once in a process."""
    FOUND[found.spec] = found


def find_app(spec: str | None, how: str = "-A") -> Found:
    """Import the app that a specification names.

    That is ``module``, ``module:attribute``, ``module.attribute``, ``module:factory()``, or a
    package whose module ``celery`` has the app.  Without a name, look for tasks.py, app.py and the
    like in the current folder.  Raises ConfigError with what was tried; NoApp if there was nothing
    to try.
    """
    here = working_folder()
    if here not in sys.path:
        sys.path.insert(0, here)
    if spec in FOUND:
        return FOUND[spec]
    if spec:
        found = Found(named_app(spec.strip(), how), spec, how)
        if spec.endswith(")"):
            remember(found)
        return found
    without: list[str] = []
    for name in candidates():
        module, file = load(name, "found"), f"{name.replace('.', '/')}.py"
        if apps_of(module):
            return Found(app_of(module), name, f"found {file}")
        without.append(file)
    known = {"looked for": ", ".join(f"{name}.py" for name in CANDIDATES), "in": here}
    advice = [
        "streamq -A MODULE …, or set STREAMQ_APP, or go to the project's folder",
        *manage_py(),
    ]
    if without:
        known["no app in"] = ", ".join(without)
        advice.insert(0, f"app = streamq.App(…)  in {without[0]} makes one")
    raise NoApp("no app was given, and none was found here", known=known, advice=advice)


def candidates() -> Iterator[str]:
    """Modules of the current folder that may hold an app, and packages with a ``tasks``."""
    here = Path.cwd()
    yield from (name for name in CANDIDATES if (here / f"{name}.py").is_file())
    for path in sorted(here.glob("*/tasks.py")):
        if path.parent.joinpath("__init__.py").is_file():
            yield f"{path.parent.name}.tasks"


def named_app(spec: str, how: str) -> App:
    """Import the app of a specification; see ``find_app``."""
    place, _, attribute = spec.partition(":")
    path = below_here(place, how).removesuffix(".py").strip("/")
    name = path.replace("/", ".")
    if name.endswith(")"):
        module, _, factory = name.rpartition(".")
        raise ConfigError(
            f"{spec!r} names no module",
            known={"given by": how},
            advice=[f"a factory stands after a colon: {module or 'MODULE'}:{factory}"],
        )
    if attribute:
        return attribute_app(load(name, how), attribute)
    module, _, last = name.rpartition(".")
    if module and not is_module(name) and is_module(module):
        found = load(module, how)
        if hasattr(found, last):
            return attribute_app(found, last)
    return app_of(load(name, how))


def is_module(name: str) -> bool:
    """Whether there is a module of this name; its parent packages are imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # the parent is no package, or "__main__"
        return name in sys.modules
    except (Exception, SystemExit):  # the parent fails: ``load`` says how
        return True


def attribute_app(module: ModuleType, path: str) -> App:
    """The app under a name with dots in a module, or the one that ``factory()`` returns there."""
    names, called = path.removesuffix("()"), path.endswith("()")
    try:
        found = reduce(getattr, names.split("."), module)
    except AttributeError:
        raise no_app_called(module, names) from None
    if called:
        found = made_by(found, f"{module.__name__}:{path}")
    app = app_in(found)
    if app is not None:
        return app
    if isroutine(found) or (called and callable(found)):
        raise ConfigError(
            f"{module.__name__}:{path} is a function, not an app",
            advice=[f"if it makes the app, write {module.__name__}:{path}()"],
        )
    raise no_app_called(module, path, found)


def app_in(found: Any) -> App | None:
    """The app that an object is, or a Flask application has as an extension; None if there is none.

    A proxy is not asked what it stands for: that may need a context which is not there.
    """
    if issubclass(type(found), App):
        return found  # type: ignore[no-any-return]
    flask = getattr(sys.modules.get("flask"), "Flask", None)
    if flask is None or not issubclass(type(found), flask):
        return None
    held = [found.extensions.get(name) for name in EXTENSIONS]
    return next((each for each in held if isinstance(each, App)), None)


def made_by(factory: Any, spec: str) -> Any:
    """Call the factory of an app, without arguments.  Raises ConfigError if it fails."""
    if not callable(factory):
        raise ConfigError(
            f"{spec} cannot be called: it is {shown(factory)}", advice=[f"write {spec[:-2]}"]
        )
    try:
        return factory()
    except ConfigError as error:
        add_place(error)
        raise
    except (Exception, SystemExit) as error:
        raise failed(f"calling {spec} without arguments", error) from error


def no_app_called(module: ModuleType, path: str, found: Any = None) -> ConfigError:
    """Make the error of a name in a module that is not there, or no app."""
    apps = ", ".join(apps_of(module))
    near = nearest(path, vars(module)) if found is None else None
    return ConfigError(
        f"{module.__name__}:{path} is not an app",
        known={"apps there": apps or "none"} | ({"it is": shown(found)} if found else {}),
        advice=[f"did you mean {module.__name__}:{near}?"] if near and not apps else (),
    )


def below_here(path: str, how: str) -> str:
    """Make a path to a module relative to the working folder.  Raises ConfigError outside it."""
    if not (os.path.isabs(path) or path.startswith(("./", "../"))):
        return path
    here, there = working_folder(), os.path.abspath(path)
    for name in (there, os.path.realpath(there)):  # also with symbolic links resolved
        found = os.path.relpath(name, here)
        if not found.startswith("../"):
            return found
    folder, file = os.path.split(there)
    raise ConfigError(
        f"{path!r} is not below the working folder, so that it names no module",
        known={"given by": how, "in": here},
        advice=[f"cd {folder}, and use -A {file.removesuffix('.py')}"],
    )


def load(name: str, how: str) -> ModuleType:
    """Import a module.  Raises ConfigError if it does not exist or fails."""
    if not name or name.startswith("."):
        raise ConfigError(
            f"{name!r} names no module",
            known={"given by": how},
            advice=["MODULE[:APP], as in shop.tasks:app"],
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"no module named {error.name!r}",
                known={"app": f"{name} ({how})", "looked in": Path.cwd()},
                advice=["go to the folder that holds it, or check the spelling of -A"],
            ) from error
        raise import_failed(name, error) from error
    except ConfigError as error:
        add_place(error)
        raise
    except (Exception, SystemExit) as error:  # a module that is a script may end itself
        raise import_failed(name, error) from error


def apps_of(module: ModuleType) -> dict[str, App]:
    """The apps of a module by their names there."""
    found = {name: app_in(value) for name, value in vars(module).items()}
    return {name: app for name, app in found.items() if app is not None}


def app_of(module: ModuleType) -> App:
    """The app of a module: ``app``, else ``celery``, else the only one.

    A package without any has it in its module ``celery``, as Celery's layout of projects does.
    """
    found = apps_of(module)
    different = {id(app): app for app in found.values()}
    for name in ("app", "celery"):
        if name in found:
            return found[name]
    if len(different) == 1:
        return next(iter(different.values()))
    if len(different) > 1:
        raise ConfigError(
            f"{module.__name__} has several apps: {', '.join(found)}",
            advice=[f"-A {module.__name__}:{next(iter(found))}"],
        )
    inner = f"{module.__name__}.celery"
    if hasattr(module, "__path__") and is_module(inner):
        return app_of(load(inner, "-A"))
    raise ConfigError(
        f"{module.__name__} has no streamq app",
        known={"file": getattr(module, "__file__", "?")},
        advice=["app = streamq.App(…)", *manage_py(), *factories_of(module)],
    )


def manage_py() -> list[str]:
    """Advice for the folder of a Django project."""
    return [MANAGE] if os.path.isfile("manage.py") else []


def factories_of(module: ModuleType) -> list[str]:
    """Advice that names the functions of a module that look like the factory of an app."""
    usual = ("create_app", "make_app", "create_celery", "make_celery", "init_celery")
    return [
        f"or, if {name} makes it, -A '{module.__name__}:{name}()'"
        for name in usual
        if callable(getattr(module, name, None))
    ]
