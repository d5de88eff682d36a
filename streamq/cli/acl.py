"""``streamq acl``: prints the rights of a producer, worker or monitor as a line for redis-cli."""

from collections.abc import Sequence
from typing import IO

import click

from streamq.acl.roles import NEWER, PLACEHOLDER, RIGHTS, ROLES, newer_commands, rule
from streamq.app import App
from streamq.cli.command import Command, GivenOptions
from streamq.cli.shared import app_if_any, say, usage_errors, warn
from streamq.core.text import nearest
from streamq.errors import BrokerUnavailable, ConfigError
from streamq.routing import check_name
from streamq.transport.address import address_of
from streamq.transport.client import Client
from streamq.transport.keys import Keys

#: Seconds to wait for the server, which is only asked for the commands it knows.
PATIENCE = 1.0


def rights_in(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> list[str]:
    """The callback of ``--may``: names of rights, separated by commas or in several options."""
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    for name in names:
        if name not in RIGHTS:
            near = nearest(name, RIGHTS)
            meant = f": did you mean {near}?" if near else ""
            raise click.UsageError(
                f"there is no right {name!r}{meant} A producer may be given {', '.join(RIGHTS)}",
                ctx,
            )
    return names


@click.command(cls=Command)
@click.argument("role", type=click.Choice(list(ROLES)), metavar="ROLE")
@click.option(
    "--may",
    multiple=True,
    callback=rights_in,
    metavar=",".join(RIGHTS),
    help="Additional rights of a producer; none by default.",
)
@click.option("--user", metavar="NAME", help="Its name; else streamq-ROLE.")
@click.option("--namespace", metavar="NAME", help="Else that of the app.")
@click.option("--db", type=click.IntRange(0), metavar="N", help="Its database; else the URL's.")
@click.option(
    "--password-file",
    type=click.File(),
    metavar="FILE",
    help="Its password, of which only the hash is printed; - is standard input.",
)
@click.pass_obj
def acl(
    given: GivenOptions,
    role: str,
    may: list[str],
    user: str | None,
    namespace: str | None,
    db: int | None,
    password_file: IO[str] | None,
) -> None:
    """Print the line that makes a Redis user of this ROLE: producer, worker or monitor.

    It gives exactly the rights that the role needs, and takes all others.

    \b
    streamq acl worker --password-file secret | redis-cli -u redis://admin:…@host
    streamq acl producer --may revoke,declare | redis-cli …
    """
    if may and role != "producer":
        raise click.UsageError(
            "--may is for producers: workers have these rights, and monitors have not"
        )
    app = app_if_any(given)
    with usage_errors():
        named = None if namespace is None else check_name(namespace, "--namespace:")
        password = None if password_file is None else password_in(password_file)
    keys = Keys(named or app.conf.namespace)
    chosen = ROLES[role]
    newer = known_commands(app)
    with usage_errors():
        line = rule(
            chosen.needs.union(*(RIGHTS[right].needs for right in may)),
            keys,
            user=f"streamq-{role}" if user is None else user,
            password=password,
            channels=chosen.channels,
            newer=newer,
            db=database_of(app) if db is None else db,
        )
    warn(f"a {role} {chosen.about}")
    for right in may:
        warn(f"this one may also {RIGHTS[right].may}")
    if password is None:
        warn(f"replace {PLACEHOLDER} by a password, or use --password-file FILE")
    warn("give the line to redis-cli; ACL SAVE or CONFIG REWRITE keeps it over a restart")
    say(line)


def database_of(app: App) -> int:
    """The number of the database in the app's URL; 0 without one."""
    return 0 if app.conf.url is None else int(address_of(app.conf.url).options.get("db") or 0)


def password_in(file: IO[str]) -> str:
    """The first line of a file.  Raises ConfigError if it is empty."""
    password = file.readline().rstrip("\r\n")
    if not password:
        raise ConfigError(f"there is no password in {file.name}")
    return password


def known_commands(app: App) -> frozenset[str]:
    """The newer commands that the app's server knows; none if it cannot be reached."""
    if app.conf.url is None:  # the bundled server is not started for this
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
