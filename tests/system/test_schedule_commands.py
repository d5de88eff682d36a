"""`streamq schedules` and `streamq beat` as people and programs use them."""

import fcntl
import os
import pty
import struct
import termios
from datetime import datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from streamq import App, every
from streamq.producer.schedules import ScheduleSource
from streamq.transport.keys import Keys
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.scheduler import Scheduler
from tests.system.shell import Shell

KEYS = Keys()
FAR = 9e15
BERLIN = 'tz="Europe/Berlin"'
SHOP = f"""
from streamq import App, crontab, every
app = App("shop")

@app.every("30s", name="poll")
def poll(): ...

@app.cron("30 2 * * *", {BERLIN}, name="nightly", queue="slow", catch_up="all")
def clean(days=7): ...

@app.task
def report(kind): ...

app.schedule("weekly", report, crontab(0, 8, "mon", "1-7"), ("all",))
"""


@pytest.fixture
def shop(bare: Shell) -> Shell:
    """A folder whose app declares schedules; no worker has started."""
    (bare.folder / "shop.py").write_text(SHOP)
    bare.env["STREAMQ_APP"] = "shop"
    return bare


@pytest.fixture
def declared(server_url: str, redis: Any):
    """``declared("nightly", …)`` lets the code of a living worker declare these schedules."""
    app = App("shop", url=server_url)
    store = app.schedules.store

    def declared(*names: str, living: bool = True, **rules: Any) -> Scheduler:
        for name in names:
            app.schedule(name, "shop.t", every("24h"), **rules)
        service = Scheduler(
            store, ScheduleSource(app, app.schedules), LeaseView(15.0), order=0
        )  # fmt: skip
        service.begin()
        if living:
            living_worker(redis, " ".join(service.revisions()))
        return service

    yield declared
    app.broker.client.close()


def living_worker(redis: Any, schedules: str = "") -> None:
    redis.zadd(KEYS.workers, {"w@h": FAR})
    redis.hset(KEYS.worker("w@h"), "schedules", schedules)


def listed(shell: Shell) -> dict[str, Any]:
    return {each["name"]: each for each in shell.json("schedules", "ls")}


