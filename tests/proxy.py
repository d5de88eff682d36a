"""A TCP proxy between a client and the Redis of a test, which injects faults on request.

    with Proxy(server_url) as proxy:
        app = App("shop", url=proxy.url)
        lost = proxy.drop_reply(calls_of("publish", "publish_plain"))
        app.enqueue("any.task")  # is executed; its first answer is dropped
        assert lost.hits == 1

A mode changes all connections until ``heal``: ``blackhole``, ``hold``, ``delay``, ``refuse``.  A
rule changes single commands: ``drop_reply``, ``answer``.  ``reset`` breaks the open connections,
``strand`` leaves them open but drops everything.  A method has taken effect when it returns; any
thread may call it.  One thread does all the work; it ends with ``close``, as all sockets do.
"""

import errno
import heapq
import itertools
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

from streamq.transport.scripts import load

#: The value of SO_LINGER with which closing sends RST instead of FIN.
ABRUPT = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that passes: its words, and the name that its client has set."""

    words: tuple[bytes, ...]
    client: str

    @property
    def name(self) -> str:
        return self.words[0].decode(errors="replace").upper() if self.words else ""


#: The commands that a rule is for: a function, or the first words as text ("XREADGROUP",
#: "SCRIPT LOAD", "EVALSHA 5f1c…"); None is for every command.
Matching = Callable[[Command], bool] | str | None


def calls_of(*scripts: str) -> Callable[[Command], bool]:
    """Match the calls of scripts by their names: ``calls_of("follow")``."""
    hashes = {load(name).sha.encode() for name in scripts}
    return lambda command: command.name == "EVALSHA" and command.words[1] in hashes


def sent_by(client: str, matching: Matching = None) -> Callable[[Command], bool]:
    """Match the commands of clients whose name (as in CLIENT LIST) begins so."""
    inner = matches(matching)
    return lambda command: command.client.startswith(client) and inner(command)


def matches(matching: Matching) -> Callable[[Command], bool]:
    """A ``Matching`` as a function."""
    if matching is None:
        return lambda command: True
    if callable(matching):
        return matching
    wanted = [word.encode() for word in matching.upper().split()]

    def begins(command: Command) -> bool:
        return [word.upper() for word in command.words[: len(wanted)]] == wanted

    return begins


@dataclass(eq=False)
class Rule:
    """A fault for some commands; ``hits`` counts the commands that it was applied to."""

    matches: Callable[[Command], bool]
    left: int | None
    #: The error that is answered; None: the server executes, and its reply is dropped.
    error: bytes | None = None
    #: After a dropped reply: drop all further replies, instead of breaking the connection.
    hang: bool = False
    hits: int = 0

    def wait(self, hits: int = 1, *, seconds: float = 10.0) -> None:
        """Wait until the rule has been applied so often."""
        deadline = time.monotonic() + seconds
        while self.hits < hits:
            assert time.monotonic() < deadline, f"{self.hits} of {hits} after {seconds} s"
            time.sleep(0.005)

    def end(self) -> None:
        """End the rule."""
        self.left = 0

    def takes(self, command: Command) -> bool:
        """Whether the rule applies to a command, which then counts."""
        if self.left == 0 or not self.matches(command):
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Proxy:
    """A proxy with a port of its own, for clients of ``upstream``, a redis:// or unix:// URL.

    It starts at once; ``url`` is its URL, with the user, password and database of the upstream.
    """

    def __init__(self, upstream: str, *, port: int = 0, raw: bool = False) -> None:
        self.upstream = upstream
        #: Do not parse what passes, for links such as replication; then there are no rules.
        self.raw = raw
        self.port = port
        self.rules: list[Rule] = []
        self.mute = self.held = self.refusing = False
        self.latency = 0.0
        self.counts: Counter[str] = Counter()
        self.links: set[Link] = set()
        self.later: list[tuple[float, int, Callable[[], None]]] = []
        self.last_due = 0.0
        self.numbers = itertools.count()
        self.orders: deque[Order] = deque()
        self.listener: socket.socket | None = None
        self.thread: threading.Thread | None = None
        self.start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Modes

    def heal(self) -> None:
        """End all modes and rules.

        Held bytes are sent now.  Connections from which bytes were dropped are reset.
        """

        def order() -> None:
            for link in list(self.links) if self.mute else ():
                link.swallow()
            self.mute = self.held = self.refusing = False
            self.latency = 0.0
            for rule in self.rules:
                rule.end()
            self.rules = []
            self.listen()
            for link in list(self.links):
                link.wake()

        self.call(order)

    def blackhole(self) -> None:
        """Accept connections, and drop all bytes, both ways."""
        self.call(lambda: setattr(self, "mute", True))

    def hold(self) -> None:
        """Hold all bytes back, and lose none: they arrive late, after ``heal``."""

        def order() -> None:
            self.held = True
            for link in self.links:
                link.look()

        self.call(order)

    def delay(self, seconds: float) -> None:
        """Delay all bytes by so many seconds, each way."""
        self.call(lambda: setattr(self, "latency", seconds))

    def refuse(self) -> None:
        """Refuse new connections; open ones stay open."""

        def order() -> None:
            self.refusing = True
            self.unlisten()

        self.call(order)

    def reset(self) -> int:
        """Break the open connections by RST; return how many they were."""

        def order() -> int:
            count = len(self.links)
            for link in list(self.links):
                link.close(abrupt=True)
            return count

        return int(self.call(order))

    def strand(self) -> int:
        """Drop all bytes of the open connections, as if their peer were gone; return how many.

        Later connections work.
        """

        def order() -> int:
            for link in self.links:
                link.stranded = True
            return len(self.links)

        return int(self.call(order))

    # Rules

    def drop_reply(
        self, matching: Matching = None, *, times: int | None = 1, hang: bool = False
    ) -> Rule:
        """Let the server execute matching commands, and drop its replies to them.

        The connection breaks where the reply would have come; with ``hang`` it stays open, and
        everything that the server sends on it from then on is dropped.  ``times`` None: until the
        rule ends or the proxy is healed.
        """
        return self.add(Rule(matches(matching), times, hang=hang))

    def answer(self, error: str, matching: Matching = None, *, times: int | None = 1) -> Rule:
        """Answer matching commands with this error instead of asking the server."""
        return self.add(Rule(matches(matching), times, error=error.encode()))

    def add(self, rule: Rule) -> Rule:
        def order() -> None:
            self.rules = [*(each for each in self.rules if each.left != 0), rule]

        self.call(order)
        return rule

    @contextmanager
    def answering(self, error: str, matching: Matching = None) -> Iterator[Rule]:
        """``answer`` for as long as a block lasts."""
        rule = self.answer(error, matching, times=None)
        try:
            yield rule
        finally:
            rule.end()

    # Counters

    @property
    def url(self) -> str:
        """The URL for clients."""
        parts = urlsplit(self.upstream)
        user = parts.netloc.rpartition("@")[0]
        path = "" if parts.scheme == "unix" else parts.path
        query = f"?{parts.query}" if parts.query else ""
        return f"redis://{user}{'@' if user else ''}127.0.0.1:{self.port}{path}{query}"

    @property
    def seen(self) -> Counter[str]:
        """The number of commands of each name that clients have sent so far."""
        return Counter(self.counts)

    @property
    def connected(self) -> int:
        """The number of connected clients."""
        return len(self.links)

    # Life

    def start(self) -> None:
        """Listen, again on the same port, and serve."""
        assert self.thread is None
        self.ended = False
        self.selector = selectors.DefaultSelector()
        self.wakeup_r, self.wakeup_w = socket.socketpair()
        self.wakeup_r.setblocking(False)
        self.selector.register(self.wakeup_r, selectors.EVENT_READ, self.run_orders)
        self.listen()
        self.thread = threading.Thread(target=self.run, name="proxy", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Reset every connection and stop listening; ``start`` begins again."""
        if self.thread is None:
            return
        self.call(lambda: setattr(self, "ended", True))
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.thread = None

    def close(self) -> None:
        """Stop; may be called twice."""
        self.stop()

    def run(self) -> None:
        try:
            while not self.ended:
                for key, mask in self.selector.select(self.patience()):
                    key.data(mask)
                while self.later and self.later[0][0] <= time.monotonic():
                    heapq.heappop(self.later)[2]()
        finally:
            for link in list(self.links):
                link.close(abrupt=True)
            self.unlisten()
            self.selector.close()
            self.wakeup_r.close()
            self.wakeup_w.close()
            self.later.clear()

    def patience(self) -> float | None:
        return max(0.0, self.later[0][0] - time.monotonic()) if self.later else None

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action in the proxy's thread after so many seconds."""
        self.last_due = max(time.monotonic() + seconds, self.last_due)  # keeps the order
        heapq.heappush(self.later, (self.last_due, next(self.numbers), action))

    def call(self, action: Callable[[], Any]) -> Any:
        """Run an action in the proxy's thread, and return its result."""
        order = Order(action)
        if self.thread is None:  # stopped: no thread would run it
            order.run()
            return order.answer
        self.orders.append(order)
        self.wakeup_w.send(b".")
        assert order.done.wait(10), "the proxy does not answer"
        return order.answer

    def run_orders(self, mask: int) -> None:
        """Run the actions of other threads: the callback of the wake-up pipe."""
        self.wakeup_r.recv(4096)
        while self.orders:
            self.orders.popleft().run()

    # Connections

    def listen(self) -> None:
        if self.listener is not None or self.refusing:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self.listener = listener
        self.selector.register(listener, selectors.EVENT_READ, self.accept)

    def unlisten(self) -> None:
        if self.listener is not None:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None

    def accept(self, mask: int) -> None:
        assert self.listener is not None
        with suppress(BlockingIOError):
            client, _ = self.listener.accept()
            try:
                server = None if self.mute else dial(self.upstream)
            except OSError:
                hang_up(client, abrupt=True)
                return
            self.links.add(Link(self, client, server))


