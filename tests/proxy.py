"""A TCP proxy that stands between a client and the test's Redis, and spoils things on request.

    with Proxy(server_url) as proxy:
        app = App("shop", url=proxy.url)
        lost = proxy.drop_reply(calls_of("publish", "push"))
        app.enqueue("any.task")  # is executed; its first answer never arrives
        assert lost.hits == 1

What happens to everything is a mode: ``blackhole``, ``hold``, ``delay``, ``refuse``, until
``heal``.  What happens to single commands is a rule: ``drop_reply``, ``answer``.  ``reset``
breaks what is connected now, ``strand`` leaves it open and deaf.  A method has taken
effect when it returns; any thread may call it.  One thread does all the work and ends with
``close``, and so does every socket.
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

#: Closing with this sends RST instead of FIN.
ABRUPT = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Command:
    """A command on its way: its words, and the name that its client gave itself."""

    words: tuple[bytes, ...]
    client: str

    @property
    def name(self) -> str:
        return self.words[0].decode(errors="replace").upper() if self.words else ""


#: Which commands a rule is for: a function, or the first words as text ("XREADGROUP",
#: "SCRIPT LOAD", "EVALSHA 5f1c…"); None is for every command.
Matching = Callable[[Command], bool] | str | None


def calls_of(*scripts: str) -> Callable[[Command], bool]:
    """Matches the calls of these scripts of ours, by their names: ``calls_of("settle")``."""
    hashes = {load(name).sha.encode() for name in scripts}
    return lambda command: command.name == "EVALSHA" and command.words[1] in hashes


def sent_by(client: str, matching: Matching = None) -> Callable[[Command], bool]:
    """Matches what clients do whose name (as in CLIENT LIST) begins so."""
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
    """What happens to some commands.  ``hits`` counts those that it happened to."""

    matches: Callable[[Command], bool]
    left: int | None
    #: The error that is answered; None: the server answers, and its reply is lost.
    error: bytes | None = None
    #: After a lost reply: go on swallowing replies, instead of breaking the connection.
    hang: bool = False
    hits: int = 0

    def wait(self, hits: int = 1, *, seconds: float = 10.0) -> None:
        """Wait until it has happened so often."""
        deadline = time.monotonic() + seconds
        while self.hits < hits:
            assert time.monotonic() < deadline, f"{self.hits} of {hits} after {seconds} s"
            time.sleep(0.005)

    def end(self) -> None:
        """Let it happen no more."""
        self.left = 0

    def takes(self, command: Command) -> bool:
        if self.left == 0 or not self.matches(command):
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Proxy:
    """Listens on a port of its own for clients of ``upstream``, a redis:// or unix:// URL.

    Starts at once; ``url`` is where it is, with the user, password and database of the URL.
    """

    def __init__(self, upstream: str, *, port: int = 0, raw: bool = False) -> None:
        self.upstream = upstream
        #: Look at nothing that passes, for links that are not of commands and replies, such
        #: as replication; then there are no rules.
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
        """Pass everything on again, as at the beginning; all rules end.

        Held bytes arrive now.  Connections from which bytes were swallowed are reset.
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

        self.tell(order)

    def blackhole(self) -> None:
        """Accept connections, and swallow whatever comes, both ways."""
        self.tell(lambda: setattr(self, "mute", True))

    def hold(self) -> None:
        """Let nothing pass, and lose nothing: as TCP does, it arrives late, when healed."""

        def order() -> None:
            self.held = True
            for link in self.links:
                link.look()

        self.tell(order)

    def delay(self, seconds: float) -> None:
        """Let everything take so much longer, each way."""
        self.tell(lambda: setattr(self, "latency", seconds))

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay open."""

        def order() -> None:
            self.refusing = True
            self.unlisten()

        self.tell(order)

    def reset(self) -> int:
        """Break what is connected now, with RST; tell how many connections that were."""

        def order() -> int:
            count = len(self.links)
            for link in list(self.links):
                link.close(abrupt=True)
            return count

        return int(self.tell(order))

    def strand(self) -> int:
        """Swallow whatever comes on the connections of now, as if their peer were gone.

        Those that are made from now on pass.  Tells how many connections that were.
        """

        def order() -> int:
            for link in self.links:
                link.stranded = True
            return len(self.links)

        return int(self.tell(order))

    # Rules

    def drop_reply(
        self, matching: Matching = None, *, times: int | None = 1, hang: bool = False
    ) -> Rule:
        """Let the server execute matching commands, and lose its replies to them.

        The connection breaks where the reply would have come; with ``hang`` it stays, and
        everything that the server says on it from then on is lost.  ``times`` None is for
        ever, that is until the rule ends or the proxy is healed.
        """
        return self.add(Rule(matches(matching), times, hang=hang))

    def answer(self, error: str, matching: Matching = None, *, times: int | None = 1) -> Rule:
        """Answer matching commands with this error instead of asking the server."""
        return self.add(Rule(matches(matching), times, error=error.encode()))

    def add(self, rule: Rule) -> Rule:
        def order() -> None:
            self.rules = [*(each for each in self.rules if each.left != 0), rule]

        self.tell(order)
        return rule

    @contextmanager
    def answering(self, error: str, matching: Matching = None) -> Iterator[Rule]:
        """``answer`` for as long as a block lasts."""
        rule = self.answer(error, matching, times=None)
        try:
            yield rule
        finally:
            rule.end()

    # What went by

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
        """How many commands of each name clients have sent so far."""
        return Counter(self.counts)

    @property
    def connected(self) -> int:
        """How many clients are connected."""
        return len(self.links)

    # Life

    def start(self) -> None:
        """Listen (again, on the same port) and serve."""
        assert self.thread is None
        self.ended = False
        self.selector = selectors.DefaultSelector()
        self.bell, self.rope = socket.socketpair()
        self.bell.setblocking(False)
        self.selector.register(self.bell, selectors.EVENT_READ, self.hear)
        self.listen()
        self.thread = threading.Thread(target=self.run, name="proxy", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Reset every connection and listen no more; ``start`` begins again."""
        if self.thread is None:
            return
        self.tell(lambda: setattr(self, "ended", True))
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.thread = None

    def close(self) -> None:
        """End for good.  May be called twice."""
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
            self.bell.close()
            self.rope.close()
            self.later.clear()

    def patience(self) -> float | None:
        return max(0.0, self.later[0][0] - time.monotonic()) if self.later else None

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do this in the proxy's thread after so many seconds."""
        self.last_due = max(time.monotonic() + seconds, self.last_due)  # nothing overtakes
        heapq.heappush(self.later, (self.last_due, next(self.numbers), act))

    def tell(self, act: Callable[[], Any]) -> Any:
        """Do this in the proxy's thread, and return its answer."""
        order = Order(act)
        if self.thread is None:  # stopped: nobody else looks
            order.obey()
            return order.answer
        self.orders.append(order)
        self.rope.send(b".")
        assert order.done.wait(10), "the proxy does not answer"
        return order.answer

    def hear(self, mask: int) -> None:
        self.bell.recv(4096)
        while self.orders:
            self.orders.popleft().obey()

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
    """Something to be done in the proxy's thread."""

    act: Callable[[], Any]
    answer: Any = None
    done: threading.Event = field(default_factory=threading.Event)

    def obey(self) -> None:
        self.answer = self.act()
        self.done.set()


