"""A PostgreSQL for tests: a cluster in a folder, that only a unix socket leads to."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import die_with_parent, until

#: Where Debian has the programs of its versions.
DEBIAN = "/usr/lib/postgresql"


def program(name: str) -> str | None:
    """The path of a program of PostgreSQL; None if it is not installed."""
    found = sorted(Path(DEBIAN).glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


class Postgres:
    """A server with one user, ``streamq``, who needs no password."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self.folder = folder
        #: The user it runs as: it refuses to run as root.
        self.user = user
        self.process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make the cluster."""
        initdb, folder = program("initdb"), str(self.folder / "data")
        assert initdb is not None
        words = [initdb, "-D", folder, "-U", "streamq", "--auth=trust", "--no-sync"]
        subprocess.run(words, check=True, user=self.user, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        postgres = program("postgres")
        assert postgres is not None
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [postgres, "-D", str(self.folder / "data"), *options],
                user=self.user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        until(self.answers, "PostgreSQL answers", seconds=30)

    def answers(self) -> bool:
        """Whether it answers."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        import psycopg

        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def ask(self, question: str) -> Any:
        """The first value of the answer to a question."""
        import psycopg

        address = {"host": str(self.folder), "user": "streamq", "dbname": "postgres"}
        with psycopg.connect(**address, autocommit=True) as connection:
            cursor = connection.execute(question)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def connections(self, database: str) -> int:
        """The number of connections to a database."""
        asked = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
        return int(self.ask(asked))

    def stop(self) -> None:
        """Stop it: connections are closed at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=20)
            self.process = None

    def restart(self) -> None:
        """Stop it, and start it again."""
        self.stop()
        self.start()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that has just been made, for a ``with`` block."""
    with tempfile.TemporaryDirectory(prefix="streamq-pg-", ignore_cleanup_errors=True) as name:
        user = "postgres" if os.geteuid() == 0 else None
        if user is not None:
            os.chown(name, pwd.getpwnam(user).pw_uid, -1)
        server = Postgres(Path(name), user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
