"""Patterns for names of workers and of their files: ``worker1@%h``, ``/var/log/%n.log``."""

from collections.abc import Mapping


def expand(pattern: str, values: Mapping[str, str]) -> str:
    """Replace the signs of a pattern, such as ``%h``, by their values.

    ``%%h`` is the same as ``%h``: a file of systemd doubles the percent sign, and a line of it may
    be used elsewhere.  Any other ``%%`` is one percent sign, and other text stays as it is.
    """
    signs = {**values, **{f"%{sign}": value for sign, value in values.items()}, "%%": "%"}
    found, rest = "", pattern
    while rest:
        sign = next((rest[:n] for n in (3, 2) if rest[:n] in signs), rest[0])
        found += signs.get(sign, sign)
        rest = rest[len(sign) :]
    return found


def file_name(pattern: str, node: str) -> str:
    """The file that a pattern names, for the worker of this name.

    ``%n`` is the worker's name before the ``@``, ``%p`` the whole name, ``%h`` its host and ``%d``
    the domain of that.  Celery's ``%i`` and ``%I`` number processes; here all of a worker's
    processes have one file, which is that of the first.
    """
    name, _, host = node.partition("@")
    domain = host.partition(".")[2]
    signs = {"%n": name, "%p": node, "%h": host, "%d": domain, "%i": "0", "%I": ""}
    return expand(pattern, signs)
