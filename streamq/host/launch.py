"""How this process was launched: in which folder, and where it looks for modules.

A module may change both while it is imported.  What a worker starts, and the worker that takes
its place, take up from what was there before; a folder has the name that the user gave it, so that
a link to a release leads to the release of the day.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from streamq.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Launch:
    """What a command of ours began with.

    ``folder`` is where it began, and ``home`` where its process did: a program of the user's may go
    elsewhere before it calls us.  ``python`` is the program that runs us; ``path`` is what
    ``sys.path`` was, and ``words`` what ``sys.argv`` was.
    """

    folder: str
    home: str
    python: str
    path: tuple[str, ...]
    words: tuple[str, ...] = ()

    @classmethod
    def here(cls) -> Self:
        """The launch of this process, before anything of the user's app is imported.

        From now on ``sys.path`` means the same wherever we are: names in it that are relative
        become absolute.  Raises ConfigError if the working folder is gone.
        """
        real = working_folder()
        folder = as_named(real)
        paths = [each for each in sys.path if isinstance(each, str)]  # Python heeds no other
        sys.path[:] = [os.path.join(real, each) if each else real for each in paths]
        return cls(
            folder=folder,
            home=folder_of_script() or folder,
            python=renamed(sys.executable, real, folder),
            path=tuple(renamed(each, real, folder) for each in sys.path),
            words=tuple(sys.argv),
        )

    @property
    def program(self) -> str:
        """Python: that of the release of the day if there is one, else ours."""
        return self.python if os.access(self.python, os.X_OK) else sys.executable

    def environment(self, folder: str) -> Mapping[str, str]:
        """The environment of a process that starts in this folder: a shell would say so too."""
        return {**os.environ, "PWD": folder}

    @property
    def command(self) -> list[str]:
        """What starts this process anew."""
        return [self.program, *sys.orig_argv[1:]]


def working_folder() -> str:
    """The working folder.  Raises ConfigError if it is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError(
            f"the working folder is gone: {name_of_gone()}",
            advice=["cd to a folder that is there (a new one of that name is another one)"],
        ) from None


def name_of_gone() -> str:
    """What the working folder was called: the kernel remembers; elsewhere a shell may."""
    try:
        return os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
    except OSError:
        return os.environ.get("PWD", "nobody knows its name")


def as_named(folder: str) -> str:
    """The name by which a shell has entered this folder: with its links; else as it is."""
    name = os.environ.get("PWD", "")
    try:
        return name if os.path.isabs(name) and os.path.samefile(name, folder) else folder
    except OSError:
        return folder


def renamed(path: str, real: str, folder: str) -> str:
    """A path below the working folder, below the name that the user has for that."""
    inside = path == real or path.startswith(os.path.join(real, ""))
    return folder + path[len(real) :] if inside else path


def folder_of_script() -> str | None:
    """Where Python was when it was started with a script that has a relative name."""
    file = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    return folder_before(file, sys.orig_argv[1:])


def folder_before(file: str, words: Iterable[str]) -> str | None:
    """The folder from which one of these words leads to the file: Python just joins the two."""
    for word in words:
        if word and not os.path.isabs(word) and file.endswith(os.path.join("/", word)):
            return as_named(file[: -len(word) - 1] or "/")
    return None
