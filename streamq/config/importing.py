"""Importing of modules that users name as text, and the errors of those that fail."""

import importlib
from pathlib import Path
from types import ModuleType

from streamq.errors import ConfigError
from streamq.serialization.exceptions import message_of

#: Beginnings of file names that are never the place of a mistake in a user's module.
PACKAGE = Path(__file__).parents[1]
MACHINERY = ("<frozen", f"{PACKAGE}/", f"{Path(importlib.__file__).parent}/")


class NoSuchModule(ConfigError):
    """A module to import does not exist."""


#: The command that sets up Django, and has the app of its project.
MANAGE = (
    'in a Django project: python manage.py streamq … ("streamq.contrib.django" in INSTALLED_APPS)'
)
#: What to do about a module with tasks that does not exist.
CHECK = "check include=[…] or -I, and the folder the worker is started in"


def import_named(name: str, advice: str = CHECK) -> ModuleType:
    """Import a module.

    Raises NoSuchModule, with ``advice``, if it does not exist, ConfigError if it fails.
    """
    if name.startswith("."):
        raise ConfigError(f"cannot import {name!r}: name the module in full, as in shop.tasks")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise import_failed(name, error) from error
        raise NoSuchModule(
            f"cannot import {name!r}: no module named {error.name!r}", advice=[advice]
        ) from error
    except ConfigError as error:
        add_place(error)
        raise
    except (Exception, SystemExit) as error:  # a module that is a script may end itself
        raise import_failed(name, error) from error


def import_failed(name: str, error: BaseException) -> ConfigError:
    """Make the error of a user's module that fails while it is imported."""
    return failed(f"importing {name!r}", error, f"{name.replace('.', '/')}.py")


def failed(what: str, error: BaseException, file: str = "") -> ConfigError:
    """Make the error of user code that fails, with its place; ``file`` if the error has none."""
    return ConfigError(
        f"{what} failed: {type(error).__name__}: {message_of(error)}",
        known={"at": place} if (place := place_of(error) or file) else None,
        advice=[*([MANAGE] if needs_django(error) else []), "-v shows the whole traceback"],
    )


def needs_django(error: BaseException) -> bool:
    """Whether this is how Django says that nobody has set it up."""
    kind = type(error)
    if kind.__module__ != "django.core.exceptions":
        return False
    return kind.__name__ == "AppRegistryNotReady" or str(error).startswith("Requested setting ")


def add_place(error: ConfigError) -> None:
    """Add the file and line of the wrong declaration to an error."""
    if not error.in_code:
        return
    what, *rest = str(error).split("\n")
    fact = f"  at  {place_of(error)}"
    if fact.strip() != "at" and not any(line.startswith("  at ") for line in rest):
        error.args = ("\n".join([what, fact, *rest]),)


def place_of(error: BaseException) -> str:
    """The innermost line of an error outside of streamq and the import system; '' if none."""
    if isinstance(error, SyntaxError) and error.filename:  # that line was never run
        return f"{error.filename}:{error.lineno}"
    place, frame = "", error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith(MACHINERY):
            place = f"{file}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place
