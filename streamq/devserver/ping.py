"""One question to a server behind a unix socket: enough to see whether it lives."""

import socket
from pathlib import Path


class Refused(Exception):
    """The server answered with an error; the text is its own."""


def ask(path: Path, *words: str, timeout: float = 2.0) -> bytes:
    """Send one command and return a status, an integer or a text as bytes.

    ``Refused`` if the server says no, ``OSError`` if it does not answer in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(request(*words))
        with connection.makefile("rb") as reply:
            line = reply.readline()
            kind, rest = line[:1], line[1:].rstrip()
            if not kind:
                raise ConnectionError("the server closed the connection")
            if kind == b"-":
                raise Refused(rest.decode(errors="replace"))
            return reply.read(int(rest)) if kind == b"$" else rest


def request(*words: str) -> bytes:
    """A command as Redis wants it on the wire."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def answers(path: Path, *, timeout: float = 2.0) -> bool:
    """Whether a server that has loaded its data listens there."""
    try:
        ask(path, "PING", timeout=timeout)
    except Refused as refusal:
        # BUSY with a script or asking for a password is alive; LOADING is not yet.
        return not str(refusal).startswith("LOADING")
    except OSError:
        return False
    return True


def facts(path: Path) -> dict[str, str]:
    """What ``INFO`` tells, one entry a line; empty if the server does not say."""
    try:
        text = ask(path, "INFO").decode(errors="replace")
    except (OSError, Refused):
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def shut_down(path: Path) -> None:
    """Ask the server to end.  Its append-only file is flushed all the same.

    NOSAVE leaves out the snapshot only, and is obeyed even while a script runs.
    """
    try:
        ask(path, "SHUTDOWN", "NOSAVE")
    except (OSError, Refused):
        return  # a closed connection is its way of saying yes; the caller waits for its lock