def in_80_columns(shell: Shell, *words: str) -> list[str]:
    """The lines that a command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = shell.start(*words, stdout=theirs, env={"TERM": "xterm", "NO_COLOR": "1"})
    os.close(theirs)
    said = b""
    while True:
        try:
            said += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert process.wait(timeout=30) == 0
    text = said.decode().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\x1b" not in text
    return text.replace("\r\n", "\n").splitlines()


# Looking


def test_schedules_are_listed_with_words_zone_and_next_moment(shop, redis, declared):
    assert "no schedule yet" in shop.quick("schedules", "ls")
    declared("backup")
    shop.quick("schedules", "add", "clean", "t", "7", "--cron", "0 4 * * *", "--tz", "Europe/Rome")
    shop.quick("schedules", "add", "slow", "t", "--every", "90m")

    found = listed(shop)

    assert list(found) == sorted(found, key=lambda name: found[name]["next"])
    assert {name: each["words"] for name, each in found.items()} == {
        "backup": "Every 1d", "clean": "At 04:00 every day", "slow": "Every 1h30m",
    }  # fmt: skip
    assert {name: (each["source"], each["state"]) for name, each in found.items()} == {
        "backup": ("code", "ok"), "clean": ("api", "ok"), "slow": ("api", "ok"),
    }  # fmt: skip
    assert found["clean"]["declared"]["args"] == "[7]"
    said = shop.quick("schedules", "ls")
    assert "At 04:00 every day (Europe/Rome)  in " in said
    assert said.splitlines()[0].split() == ["schedule", "when", "next", "last", "state"]


def test_each_state_is_said(shop, redis, declared):
    declared("left", living=False)
    for name in ("fine", "late", "quiet", "over", "failing", "damaged"):
        shop.quick("schedules", "add", name, "t", "--every", "24h")
    redis.zadd(KEYS.schedules, {"late": 1000})
    redis.zrem(KEYS.schedules, "over")
    redis.hset(KEYS.schedule("failing"), "failed", 2)
    shop.quick("schedules", "pause", "quiet")
    assert {each["state"] for each in listed(shop).values()} == {"no worker", "paused"}
    living_worker(redis)
    redis.delete(KEYS.schedule("damaged"))
    redis.rpush(KEYS.schedule("damaged"), "x")

    states = {name: each["state"] for name, each in listed(shop).items()}

    assert states == {
        "left": "no worker", "fine": "ok", "late": "late", "quiet": "paused", "failing": "ok",
        "damaged": "damaged",
    }  # fmt: skip
    said = shop.quick("schedules", "ls")
    for words in ("no worker declares it", "ok, 2 could not be sent", "ago", "paused", "damaged"):
        assert words in said
    assert shop.json("schedules", "show", "over")["state"] == "ended"
    assert "holds something that is not streamq's" in shop.quick("schedules", "show", "damaged")
    assert "paused since" in shop.quick("schedules", "show", "quiet")


def test_show_tells_what_is_declared_and_the_last_runs(shop, redis):
    words = ("--every", "24h", "--catch-up", "all", "--deadline", "10m", "--queue", "slow")
    shop.quick("schedules", "add", "clean", "t", "7", "deep=true", *words)
    living_worker(redis)
    for run in ({"outcome": "done", "id": "clean-1", "late_ms": 12, "missed": 3},
                {"outcome": "failed", "error": "NOQUEUE slow"}):  # fmt: skip
        redis.xadd(KEYS.schedule_runs("clean"), {"tick": 86_400_000, **run})

    said = shop.quick("schedules", "show", "clean")
    about = shop.json("schedules", "show", "clean")

    for part in ('[7] {"deep": true}', "10m", '{"queue": "slow"}', "streamq schedules add", "12 ms",
                 "1970-01-02 00:00:00 +0000", "NOQUEUE slow"):  # fmt: skip
        assert part in said
    assert [each["outcome"] for each in about["runs"]] == ["failed", "done"]
    assert about["runs"][1] == {
        "tick": 86_400, "outcome": "done", "late": 0.012, "missed": 3, "id": "clean-1",
        "error": None,
    }  # fmt: skip


NAMES = [
    *("short", "shop.tasks.delete_all_old_reports_of_customers", "n" * 170, "with spaces in it"),
    *("请求报告每天早上八点钟发送给所有的人", "naïve — ☃"),
]


@pytest.mark.parametrize("names", [["short"], NAMES, [f"number-{n:04}" for n in range(1000)]])
def test_what_is_shown_fits_into_80_columns(shop, redis, server_url, names):
    """Four seconds: a thousand are added, and commands start on a terminal."""
    app = App("shop", url=server_url)
    for name in names:
        app.schedules.add(name, "shop.tasks.report", "30 2 * * 1-5", tz="Europe/Berlin")
    app.broker.client.close()
    living_worker(redis)

    lines = in_80_columns(shop, "schedules", "ls")
    lines += in_80_columns(shop, "schedules", "preview", names[0], "-n", "2")
    for name in names[1:6:2]:
        lines += in_80_columns(shop, "schedules", "show", name)

    wide = [line for line in lines if cell_len(line) > 80 and "n" * 170 not in line]
    assert wide == []
    assert all(any(name in line for line in lines) for name in names)


def test_names_as_decorators_give_them_make_a_table_of_80_columns(shop, redis, server_url):
    app = App("shop", url=server_url)
    names = ["shop.tasks.send_newsletter", "orders.tasks.expire_unpaid"]
    for name in names:
        app.schedules.add(name, name, "30 2 * * *", tz="Europe/Berlin")
        redis.hset(KEYS.schedule(name), "last", redis.time()[0] * 1000 - 86_340_000)
    app.broker.client.close()
    living_worker(redis)

    header, *rows = in_80_columns(shop, "schedules", "ls")

    assert header.split() == ["schedule", "when", "next", "last", "state"]
    assert [row.split()[0] for row in rows if row[0] != " "] == sorted(names)
    assert "23 h ago  ok" in rows[0]


# The next moments


def test_a_preview_of_the_app_needs_neither_a_worker_nor_redis(shop):
    shop.env["STREAMQ_URL"] = "redis://127.0.0.1:1/0"
    words = ("schedules", "preview", "nightly", "--from", "2027-03-26T12:00")

    assert shop.json(*words, "-n", "3") == [
        {"utc": "2027-03-27T01:30:00Z", "local": "2027-03-27T02:30:00+01:00"},
        {"utc": "2027-03-28T01:00:00Z", "local": "2027-03-28T03:00:00+02:00"},
        {"utc": "2027-03-29T00:30:00Z", "local": "2027-03-29T02:30:00+02:00"},
    ]
    assert len(shop.json(*words)) == 5
    assert len(shop.json(*words, "-n", "1000")) == 1000
    said = shop.quick(*words, "-n", "1")
    assert said.split("\n")[0].split() == ["Europe/Berlin", "UTC"]
    assert "Sat 2027-03-27 02:30:00 +0100  2027-03-27T01:30:00Z" in said


def test_a_preview_of_what_redis_holds_needs_no_code(bare):
    bare.quick("schedules", "add", "clean", "t", "--cron", "0 4 * * *", "--tz", "Asia/Kathmandu")

    (moment,) = bare.json("schedules", "preview", "clean", "-n", "1")

    local = datetime.fromisoformat(moment["local"])
    assert (local.hour, local.minute, local.utcoffset()) == (4, 0, timedelta(hours=5, minutes=45))
    assert local == datetime.fromisoformat(moment["utc"])


def test_a_preview_imports_the_modules_with_tasks(bare):
    (bare.folder / "shop.py").write_text(
        "from streamq import App\napp = App('shop', include=['more'])\n"
    )
    more = "from shop import app\n@app.every('1h', name='hourly')\ndef f(): ...\n"
    (bare.folder / "more.py").write_text(more)

    moments = bare.json("schedules", "preview", "hourly", "-A", "shop", "--from", "2027-01-01")

    assert moments[0]["utc"] == "2027-01-01T01:00:00Z"


# Changing


def test_run_sends_one_and_moves_nothing(shop, redis):
    shop.quick("schedules", "add", "clean", "t", "7", "--every", "24h")
    before = redis.zrange(KEYS.schedules, 0, -1, withscores=True)

    ids = [
        shop.quick("schedules", "run", "clean").removeprefix("✓ ").strip(),
        shop.json("schedules", "run", "clean")["id"],
        shop.json("schedules", "run", "nightly")["id"],  # which only the code knows
    ]

    streams = ("default", "slow")
    sent = [fields for name in streams for _, fields in redis.xrange(KEYS.queue(name))]
    assert [(fields["id"], fields["task"]) for fields in sent] == [
        (ids[0], "t"), (ids[1], "t"), (ids[2], "shop.clean"),
    ]  # fmt: skip
    assert redis.zrange(KEYS.schedules, 0, -1, withscores=True) == before
    assert "last" not in redis.hgetall(KEYS.schedule("clean"))


def test_pause_and_resume_take_names_or_all(shop, redis):
    for name in ("a", "b b", "c"):
        shop.quick("schedules", "add", name, "t", "--every", "24h")
    living_worker(redis)

    def states() -> list[str]:
        return [each["state"] for _, each in sorted(listed(shop).items())]

    assert shop.quick("schedules", "pause", "a", "b b") == "a is paused\nb b is paused\n"
    assert states() == ["paused", "paused", "ok"]
    assert "no schedule 'd'" in shop.quick("schedules", "pause", "c", "d", code=2)
    assert states() == ["paused", "paused", "ok"], "none is paused if one is not there"
    assert shop.json("schedules", "pause", "--all") == dict.fromkeys(("a", "b b", "c"), "paused")
    assert states() == ["paused"] * 3
    assert shop.quick("schedules", "resume", "a") == "a runs again\n"
    assert states() == ["ok", "paused", "paused"]
    shop.quick("schedules", "resume", "--all")
    assert states() == ["ok"] * 3


def test_what_is_added_replaces_the_one_of_that_name_and_can_be_removed(shop, redis, declared):
    declared("coded")
    said = shop.quick("schedules", "add", "ping", "shop.ping", "-1", "b=2", "--every", "30s")
    assert said == "✓ ping: Every 30s, shop.ping\n"
    about = shop.json("schedules", "add", "ping", "shop.pong", "--cron", "@daily")
    assert (about["task"], about["words"]) == ("shop.pong", "At 00:00 every day")
    past = shop.quick("schedules", "add", "past", "t", "--at", "2020-01-01")
    assert "that is over: it will not run" in past

    assert shop.json("schedules", "rm", "ping") == {"ping": "removed"}
    assert "pause" in shop.quick("schedules", "rm", "coded", "past")
    assert redis.keys("{streamq}:schedule*") == []


# Mistakes

ADD = ("schedules", "add", "x", "t")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("schedules", "show", "nightli"), "did you mean 'nightly'?"),
        (("schedules", "preview", "nightli"), "did you mean 'nightly'?"),
        (("schedules", "run", "nightli"), "did you mean 'nightly'?"),
        (("schedules", "pause", "shop.pingg"), "did you mean 'shop.ping'?"),
        (("schedules", "resume", "ping"), "did you mean 'shop.ping'?"),
        (("schedules", "rm", "nothing"), "streamq schedules ls"),
        (("schedules", "pause"), "name schedules, or --all"),
        (("schedules", "pause", "shop.ping", "--all"), "name schedules, or --all"),
        (("schedules", "resume"), "name schedules, or --all"),
        (("schedules", "rm"), "missing argument 'NAME…'"),
        (("schedules", "preview", "nightly", "-n", "-1"), "1<=x<=1000"),
        (("schedules", "preview", "nightly", "-n", "1001"), "1<=x<=1000"),
        (("schedules", "preview", "nightly", "--from", "soon"), "--from 'soon' is no moment"),
        (("schedules", "preview", "nightly", "--from", "2027-02-30"), "is no moment"),
        (("schedules", "preview", "nightly", "--from", "9999-12-31T23:59"), "years 1970 to 9998"),
        (("schedules", "preview", "nightly", "--from", "0001-01-01"), "years 1970 to 9998"),
        ((*ADD,), "one of --cron, --every, --at"),
        ((*ADD, "--every", "3s", "--cron", "@daily"), "one of --cron, --every, --at"),
        ((*ADD, "--cron", "@daily", "--tz", "Europe/Berln"), "did you mean Europe/Berlin?"),
        ((*ADD, "--cron", "0 0 30 2 *"), "there is no such date"),
        ((*ADD, "--cron", "every day"), "has 2 fields, not 5 or 6"),
        ((*ADD, "--cron", "\x1b[2J"), "has 1 field, not 5 or 6"),
        ((*ADD, "--every", "soon"), "'soon'"),
        ((*ADD, "--every", "-3s"), "'-3s'"),
        ((*ADD, "--every", "1ms"), "too often"),
        ((*ADD, "--at", "2027-02-30"), "at: '2027-02-30' is no moment"),
        ((*ADD, "--at", "9999-12-31T23:59:59-12:00"), "is no moment"),
        ((*ADD, "--at", "0001-01-01", "--tz", "Asia/Tokyo"), "is no moment"),
        ((*ADD, "--every", "3s", "--overlap", "never"), "one of allow, skip, replace"),
        ((*ADD, "--every", "3s", "--catch-up", "two"), "one of one, none, all"),
        ((*ADD, "--every", "3s", "--jitter", "much"), "jitter is not a duration"),
        ((*ADD, "--every", "3s", "--jiter", "3s"), "did you mean --jitter?"),
        ((*ADD, "--every", "3s", "--queue", "a:b"), "queue 'a:b' cannot be used"),
        (("schedules", "add", "n" * 171, "t", "--every", "3s"), "170 bytes at most"),
        (("schedules", "add", "\x1b[2J", "t", "--every", "3s"), r"schedule name '\x1b[2J'"),
        (("schedules", "add", "x", "\x1b[2J", "--every", "3s"), r"task name '\x1b[2J'"),
        (("schedules", "show", "a\x1b[31m\n"), r"no schedule 'a\x1b[31m\n'"),
        (("schedules", "list"), "no such command: list"),
    ],
    ids=lambda words: ascii(" ".join(words[1:])[:40]) if isinstance(words, tuple) else "",
)
def test_a_mistake_is_named_and_leads_on(shop, redis, words, said):
    shop.quick("schedules", "add", "shop.ping", "t", "--every", "24h")
    before = redis.zrange(KEYS.schedules, 0, -1, withscores=True)

    told = shop.quick(*words, code=2)

    assert said in told
    assert "\x1b" not in told
    assert redis.zrange(KEYS.schedules, 0, -1, withscores=True) == before


def test_what_only_the_code_knows_is_said_with_what_to_do(bare, redis, declared):
    declared("backup")
    redis.hset(KEYS.schedule("backup"), "when", "shop.Moon")

    for command in ("run", "preview"):
        said = bare.quick("schedules", command, "backup", code=78)
        assert f"streamq -A MODULE schedules {command} backup" in said


@pytest.mark.parametrize("words", [
    ("ls",), ("show", "x"), ("preview", "x"), ("run", "x"), ("pause", "--all"), ("rm", "x"),
    ("add", "x", "t", "--every", "3s"),
])  # fmt: skip
def test_a_server_that_is_not_there_is_told(bare, words):
    bare.env["STREAMQ_URL"] = "redis://127.0.0.1:1/0"

    assert "cannot reach Redis" in bare.quick("schedules", *words, code=69)


EVIL = "a\x1b[2J\x9b31m\u202eb\u2066c\u200b\x07\x08\rd\u2028e"
DAMAGES = [
    {"when": "every("}, {"when": EVIL, "tz": EVIL, "task": EVIL, "args": EVIL, "options": EVIL},
    {"message": "{{{"}, {"last": EVIL, "last_id": EVIL, "last_late_ms": "-5", "missed": EVIL},
    {"paused": EVIL}, {"source": EVIL}, {"revision": EVIL}, {"tz": "Nowhere"},
    {"last": "9" * 15, "paused": "9" * 15},
]  # fmt: skip


@pytest.mark.parametrize("fields", DAMAGES, ids=lambda fields: " ".join(fields))
def test_what_somebody_wrote_into_a_schedule_breaks_no_command(bare, redis, fields):
    bare.quick("schedules", "add", "good", "t", "--every", "24h")
    bare.quick("schedules", "add", "bad", "t", "--every", "24h")
    redis.hset(KEYS.schedule("bad"), mapping=fields)
    redis.xadd(KEYS.schedule_runs("bad"), {"tick": EVIL, "id": EVIL, "outcome": EVIL})
    redis.zadd(KEYS.schedules, {EVIL: 1000})
    redis.hset(KEYS.schedule(EVIL), "when", EVIL)
    harm = [char for char in EVIL if not char.isprintable()]

    for form in ([], ["--json"]):
        for name in ("bad", EVIL):
            said = bare.quick("schedules", "show", name, *form)
            assert [char for char in harm if char in said] == []
        said = bare.quick("schedules", "ls", *form)
        assert "good" in said
        assert [char for char in harm if char in said] == []
    for words in (("preview", "bad"), ("run", "bad"), ("pause", "bad"), ("resume", "bad"),
                  ("preview", EVIL), ("rm", "bad", EVIL)):  # fmt: skip
        _, said = bare.ended("schedules", *words)
        said += bare.err
        assert [char for char in harm if char in said] == []
    assert listed(bare).keys() == {"good"}


@pytest.mark.parametrize("moment", [1e300, -1e300, 9e15, -5, float("-inf")])
def test_moments_that_no_calendar_has_are_shown_too(bare, redis, moment):
    bare.quick("schedules", "add", "odd", "t", "--every", "24h")
    redis.zadd(KEYS.schedules, {"odd": moment})

    assert bare.quick("schedules", "ls").startswith("schedule")
    assert bare.quick("schedules", "show", "odd").startswith("odd")
    assert listed(bare)["odd"]["words"] == "Every 1d"


@pytest.mark.parametrize("key", [KEYS.schedule("x"), KEYS.schedule_runs("x"), KEYS.schedules])
def test_a_key_of_another_type_is_named(bare, redis, key):
    bare.quick("schedules", "add", "good", "t", "--every", "24h")
    bare.quick("schedules", "add", "x", "t", "--every", "24h")
    redis.delete(key)
    redis.set(key, 1)

    commands = [("show", "x"), ("ls",), ("preview", "x"), ("run", "x"), ("pause", "x")]
    commands += [("add", "x", "t", "--every", "3s")]
    said = [bare.ended("schedules", *words)[1] + bare.err for words in commands]

    if key != KEYS.schedules:
        assert "good" in said[1]
    assert key in said[0]
    if key != KEYS.schedule_runs("x"):
        assert [key in text for text in said[2:]] == [True] * 4
    if key == KEYS.schedule("x"):
        assert bare.quick("schedules", "rm", "x") == "x is removed\n"
        assert not redis.exists(key)


# Processes that fire

FAST = """
@app.every("200ms", name="often")
def poll():
    note(streamq.current_task().request.id)
