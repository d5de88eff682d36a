"""``streamq acl``: the rights of producers, workers and monitors, as a line for redis-cli."""

from typing import IO

import click

from streamq.app import App
from streamq.cli.base import Command, Given
from streamq.cli.common import app_if_any, typed, warn
from streamq.errors import BrokerUnavailable, ConfigError
from streamq.routing import check_name
from streamq.store.client import Client
from streamq.store.keys import Keys
from streamq.store.roles import NEWER, PLACEHOLDER, ROLES, newer_commands, rule

#: Seconds to wait for a server that is only asked which commands it knows.
PATIENCE = 1.0


@click.command(cls=Command)
@click.argument("role", type=click.Choice(list(ROLES)), metavar="ROLE")
@click.option("--user", metavar="NAME", help="Its name; else streamq-ROLE.")
@click.option("--namespace", metavar="NAME", help="Else that of the app.")
@click.option(
    "--password-file",
    type=click.File(),
    metavar="FILE",
    help="Its password, of which only the hash is printed; - is standard input.",
)
@click.pass_obj
def acl(
    given: Given,
    role: str,
    user: str | None,
    namespace: str | None,
    password_file: IO[str] | None,
) -> None:
    """Print the line that makes a Redis user of this ROLE: producer, worker or monitor.

    It gives exactly the rights that the role needs, and takes all others.

    \b
    streamq acl worker --password-file secret | redis-cli -u redis://admin:…@host
    """
    app = app_if_any(given)
    with typed():
        named = None if namespace is None else check_name(namespace, "--namespace:")
        password = None if password_file is None else password_in(password_file)
    keys = Keys(named or app.conf.namespace)
    chosen = ROLES[role]
    newer = known_commands(app)
    with typed():
        line = rule(
            chosen.needs,
            keys,
            user=f"streamq-{role}" if user is None else user,
            password=password,
            channels=chosen.channels,
            newer=newer,
        )
    warn(f"a {role} {chosen.about}")
    if password is None:
        warn(f"put a password in the place of {PLACEHOLDER}, or say --password-file FILE")
    warn("give the line to redis-cli; ACL SAVE or CONFIG REWRITE keeps it over a restart")
    click.echo(line)


def password_in(file: IO[str]) -> str:
    """The first line of a file.  Raises ConfigError if it is empty."""
    password = file.readline().rstrip("\r\n")
    if not password:
        raise ConfigError(f"there is no password in {file.name}")
    return password


def known_commands(app: App) -> frozenset[str]:
    """Which of the newer commands the app's server knows; none where there is no server."""
    if app.conf.url is None:  # no server is started for a question
        return frozenset()
    client = Client(app.conf.url, name="streamq", patience=PATIENCE)
    try:
        return newer_commands(client)
    except BrokerUnavailable as error:
        newer = ", ".join(sorted(NEWER)).lower().replace("|", " ")
        warn(f"{str(error).partition(chr(10))[0]}; the line is for Redis 7.0, without {newer}")
        return frozenset()
    finally:
        client.close()
