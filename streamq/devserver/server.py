"""The bundled server: a Redis server that streamq starts where no URL is set.

Each project has one server, in its folder ``.streamq``.  All processes that need it share it, and
it ends after the last one has gone.  It is for development: one user on one machine.

    ensure()    use the server, and start it if it does not run; this process is a user from then on
    find()      the server, if it runs
    start()     use the server, and let it run on without users
    leave()     use the server no more, and wait for its end
    stop()      end the server; the data stays
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from streamq.devserver import binary, locks, ping
from streamq.devserver.project import NoServer, ProjectFolder
from streamq.errors import BrokerUnavailable
from streamq.host import clock
from streamq.host.launch import working_folder

#: Seconds that a server runs on after its last user has gone.
GRACE = 30.0

#: Seconds to wait for a server that loads its data, and for one that was asked to end.
PATIENCE, ENDING = 75.0, 15.0

#: The program of a keeper.  The path of streamq comes last, so that no module beside it hides one
#: of the standard library.
KEEPER_PROGRAM = """\
import sys
sys.path.append(sys.argv.pop(1))
from streamq.devserver.keeper import main
main(*sys.argv[1:])
"""

#: Folder → descriptor of the lock by which this process and its forked children are users.
_user_locks: dict[Path, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running bundled server."""

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
    """Return the server of this project, which is started if it does not run.

    It does not end while this process or a child forked from it lives, and ``grace`` seconds
    longer.  ``program`` is the server program to start; by default it is searched for.  Raises
    BrokerUnavailable if the server does not answer in ``PATIENCE`` seconds, and NoServer if there
    cannot be one.
    """
    project = project_folder(start_dir)
    project.make()
    _register_user(project)
    deadline = clock.monotonic() + PATIENCE
    while clock.monotonic() < deadline:
        if server := _running(project):
            return server
        with locks.held_if_free(project.starting_lock) as taken:
            if taken and not _running(project):
                _launch(project, grace, program)
                continue
        time.sleep(locks.PAUSE)
    raise BrokerUnavailable(
        "the bundled server does not become ready",
        known={"folder": project.folder, "waited": f"{PATIENCE:.0f} s"},
        advice=["look at streamq server logs", "streamq server stop, then try again"],
    )


def find(start_dir: Path | None = None) -> Server | None:
    """The server of this project; None if it does not run."""
    return _running(project_folder(start_dir))


def start(start_dir: Path | None = None, *, program: Path | None = None) -> Server:
    """Use the server as with ``ensure``; it runs until ``stop``, also without users."""
    server = ensure(start_dir, program=program)
    project_folder(start_dir).pin.touch()
    return replace(server, pinned=True)


def leave(start_dir: Path | None = None, *, patience: float) -> bool:
    """Use the server of this project no more, and wait at most ``patience`` seconds for its end.

    Returns False if it still runs: others use it, or its grace period is longer.
    """
    project = project_folder(start_dir)
    held = _user_locks.pop(project.folder, None)
    if held is not None:
        os.close(held)
    deadline = clock.monotonic() + patience
    while _is_occupied(project):
        if clock.monotonic() > deadline:
            return False
        time.sleep(locks.PAUSE)
    return True


def stop(start_dir: Path | None = None) -> bool:
    """End the server of this project, even if others use it; False if none ran.

    Raises BrokerUnavailable if it does not end in ``ENDING`` seconds.
    """
    project = project_folder(start_dir)
    project.pin.unlink(missing_ok=True)
    if not _is_occupied(project):
        return False
    with locks.held_if_free(project.starting_lock):  # so that no process starts one meanwhile
        deadline = clock.monotonic() + ENDING
        while _is_occupied(project):
            if clock.monotonic() > deadline:
                record = project.record()
                raise BrokerUnavailable(
                    "the bundled server does not end",
                    known={"folder": project.folder, "process": record and record.pid},
                    advice=["look at streamq server logs", "kill -9 that process"],
                )
            ping.shut_down(project.socket)
            time.sleep(locks.PAUSE)
    return True


