"""``streamq server``: starts, shows and stops the bundled server of this project."""

from collections import deque
from datetime import timedelta
from typing import Any

import click

import streamq.devserver.server
from streamq.cli.command import Command, Group
from streamq.cli.shared import COUNT, print_json, print_path, say
from streamq.devserver.server import Server


@click.group(cls=Group)
def server() -> None:
    """The bundled server of this project (development only)."""
    streamq.devserver.server.project_folder().check_owner()


@server.command(cls=Command)
def start() -> None:
    """Start it, and let it run until `streamq server stop`."""
    running = streamq.devserver.server.start()
    say(running.banner, lines=True)
    say(f"  socket  {running.socket}")
    say("  it runs until: streamq server stop")


@server.command(cls=Command)
@click.option("--yes", is_flag=True, help="Do not ask, even if programs are connected.")
def stop(yes: bool) -> None:
    """End it.  The data stays."""
    running = streamq.devserver.server.find()
    clients = count_clients(streamq.devserver.server.describe(running)) if running else 0
    if clients and not yes:
        noun = "connection" if clients == 1 else "connections"
        click.confirm(f"{clients} {noun} would be cut off. End the server?", abort=True)
    ended = streamq.devserver.server.stop()
    say(
        "ended; the data stays in " + str(streamq.devserver.server.project_folder().folder)
        if ended
        else not_running()
    )


@server.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show whether it runs, and where."""
    running = streamq.devserver.server.find()
    if as_json:
        print_json(state(running))
        return
    if running is None:
        say(not_running())
        return
    say(running.banner, lines=True)
    for name, value in state(running).items():
        if name not in ("running", "version", "folder"):
            say(f"  {name:<7}  {readable(name, value)}")


@server.command(cls=Command)
def path() -> None:
    """Print its socket, as in: redis-cli -s "$(streamq server path)"."""
    print_path(streamq.devserver.server.project_folder().socket)


@server.command(cls=Command)
@click.option(
    "-n", "--lines", type=COUNT, default=50, show_default=True, help="How many, from the end."
)
def logs(lines: int) -> None:
    """Print what it logged last."""
    log = streamq.devserver.server.project_folder().log
    if not log.exists():
        say("no server was ever started here")
        return
    with log.open(errors="replace") as file:
        for line in deque(file, maxlen=lines):
            say(line.rstrip("\n"))


def state(running: Server | None) -> dict[str, Any]:
    """The data that ``status`` shows."""
    if running is None:
        project = streamq.devserver.server.project_folder()
        return {"running": False, "folder": str(project.folder), "pinned": project.pin.exists()}
    facts = streamq.devserver.server.describe(running)
    return {
        "running": True,
        "version": running.version,
        "folder": str(running.folder),
        "url": running.url,
        "socket": str(running.socket),
        "binary": str(running.binary),
        "pid": running.pid,
        "uptime": int(facts.get("uptime_in_seconds", 0)),
        "pinned": running.pinned,
        "clients": count_clients(facts),
        "memory": int(facts.get("used_memory", 0)),
    }


def count_clients(facts: dict[str, str]) -> int:
    """The number of connections besides the one that asks."""
    return max(int(facts.get("connected_clients", 1)) - 1, 0)


def not_running() -> str:
    folder = streamq.devserver.server.project_folder().folder
    return f"no server runs in {folder}; it starts when a process needs it"


def readable(name: str, value: Any) -> str:
    match name:
        case "uptime":
            return str(timedelta(seconds=value))
        case "memory":
            return f"{value / 1e6:.1f} MB"
        case "pinned":
            return "yes, until: streamq server stop" if value else "no, it ends with its last user"
        case _:
            return str(value)
