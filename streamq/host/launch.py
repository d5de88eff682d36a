"""The launch of this process: its folder, and its module search path.

A module may change both while it is imported.  The processes that a worker starts, and a new
worker in its place, use the values from before.  A folder keeps the name that the user gave it,
so that a link to a release leads to the current release.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from streamq.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Launch:
    """The folder, program and paths with which a streamq command began.

    ``folder`` is its working folder, and ``home`` that of the process at its start: a program of
    the user may change it before it calls streamq.  ``python`` is the interpreter; ``path`` is
    ``sys.path`` and ``words`` is ``sys.argv``.
    """

    folder: str
    home: str
    python: str
    path: tuple[str, ...]
    words: tuple[str, ...] = ()

    @classmethod
    def here(cls) -> Self:
        """Record the launch of this process, before any module of the user's app is imported.

        Makes relative names in ``sys.path`` absolute, so that it means the same in every folder.
        Raises ConfigError if the working folder is gone.
        """
        real = working_folder()
        folder = as_named(real)
        paths = [each for each in sys.path if isinstance(each, str)]  # Python ignores others
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
        """The interpreter: of the current release if it has one, else of this process."""
        return self.python if os.access(self.python, os.X_OK) else sys.executable

    def environment(self, folder: str) -> Mapping[str, str]:
        """The environment of a process that starts in this folder: with PWD, as a shell sets it."""
        return {**os.environ, "PWD": folder}

    @property
    def command(self) -> list[str]:
        """The command line that starts this process again."""
        return [self.program, *sys.orig_argv[1:]]


def working_folder() -> str:
    """Return the working folder.  Raises ConfigError if it is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError(
            f"the working folder is gone: {name_of_gone()}",
            advice=["cd to a folder that is there (a new one of that name is another one)"],
        ) from None


def name_of_gone() -> str:
    """The name of a deleted working folder: from the kernel, or else from the shell's PWD."""
    try:
        return os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
    except OSError:
        return os.environ.get("PWD", "its name is unknown")


def as_named(folder: str) -> str:
    """The folder as the shell names it (PWD), with its links; else as it is."""
    name = os.environ.get("PWD", "")
    try:
        return name if os.path.isabs(name) and os.path.samefile(name, folder) else folder
    except OSError:
        return folder


def renamed(path: str, real: str, folder: str) -> str:
    """Replace the working folder in a path by the name that the user has for it."""
    inside = path == real or path.startswith(os.path.join(real, ""))
    return folder + path[len(real) :] if inside else path


def folder_of_script() -> str | None:
    """The folder in which Python was started with a script of a relative name; else None."""
    file = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    return folder_before(file, sys.orig_argv[1:])


def folder_before(file: str, words: Iterable[str]) -> str | None:
    """The folder that one of these words was joined to, to give the file; None if none was."""
    for word in words:
        if word and not os.path.isabs(word) and file.endswith(os.path.join("/", word)):
            return as_named(file[: -len(word) - 1] or "/")
    return None