class Link:
    """One client and its connection to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket | None) -> None:
        self.proxy = proxy
        self.client = Side(self, client, self.asked)
        self.server = Side(self, server, self.replied) if server is not None else None
        self.name = ""
        self.closed = self.swallowed = self.stranded = self.deaf = False
        #: For each reply that is still to come: None, the rule that drops it, or an error
        #: that stands in its place.
        self.expected: deque[Rule | bytes | None] = deque()

    @property
    def sides(self) -> list["Side"]:
        return [side for side in (self.client, self.server) if side is not None]

    def asked(self, data: bytes) -> None:
        """The client has sent something."""
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
        """Count a command, and find what is to happen to it."""
        command = Command(words_of(frame), self.name)
        self.proxy.counts[command.name] += 1
        if [word.upper() for word in command.words[:2]] == [b"CLIENT", b"SETNAME"]:
            self.name = command.words[2].decode(errors="replace")
        return next((rule for rule in self.proxy.rules if rule.takes(command)), None)

    def replied(self, data: bytes) -> None:
        """The server has sent something."""
        assert self.server is not None
        if self.proxy.raw:
            self.client.give(data)
            return
        passed = bytearray()
        for frame in self.server.frames(data):
            fate = self.expected.popleft() if self.expected and frame[:1] != b">" else None
            if isinstance(fate, Rule):
                fate.hits += 1
                self.deaf = True
                if not fate.hang:
                    self.client.give(bytes(passed))
                    self.close()
                    return
            if not self.deaf:
                passed += frame
                passed += self.stand_ins()
        self.client.give(bytes(passed))

    def stand_ins(self) -> bytes:
        """The errors that come next, where a server's replies would have come."""
        found = b""
        while self.expected and isinstance(self.expected[0], bytes):
            found += self.expected.popleft()  # type: ignore[operator]
        return b"" if self.deaf else found

    def swallow(self) -> None:
        """Take what has arrived in the black hole, before it is healed."""
        for side in self.sides:
            if not side.at_end:
                side.ready(selectors.EVENT_READ)

    def wake(self) -> None:
        """The proxy is healed."""
        if self.swallowed or self.server is None:
            self.close(abrupt=True)
            return
        self.look()
        for side in self.sides:
            if side.ending:
                side.last_words()

    def look(self) -> None:
        for side in self.sides:
            side.look()

    def ended(self, side: "Side") -> None:
        """One side has hung up: what it said still arrives, then the other side hears of it."""
        other = self.server if side is self.client else self.client
        if other is None:
            self.close()
        else:
            other.last_words()

    def close(self, *, abrupt: bool = False) -> None:
        """Hang up on both sides."""
        if not self.closed:
            self.closed = True
            self.proxy.links.discard(self)
            for side in self.sides:
                side.close(abrupt=abrupt)


