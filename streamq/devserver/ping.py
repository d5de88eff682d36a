"""A minimal client for a server on a unix socket: whether it answers, INFO, and SHUTDOWN."""

import socket
from pathlib import Path


class ServerRefused(Exception):
    """The server replied with an error; the text is the server's."""


def ask(path: Path, *words: str, timeout: float = 2.0) -> bytes:
    """Send one command.  Returns a status, an integer or a bulk string, as bytes.

    Raises ServerRefused for an error reply, and OSError if none arrives in ``timeout`` seconds.
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
                raise ServerRefused(rest.decode(errors="replace"))
            return reply.read(int(rest)) if kind == b"$" else rest


def request(*words: str) -> bytes:
    """Encode a command in the Redis protocol."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def answers(path: Path, *, timeout: float = 2.0) -> bool:
    """Whether a server that has loaded its data listens on this socket."""
    try:
        ask(path, "PING", timeout=timeout)
    except ServerRefused as refusal:
        # BUSY (a script) and NOAUTH (no password) come from a ready server, LOADING does not.
        return not str(refusal).startswith("LOADING")
    except OSError:
        return False
    return True


def facts(path: Path) -> dict[str, str]:
    """The reply of ``INFO`` as a dictionary; empty if the server does not reply."""
    try:
        text = ask(path, "INFO").decode(errors="replace")
    except (OSError, ServerRefused):
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def shut_down(path: Path) -> None:
    """Ask the server to end.  It flushes its append-only file.

    NOSAVE leaves out only the snapshot, and works even while a script runs.
    """
    try:
        ask(path, "SHUTDOWN", "NOSAVE")
    except (OSError, ServerRefused):
        return  # a server that ends closes the connection; the caller waits for its lock
