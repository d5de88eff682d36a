"""The server that streamq runs by itself where no URL says which one to use.

One server for each project, in its folder ``.streamq``, shared by every process that
wants it and ended when the last has gone.  For development: one user, one machine.

    ensure()    use it, starting it if need be; this process counts as a user from then on
    find()      look whether it runs
    start()     use it, and let it outlive its users
    leave()     use it no more, and see it end if nobody else does
    stop()      end it; the data stays
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from streamq.devserver import binary, locks
from streamq.devserver import ping as resp
from streamq.devserver.project import Place, Unusable
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.host.launch import working_folder

#: Seconds a server lives on after its last user has gone.
GRACE = 30.0

#: Seconds to wait for a server that loads its data, and for one that is told to end.
PATIENCE, ENDING = 75.0, 15.0

#: How a keeper starts.  Our path comes last, so that nothing beside us hides the standard library.
KEEPER = """\
import sys
sys.path.append(sys.argv.pop(1))
from streamq.devserver.keeper import main
main(*sys.argv[1:])
"""

#: The locks by which this process, and its forked children, are users.
_held: dict[Path, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A bundled server that runs."""

    url: str
    version: str
    binary: Path
    folder: Path
    socket: Path
    pid: int
    pinned: bool

    @property
    def banner(self) -> str:
        return f"bundled {self.version} at {self.folder} (development only)"


def ensure(
    start_dir: Path | None = None, *, grace: float = GRACE, program: Path | None = None
) -> Server:
    """The server of this project, started if it does not run.

    It will not end while this process or a child forked from it lives.  ``program`` is
    the server to start, where it is not to be found.
    """
    home = place(start_dir)
    home.make()
    _join(home)
    deadline = clock.monotonic() + PATIENCE
    while clock.monotonic() < deadline:
        if server := _running(home):
            return server
        with locks.attempt(home.starting) as mine:
            if mine and not _running(home):
                _launch(home, grace, program)
                continue
        time.sleep(locks.PAUSE)
    raise BrokerUnavailable(
        "the bundled server does not get ready",
        known={"folder": home.folder, "waited": f"{PATIENCE:.0f} s"},
        advice=["look at streamq server logs", "streamq server stop, then try again"],
    )


def find(start_dir: Path | None = None) -> Server | None:
    """The server of this project if it runs."""
    return _running(place(start_dir))


def start(start_dir: Path | None = None, *, program: Path | None = None) -> Server:
    """Like ``ensure``, and the server stays until ``stop``, also without users."""
    server = ensure(start_dir, program=program)
    place(start_dir).pin.touch()
    return replace(server, pinned=True)


def leave(start_dir: Path | None = None, *, patience: float) -> bool:
    """Use the server of this project no more, and wait at most ``patience`` seconds for its end.

    False if it lives on: others use it, or its grace is longer than that.
    """
    home = place(start_dir)
    held = _held.pop(home.folder, None)
    if held is not None:
        os.close(held)
    deadline = clock.monotonic() + patience
    while _is_occupied(home):
        if clock.monotonic() > deadline:
            return False
        time.sleep(locks.PAUSE)
    return True


def stop(start_dir: Path | None = None) -> bool:
    """End the server of this project, whoever uses it; False if none ran."""
    home = place(start_dir)
    home.pin.unlink(missing_ok=True)
    if not _is_occupied(home):
        return False
    with locks.attempt(home.starting):  # nobody starts one meanwhile
        deadline = clock.monotonic() + ENDING
        while _is_occupied(home):
            if clock.monotonic() > deadline:
                record = home.record()
                raise BrokerUnavailable(
                    "the bundled server does not end",
                    known={"folder": home.folder, "process": record and record.pid},
                    advice=["look at streamq server logs", "kill -9 that process"],
                )
            resp.shut_down(home.socket)
            time.sleep(locks.PAUSE)
    return True


def place(start_dir: Path | None = None) -> Place:
    """Where the server of this project keeps its things, whether it runs or not."""
    return Place.near(start_dir or Path(working_folder()))


def describe(server: Server) -> dict[str, str]:
    """What the server tells about itself (``INFO``)."""
    return resp.facts(server.socket)


def _join(place: Place) -> None:
    """Become a user: hold the users' lock for as long as this process lives.

    Waits while a keeper holds it alone, which means that it is just ending the server.
    """
    known = _held.get(place.folder)
    if known is not None and locks.is_same_file(known, place.users):
        return
    descriptor = locks.opened(place.users)
    deadline = clock.monotonic() + PATIENCE
    while not locks.lock_shared(descriptor):
        if clock.monotonic() > deadline:
            os.close(descriptor)
            raise BrokerUnavailable(
                "the bundled server is being ended, and does not come to an end",
                known={"folder": place.folder},
                advice=["streamq server stop", "look at streamq server logs"],
            )
        time.sleep(locks.PAUSE / 2)
    os.utime(descriptor)  # the keeper counts its grace from here if we are gone at once
    _held[place.folder] = descriptor


def _is_occupied(place: Place) -> bool:
    """Whether a server or its keeper lives here, in whatever state."""
    return locks.is_held(place.serving) or locks.is_held(place.keeping)


def _running(place: Place) -> Server | None:
    """The server, if there is a living keeper and it answers."""
    record = place.record()
    if record is None or record.pid is None or not locks.is_held(place.keeping):
        return None
    path = Path(record.socket)
    if not resp.answers(path):
        return None
    return Server(
        url=f"unix://{quote(str(path))}?db=0",
        version=record.version,
        binary=Path(record.binary),
        folder=place.folder,
        socket=path,
        pid=record.pid,
        pinned=place.pin.exists(),
    )


def _launch(place: Place, grace: float, program: Path | None) -> None:
    """Start a keeper and wait until its server is ready."""
    chosen = _choose(place, program)
    place.shorten_log()
    with place.log.open("a") as log:
        before = log.tell()
        reason = _keeper(place, [chosen.path, chosen.version, str(grace)], log.fileno())
    if reason:
        raise BrokerUnavailable(
            f"the bundled server did not start: {reason}",
            known={
                "server": f"{chosen.version} ({chosen.path})",
                "folder": place.folder,
                "log": _end_of(place.log, before),
            },
            advice=[
                "if the data is another server's, move the folder .streamq away",
                "or use a server that runs already: export STREAMQ_URL=redis://host:6379",
            ],
        )


def _keeper(place: Place, what: list[str | Path], log: int) -> str:
    """Start a keeper, detached; why it failed, or nothing once its server answers."""
    try:
        keeper = subprocess.run(
            [sys.executable, "-P", "-c", KEEPER, Path(__file__).parents[2], place.folder, *what],
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it is not ready after {PATIENCE:.0f} s"
    if keeper.returncode:
        return f"its keeper failed, exit code {keeper.returncode}"
    return keeper.stdout.decode(errors="replace").strip()


def _choose(place: Place, program: Path | None) -> binary.Binary:
    if program is not None:
        if found := binary.inspect(program):
            return found
        raise Unusable(f"{program} is not a server that streamq can use")
    record = place.record()
    if record is None or not place.has_data():
        return binary.choose()
    return binary.choose(Path(record.binary), record.version)


def _end_of(log: Path, start: int, lines: int = 8) -> str:
    """The last lines that were written since."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return "\n       ".join(text.splitlines()[-lines:])