class Side:
    """One socket of a link: reads what its peer says, and is given what its peer is to hear."""

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
        """Attend to what matters now: reading, unless held; writing, if something is left."""
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
        """The whole commands or replies that have arrived; the rest is kept."""
        self.buffer += data
        at = 0
        while at < len(self.buffer) and (end := end_of_frame(self.buffer, at)) >= 0:
            yield bytes(self.buffer[at:end])
            at = end
        del self.buffer[:at]

    def give(self, data: bytes) -> None:
        """Send this to the peer, after the delay that there is."""
        if data:
            self.delayed(lambda: self.put(data))

    def delayed(self, act: Callable[[], None]) -> None:
        if self.proxy.latency or self.proxy.later:  # nothing overtakes what was said before
            self.proxy.after(self.proxy.latency, act)
        else:
            act()

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

    def last_words(self) -> None:
        """Close when everything has been sent."""
        self.ending = True
        if not self.link.closed and not self.proxy.held and not self.outbox:
            self.link.close()

    def close(self, *, abrupt: bool) -> None:
        if self.interest:
            self.proxy.selector.unregister(self.socket)
            self.interest = 0
        hang_up(self.socket, abrupt=abrupt)


def end_of_frame(data: bytes | bytearray, at: int) -> int:
    """Where the command or reply that begins at ``at`` ends; -1 if it is not all there."""
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
    """How many descriptors this process has: a test's baseline."""
    return len(os.listdir("/proc/self/fd"))
