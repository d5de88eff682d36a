"""What the users of `streamq acl` can do by hand, tried as an attacker would: each cell of the
table in docs/deploying.md."""

import re
import secrets
from pathlib import Path
from typing import NamedTuple

import pytest
import redis as redis_py

from streamq import App, Queue
from streamq.acl.roles import RIGHTS, ROLES, newer_commands, rule
from streamq.broker.scheduled import ScheduledMessages
from streamq.transport.client import Client
from streamq.transport.keys import Keys

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploying.md"
USERS = ("producer", *RIGHTS, "worker", "monitor")
#: What only people do, or what the table says of a letter that people put back.
NOT_TRIED = {"–", "found, when it is put back"}


class Row(NamedTuple):
    """One line of the table."""

    what: str
    command: str
    may: dict[str, str]
    signed: str


def table() -> list[Row]:
    """The table of what each role may do by hand."""
    section = PAGE.read_text().split("### What each may do by hand")[1].split("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    head, _, *rows = [[cell.strip() for cell in cells] for cells in lines]
    assert head == ["what", "by hand", *USERS, "signed"]
    return [
        Row(what, command.strip("`"), dict(zip(USERS, cells, strict=True)), signed)
        for what, command, *cells, signed in rows
    ]


def words_of(command: str, root: str, id: str) -> list[str]:
    """A command of the table for this namespace and task."""
    return [re.sub(r"\bID\b", id, word.replace("{streamq}", root)) for word in command.split(" ")]


@pytest.fixture
def client_of(redis, server_url):
    """``client_of(user, keys)`` is a plain client of a user that the table names."""
    made = []

    def make(user, keys):
        role, may = (user, ()) if user in ROLES else ("producer", (user,))
        needs = ROLES[role].needs.union(*(RIGHTS[right].needs for right in may))
        name = f"hand-{secrets.token_hex(4)}"
        line = rule(
            needs,
            keys,
            user=name,
            password="secret",
            channels=ROLES[role].channels,
            newer=newer_commands(Client(server_url, name="test")),
        )
        redis.execute_command(*line.split(" "))
        url = f"{server_url}?username={name}&password=secret"
        made.append((name, redis_py.Redis.from_url(url, protocol=2)))
        return made[-1][1]

    yield make
    for name, client in made:
        client.close()
        redis.acl_deluser(name)


@pytest.mark.parametrize("user", USERS)
def test_the_table_says_what_each_user_may_do_by_hand(user, client_of, redis):
    keys = Keys(f"t{secrets.token_hex(4)}")
    client = client_of(user, keys)
    wrong = []

    for row in table():
        redis.flushall()
        redis.xadd(keys.queue("mail"), {"task": "t"}, id="1-1")
        redis.hset(keys.later("x"), "args", "[1]")
        redis.hset(keys.task("x"), "state", "QUEUED")
        before = contents(redis)
        assert row.may[user] in ("yes", "no"), row
        words = words_of(row.command, keys.root, "x")
        try:
            client.execute_command(*words)
            may = "yes"
        except redis_py.exceptions.NoPermissionError:
            may = "no"
            assert contents(redis) == before
        if may != row.may[user]:
            wrong.append((row.what, words, may))

    assert wrong == []


def contents(redis):
    return {key: redis.dump(key) for key in redis.keys("*")}


def test_the_table_has_a_row_for_each_right_and_each_harm_that_stays():
    rows = table()

    for right in RIGHTS:
        assert any(row.may[right] == "yes" and row.may["producer"] == "no" for row in rows)
    assert all(row.may["worker"] == "yes" for row in rows if row.may["producer"] == "yes")
    tried = {row.command for row in rows if row.may["producer"] == "yes"}
    assert {
        command for command in tried if "MAXLEN 0" in command or "18446744073709551615" in command
    }


@pytest.mark.parametrize(
    "row", [row for row in table() if row.signed not in NOT_TRIED], ids=lambda row: row.what
)
def test_what_signing_finds_out_is_what_the_table_says(row, make_app, drain, redis):
    """A genuine message waits, another is scheduled; the command is run, then a worker works."""
    conf = {"signing": "required", "signing_keys": f"k1:{'s' * 32}"}
    app = make_app(**conf)
    ran = with_task(app)
    app.enqueue(app.signature("tasks.send", ([1],), queue="mail"))
    later = app.enqueue(app.signature("tasks.send", ([1],), queue="mail", countdown=3600))
    words = words_of(row.command, app.broker.keys.root, later.id)

    redis.execute_command(*words)
    redis.zadd(app.broker.keys.scheduled, {later.id: 1}, xx=True)
    scheduled = ScheduledMessages(
        app.broker.client, app.broker.keys, result_expires=60, dead=(100, 60_000)
    )
    scheduled.promote()
    drain(app)

    letters = redis.zrange(app.broker.keys.dead("mail"), 0, -1)
    reasons = {
        redis.hget(app.broker.keys.dead_letter("mail", name), "dead_reason") for name in letters
    }
    assert reasons == ({"signature"} if row.signed.startswith("found") else set())
    assert all(args == [1] for args in ran)


def with_task(app: App) -> list[list[int]]:
    """Declare the queue and the task of the table; what the task is given comes into the list."""
    ran: list[list[int]] = []
    app.add_queue(Queue("mail"))

    @app.task(name="tasks.send")
    def send(numbers: list[int]) -> None:
        ran.append(numbers)

    app.declare()
    return ran
