"""TLS before a server that speaks none: what arrives is decrypted and passed on."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import hiredis
import trustme

from tests.proxy import dial


@contextmanager
def tls_before(server_url: str, folder: Path) -> Iterator[str]:
    """The URL of a gate to this server, for one connection, which must be made.

    The gate's certificate is of an authority made for it.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        gate = threading.Thread(target=pass_on, args=(listener, context, server_url), daemon=True)
        gate.start()
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={folder}/authority.pem"
        gate.join(10)


def pass_on(listener: socket.socket, context: ssl.SSLContext, server_url: str) -> None:
    """Take one connection, and pass on what comes in either direction."""
    wrapped = context.wrap_socket(listener.accept()[0], server_side=True)
    with wrapped as outer, dial(server_url) as inner:
        back = threading.Thread(target=pump, args=(inner, outer), daemon=True)
        back.start()
        pump(outer, inner)
        back.join(10)


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on whatever comes, and hang up when nothing more can."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def listening(
    authority: trustme.CA, serve: Callable[[socket.socket], None], name: str = "localhost"
) -> Iterator[int]:
    """The port of a server with TLS, whose certificate is for this name; serves each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def encrypt(plain: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as wrapped:
            serve(wrapped)

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=encrypt, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def before(server_url: str) -> Callable[[socket.socket], None]:
    """What serves a connection by passing everything on to this server."""

    def serve(outer: socket.socket) -> None:
        with dial(server_url) as inner:
            threading.Thread(target=pump, args=(inner, outer), daemon=True).start()
            pump(outer, inner)

    return serve


def sentinel(port: int) -> Callable[[socket.socket], None]:
    """What serves a connection as a Sentinel does that knows a master on this port."""
    master = hiredis.pack_command(("localhost", str(port)))
    return partial(answer, {b"SENTINEL": master})


def answer(replies: dict[bytes, bytes], outer: socket.socket) -> None:
    """Answer each command with the reply that is known for it, else with OK."""
    reader = hiredis.Reader()
    while data := outer.recv(65536):
        reader.feed(data)
        while (command := reader.gets()) is not False:
            outer.sendall(replies.get(command[0], b"+OK\r\n"))
