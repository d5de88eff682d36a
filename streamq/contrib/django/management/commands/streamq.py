"""``manage.py streamq``: every command of streamq, for the app of the project."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.management.base import BaseCommand

from streamq.cli.command import GivenOptions
from streamq.cli.main import main

#: Options that ``manage.py`` has handled itself, and leaves in the command line.
DJANGO_OPTIONS = ("--settings", "--pythonpath")
#: The app, as a process that the worker starts finds it.
APP = "streamq.contrib.django:app"


class StreamqCommand(BaseCommand):  # type: ignore[misc]
    """``manage.py streamq worker``: the words after ``streamq`` are those of its command line."""

    help = "Run tasks, send them, and look at queues: manage.py streamq --help"
    requires_system_checks: tuple[str, ...] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run a command line, and exit."""
        sys.exit(run(without_django_options(argv[2:]), f"{argv[0].rpartition('/')[2]} {argv[1]}"))

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print the help of streamq, for ``manage.py help streamq``."""
        run(["--help"], f"{prog_name} {subcommand}")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take all words, for ``call_command("streamq", "queues", "ls")``."""
        parser.add_argument("words", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, words: Iterable[str] = (), **options: Any) -> None:
        """Run a command for ``call_command``.  Raises SystemExit if it fails."""
        if code := run(list(words), "manage.py streamq"):
            sys.exit(code)


Command = StreamqCommand


def run(words: list[str], program: str) -> int:
    """Run a command line for the app of the project; return its exit code."""
    return main.run(words, GivenOptions(program=program, default_app=APP))


def without_django_options(words: list[str]) -> list[str]:
    """Drop the options of ``manage.py`` that the command line still has."""
    return list(kept_words(iter(words)))


def kept_words(words: Iterator[str]) -> Iterator[str]:
    """Yield the words that are not for ``manage.py``."""
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in DJANGO_OPTIONS:
            yield word
        elif not equals:
            next(words, None)