def project_folder(start_dir: Path | None = None) -> ProjectFolder:
    """The project folder of the current or a given folder, whether a server runs or not."""
    return ProjectFolder.nearest(start_dir or Path(working_folder()))


def describe(server: Server) -> dict[str, str]:
    """The reply of the server to ``INFO``."""
    return ping.facts(server.socket)


def _register_user(project: ProjectFolder) -> None:
    """Make this process a user: it holds the users' lock as long as it lives.

    Waits while a keeper holds the lock exclusively, because it is ending the server.  Raises
    BrokerUnavailable after ``PATIENCE`` seconds.
    """
    descriptor = _user_locks.get(project.folder)
    if descriptor is not None and locks.is_same_file(descriptor, project.users_lock):
        return
    descriptor = locks.open_lock(project.users_lock)
    deadline = clock.monotonic() + PATIENCE
    while not locks.lock_shared(descriptor):
        if clock.monotonic() > deadline:
            os.close(descriptor)
            raise BrokerUnavailable(
                "the bundled server is being ended, and does not come to an end",
                known={"folder": project.folder},
                advice=["streamq server stop", "look at streamq server logs"],
            )
        time.sleep(locks.PAUSE / 2)
    os.utime(descriptor)  # the grace period counts from here, also if this process ends at once
    _user_locks[project.folder] = descriptor


def _is_occupied(project: ProjectFolder) -> bool:
    """Whether a server or its keeper lives here, in any state."""
    return locks.is_held(project.server_lock) or locks.is_held(project.keeper_lock)


def _running(project: ProjectFolder) -> Server | None:
    """The server, if its keeper lives and it answers."""
    record = project.record()
    if record is None or record.pid is None or not locks.is_held(project.keeper_lock):
        return None
    path = Path(record.socket)
    if not ping.answers(path):
        return None
    return Server(
        url=f"unix://{quote(os.fsencode(path))}?db=0",
        version=record.version,
        binary=Path(record.binary),
        folder=project.folder,
        socket=path,
        pid=record.pid,
        pinned=project.pin.exists(),
    )


def _launch(project: ProjectFolder, grace: float, program: Path | None) -> None:
    """Start a keeper and wait until its server answers.  Raises BrokerUnavailable if it failed."""
    chosen = _choose_binary(project, program)
    project.shorten_log()
    with project.log.open("a") as log:
        before = log.tell()
        reason = _run_keeper(project, [chosen.path, chosen.version, str(grace)], log.fileno())
    if reason:
        raise BrokerUnavailable(
            f"the bundled server did not start: {reason}",
            known={
                "server": f"{chosen.version} ({chosen.path})",
                "folder": project.folder,
                "log": _last_lines(project.log, before),
            },
            advice=[
                "if the data is another server's, move the folder .streamq away",
                "or use a server that runs already: export STREAMQ_URL=redis://host:6379",
            ],
        )


def _run_keeper(project: ProjectFolder, what: list[str | Path], log: int) -> str:
    """Start a detached keeper; returns why it failed, or an empty text once its server answers."""
    try:
        keeper = subprocess.run(
            [
                sys.executable,
                "-P",
                "-c",
                KEEPER_PROGRAM,
                Path(__file__).parents[2],
                project.folder,
                *what,
            ],
            cwd=project.folder,
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


def _choose_binary(project: ProjectFolder, program: Path | None) -> binary.Binary:
    if program is not None:
        if found := binary.inspect(program):
            return found
        raise NoServer(f"{program} is not a server that streamq can use")
    record = project.record()
    if record is None or not project.has_data():
        return binary.choose()
    return binary.choose(Path(record.binary), record.version)


def _last_lines(log: Path, start: int, lines: int = 8) -> str:
    """The last lines that were written to a log after position ``start``."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return "\n       ".join(text.splitlines()[-lines:])