@dataclass
class Order:
    """An action for the proxy's thread, and its result."""

    action: Callable[[], Any]
    answer: Any = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.answer = self.action()
        self.done.set()


class Link:
    """One client and its connection to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket | None) -> None:
        self.proxy = proxy
        self.client = Side(self, client, self.asked)
        self.server = Side(self, server, self.replied) if server is not None else None
        self.name = ""
        self.closed = self.swallowed = self.stranded = self.skipping = False
        #: For each reply that is still to come: None, the rule that drops it, or an error
        #: that replaces it.
        self.expected: deque[Rule | bytes | None] = deque()

    @property
    def sides(self) -> list["Side"]:
        return [side for side in (self.client, self.server) if side is not None]

    def asked(self, data: bytes) -> None:
        """Pass on what the client has sent."""
        if self.proxy.raw and self.server is not None:
            self.server.give(data)
            return
        passed = bytearray()
        for frame in self.client.frames(data):
            rule = self.rule_for(frame)
            if rule is None or rule.error is None:
                self.expected.append(rule)
                passed += frame
            else:
                rule.hits += 1
                self.expected.append(b"-" + rule.error + b"\r\n")
        if passed and self.server is not None:
            self.server.give(bytes(passed))
        self.client.give(self.stand_ins())

    def rule_for(self, frame: bytes) -> Rule | None:
        """Count a command, and find the rule for it."""
        command = Command(words_of(frame), self.name)
        self.proxy.counts[command.name] += 1
        if [word.upper() for word in command.words[:2]] == [b"CLIENT", b"SETNAME"]:
            self.name = command.words[2].decode(errors="replace")
        return next((rule for rule in self.proxy.rules if rule.takes(command)), None)

    def replied(self, data: bytes) -> None:
        """Pass on what the server has sent."""
        assert self.server is not None
        if self.proxy.raw:
            self.client.give(data)
            return
        passed = bytearray()
        for frame in self.server.frames(data):
            expected = self.expected.popleft() if self.expected and frame[:1] != b">" else None
            if isinstance(expected, Rule):
                expected.hits += 1
                self.skipping = True
                if not expected.hang:
                    self.client.give(bytes(passed))
                    self.close()
                    return
            if not self.skipping:
                passed += frame
                passed += self.stand_ins()
        self.client.give(bytes(passed))

    def stand_ins(self) -> bytes:
        """The errors that come next in the place of replies of the server."""
        found = b""
        while self.expected and isinstance(self.expected[0], bytes):
            found += self.expected.popleft()  # type: ignore[operator]
        return b"" if self.skipping else found

    def swallow(self) -> None:
        """Drop what has arrived meanwhile, before the proxy is healed."""
        for side in self.sides:
            if not side.at_end:
                side.ready(selectors.EVENT_READ)

    def wake(self) -> None:
        """Go on after ``heal``."""
        if self.swallowed or self.server is None:
            self.close(abrupt=True)
            return
        self.look()
        for side in self.sides:
            if side.ending:
                side.close_when_sent()

    def look(self) -> None:
        for side in self.sides:
            side.look()

    def ended(self, side: "Side") -> None:
        """One side has hung up: what it said still arrives, then the other side hears of it."""
        other = self.server if side is self.client else self.client
        if other is None:
            self.close()
        else:
            other.close_when_sent()

    def close(self, *, abrupt: bool = False) -> None:
        """Close both sides."""
        if not self.closed:
            self.closed = True
            self.proxy.links.discard(self)
            for side in self.sides:
                side.close(abrupt=abrupt)


class Side:
    """One socket of a link: reads from its peer, and buffers what is to be sent to it."""

    def __init__(self, link: Link, peer: socket.socket, heard: Callable[[bytes], None]) -> None:
        self.link = link
        self.proxy = link.proxy
        self.socket = peer
        self.heard = heard
        self.buffer = bytearray()
        self.outbox = bytearray()
        self.at_end = self.ending = False
        peer.setblocking(False)
        self.interest = 0
        self.look()

    def look(self) -> None:
        """Register for reading, unless held, and for writing, if bytes are left."""
        held = self.proxy.held
        read = not (held or self.at_end)
        interest = selectors.EVENT_READ * read | selectors.EVENT_WRITE * bool(
            self.outbox and not held
        )
        if interest == self.interest:
            return
        if not self.interest:
            self.proxy.selector.register(self.socket, interest, self.ready)
        elif not interest:
            self.proxy.selector.unregister(self.socket)
        else:
            self.proxy.selector.modify(self.socket, interest, self.ready)
        self.interest = interest

    def ready(self, mask: int) -> None:
        if self.link.closed or self.proxy.held:
            return
        try:
            if mask & selectors.EVENT_WRITE:
                self.flush()
            if mask & selectors.EVENT_READ and not self.link.closed:
                self.read()
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self.link.close(abrupt=True)

    def read(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            self.at_end = True
            self.look()
            self.delayed(lambda: self.link.ended(self))
        elif self.proxy.mute or self.link.stranded:
            self.link.swallowed = True
        else:
            self.heard(data)

    def frames(self, data: bytes) -> Iterator[bytes]:
        """The complete commands or replies that have arrived; the rest is kept."""
        self.buffer += data
        at = 0
        while at < len(self.buffer) and (end := end_of_frame(self.buffer, at)) >= 0:
            yield bytes(self.buffer[at:end])
            at = end
        del self.buffer[:at]

    def give(self, data: bytes) -> None:
        """Send bytes to the peer, after the delay."""
        if data:
            self.delayed(lambda: self.put(data))

    def delayed(self, action: Callable[[], None]) -> None:
        if self.proxy.latency or self.proxy.later:  # keeps the order
            self.proxy.after(self.proxy.latency, action)
        else:
            action()

    def put(self, data: bytes) -> None:
        if self.link.closed:
            return
        if self.proxy.mute or self.link.stranded:
            self.link.swallowed = True
            return
        self.outbox += data
        self.ready(selectors.EVENT_WRITE)
        if not self.link.closed:
            self.look()

    def flush(self) -> None:
        with suppress(BlockingIOError):
            while self.outbox:
                del self.outbox[: self.socket.send(self.outbox)]
        if self.ending and not self.outbox:
            self.link.close()
            return
        self.look()

    def close_when_sent(self) -> None:
        """Close as soon as everything has been sent."""
        self.ending = True
        if not self.link.closed and not self.proxy.held and not self.outbox:
            self.link.close()

    def close(self, *, abrupt: bool) -> None:
        if self.interest:
            self.proxy.selector.unregister(self.socket)
            self.interest = 0
        hang_up(self.socket, abrupt=abrupt)


def end_of_frame(data: bytes | bytearray, at: int) -> int:
    """The end of the command or reply that begins at ``at``; -1 if it is incomplete."""
    missing = 1
    while missing:
        line = data.find(b"\r\n", at)
        if line < 0:
            return -1
        kind, number = data[at : at + 1], data[at + 1 : line]
        at = line + 2
        missing -= 1
        if kind in b"$=!" and number != b"-1":
            at += int(number) + 2
            if at > len(data):
                return -1
        elif kind in b"*~>":
            missing += max(0, int(number))
        elif kind == b"%":
            missing += 2 * int(number)
    return at


def words_of(frame: bytes) -> tuple[bytes, ...]:
    """The words of a command."""
    if frame[:1] != b"*":  # typed by hand
        return tuple(frame.split())
    reader = hiredis.Reader()
    reader.feed(frame)
    return tuple(reader.gets())


def dial(url: str) -> socket.socket:
    """Connect to a server."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        path = unquote(parts.path)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(path)
        except OSError:
            server.close()
            raise
        return server
    server = socket.create_connection((parts.hostname or "localhost", parts.port or 6379), 5)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def hang_up(peer: socket.socket, *, abrupt: bool) -> None:
    """Close a socket, with RST if ``abrupt`` and it is one of TCP."""
    with suppress(OSError):
        if abrupt and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
    peer.close()


def open_descriptors() -> int:
    """The number of descriptors of this process, as the baseline of a test."""
    return len(os.listdir("/proc/self/fd"))