"""


@pytest.mark.parametrize("words", [["beat"], ["celery", "-A", "tasks", "beat", "-l", "info"]])
def test_beat_fires_and_runs_no_task(site, words):
    site.write(FAST)
    shell = Shell(site.folder, site.server.url)
    shell.env["STREAMQ_APP"] = "tasks"
    process = shell.start(*words)
    try:
        site.until(lambda: site.redis.xlen("{streamq}:queue:default") >= 2)
        (state,) = shell.json("workers", "ls")
        about = shell.quick("workers", "show", state["node"])
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "every worker fires schedules; this process does only that" in said
    assert "queues  none: only schedules are fired here" in said
    assert "firing  often" in said
    assert "pool" not in said
    assert "\n  tasks " not in said
    assert "schedules  it fires 1" in about
    assert site.notes() == []


def test_beat_says_that_a_broker_is_in_vain(bare):
    (bare.folder / "tasks.py").write_text(
        "from streamq import App\napp = App('a', url='redis://127.0.0.1:1/0')\n"
    )

    assert "-b is in vain" in bare("beat", "-b", "redis://127.0.0.1:2/0", code=2)
    assert "log_level" in bare("beat", "-l", "loud", code=2)


def test_a_worker_takes_beat_s_flag_and_one_without_a_scheduler_fires_nothing(site):
    """Three seconds: nothing is awaited for one of them, and two workers start."""
    site.write(FAST)
    quiet = site.worker("-c", 1, "--no-scheduler")
    worker = site.worker("-c", 1, "-B", "-n", "firing@%h")
    site.until(lambda: len(site.notes()) >= 3)
    assert worker.stop() == 0
    assert "-B/--beat: not needed: every worker fires schedules" in worker.said
    assert "firing  often" in worker.said

    site.until(site.is_empty)
    before = site.redis.zscore(KEYS.schedules, "often")
    site.until(lambda: site.redis.time()[0] * 1000 > before + 1000)  # several moments have passed

    assert site.redis.zscore(KEYS.schedules, "often") == before
    assert len(site.notes()) == len(set(site.notes()))
    assert "firing" not in quiet.said


def test_a_worker_logs_what_is_damaged_and_fires_the_others(site):
    site.write(FAST)
    producer = site.app
    producer.schedules.add("damaged", "t", every("24h"))
    site.redis.hset(KEYS.schedule("damaged"), "message", "{{{")
    producer.schedules.add("spoilt", "t", every("24h"))
    site.redis.delete(KEYS.schedule("spoilt"))
    site.redis.set(KEYS.schedule("spoilt"), 1)

    worker = site.worker("-c", 1)
    site.until(lambda: len(site.notes()) >= 2)
    worker.stop()

    assert "schedule damaged cannot be fired: JSON is malformed" in worker.said
    assert "schedule spoilt cannot be fired: {streamq}:schedule:spoilt holds" in worker.said
    assert "Traceback" not in worker.said


@pytest.mark.parametrize("command", ["show", "pause", "rm"])
def test_what_no_worker_has_declared_yet_is_named_so(shop, command):
    said = shop.quick("schedules", command, "nightly", code=2)

    assert "no worker has declared schedule 'nightly' yet" in said
