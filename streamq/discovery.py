"""Discovery of the app that a command uses."""

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from streamq.app import App
from streamq.config.importing import add_place, import_failed
from streamq.errors import ConfigError
from streamq.host.launch import working_folder

#: Modules of the current folder in which an app is looked for if none is named.
CANDIDATES = ("streamq_app", "tasks", "app", "worker", "celery_app")


class NoApp(ConfigError):
    """No app was named, and the current folder has none."""


@dataclass(frozen=True, slots=True)
class Found:
    """An app and how it was found; with ``spec`` another process finds it again."""

    app: App
    spec: str
    how: str


def find_app(spec: str | None, how: str = "-A") -> Found:
    """Import the app named ``module`` or ``module:attribute``.

    Without a name, look for tasks.py, app.py and the like in the current folder.  Raises
    ConfigError with what was tried; NoApp if there was nothing to try.
    """
    here = working_folder()
    if here not in sys.path:
        sys.path.insert(0, here)
    if spec:
        return Found(named_app(spec, how), spec, how)
    without: list[str] = []
    for name in candidates():
        module, file = load(name, "found"), f"{name.replace('.', '/')}.py"
        if apps_of(module):
            return Found(app_of(module, None), name, f"found {file}")
        without.append(file)
    known = {"looked for": ", ".join(f"{name}.py" for name in CANDIDATES), "in": here}
    advice = ["streamq -A MODULE …, or set STREAMQ_APP, or go to the project's folder"]
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
    """Import the app of a specification, ``module`` or ``module:attribute``."""
    module, _, attribute = spec.partition(":")
    path = below_here(module, how).removesuffix(".py").strip("/")
    return app_of(load(path.replace("/", "."), how), attribute or None)


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
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def app_of(module: ModuleType, attribute: str | None) -> App:
    """The app of a module: the named attribute, else ``app``, else the only one."""
    found = apps_of(module)
    if attribute is not None:
        if attribute in found:
            return found[attribute]
        raise ConfigError(
            f"{module.__name__}:{attribute} is not an app",
            known={"apps there": ", ".join(found) or "none"},
        )
    different = {id(app): app for app in found.values()}
    if "app" in found or len(different) == 1:
        return found.get("app") or next(iter(different.values()))
    if len(different) > 1:
        raise ConfigError(
            f"{module.__name__} has several apps: {', '.join(found)}",
            advice=[f"-A {module.__name__}:{next(iter(found))}"],
        )
    raise ConfigError(
        f"{module.__name__} has no streamq app",
        known={"file": getattr(module, "__file__", "?")},
        advice=["app = streamq.App(…)"],
    )
