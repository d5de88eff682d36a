"""Workers and producers as users with no more rights than they need."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from streamq import App
from streamq.acl.roles import NEWER
from streamq.errors import Revoked

#: What a server that does not know a command notes when a client tries it.
UNKNOWN_ON_7_0 = {name.lower() for name in NEWER}

TASKS = """
app.queues = [Queue("default"), Queue("mail", Exchange("events", type="topic"), routing_key="#")]

@app.task
def add(x, y):
    return x + y

@app.task
def fail():
    raise ValueError("not today")

@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)

@app.task(bind=True, default_retry_delay=0.05)
def again(self):
    if not self.request.retries:
        raise self.retry()
    return self.request.retries

@app.task(time_limit=30)
def hold():
    note("held")
    time.sleep(20)

@app.task
def relay():
    return add.enqueue(20, 22).get(timeout=20, allow_join=True)
"""


def streamq(site: Any, *words: str, code: int = 0, url: str = "", **given: Any) -> Any:
    """Run a command; what it printed."""
    env = {**site.env, **({"STREAMQ_URL": url} if url else {})}
    command = [sys.executable, "-m", "streamq", *words]
    ran = subprocess.run(
        command, cwd=site.folder, env=env, capture_output=True, text=True, timeout=30, **given
    )
    assert ran.returncode == code, f"{ran.returncode}: {ran.stdout}{ran.stderr}"
    assert "Traceback" not in ran.stderr
    return ran


@pytest.fixture
def make_user(site: Any) -> Callable[..., str]:
    """``make_user(role, …)`` runs what ``streamq acl`` prints; answers the URL of that user."""

    def make(role: str, *options: str, lacking: str = "") -> str:
        words = ("acl", role, *options, "--password-file", "-")
        line = streamq(site, *words, input="s3cret\n").stdout
        assert lacking in line
        site.redis.execute_command(*line.replace(lacking, "").split())
        return f"{site.server.url}?username=streamq-{role}&password=s3cret"

    return make


def refusals(site: Any) -> set[tuple[str, str]]:
    """What a user was refused, as the server noted it."""
    noted = {(entry["username"], entry["object"]) for entry in site.redis.acl_log()}
    return {each for each in noted if each[1] not in UNKNOWN_ON_7_0}


def revokes_in_every_state(site: Any, app: App) -> None:
    """Of tasks that wait, run, or are unknown; the first one that runs is terminated."""
    held, later = site.send("hold"), site.send("add", 1, 2, countdown=60)
    nobody, gone = app.result("nobody-s"), site.send("add", 1, 2, expires=-1)
    site.until(lambda: "held" in site.notes())
    for result in (held, later, nobody):
        result.revoke(terminate=True)
    for result in (held, later, gone):
        with pytest.raises(Revoked):
            result.get(timeout=20)
    site.redis.delete("{streamq}:revoked")


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_workers_and_producers_need_no_more_than_their_roles_have(site, make_user, pool):
    site.write(TASKS)
    producer = make_user("producer", "--may", "revoke")
    site.env["STREAMQ_URL"] = make_user("worker")
    worker = site.worker("-c", 2, "-P", pool, "-Q", "default,mail")
    app = site.app = App("producer", url=producer)
    site.apps.append(app)

    assert site.send("add", 1, 2).get(timeout=20) == 3
    assert site.send("add", 1, 2, acks_late=False).get(timeout=20) == 3
    assert site.send("add", 1, 2, exchange="events", routing_key="a.b").get(timeout=20) == 3
    assert sum(r.get(timeout=20) for r in app.enqueue_many(
        app.signature("tasks.add", (n, 1)) for n in range(500)
    )) == 125_250  # fmt: skip
    assert site.send("relay").get(timeout=20) == 42
    assert streamq(site, "enqueue", "tasks.add", "1", "2", "--wait", url=producer).stdout
    for task in ("fail", "die"):
        with pytest.raises(Exception, match=r"not today|was killed"):
            site.send(task, max_deliveries=1).get(timeout=20)
    assert site.send("again", countdown=0.05).get(timeout=20) == 1
    revokes_in_every_state(site, app)
    site.send("nope")
    site.until(lambda: site.redis.zcard("{streamq}:dead:default") == 2, "two are dead letters")

    assert worker.stop() == 0
    site.at_rest()
    assert refusals(site) == set()


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["enqueue", "tasks.add", "1", "2", "--queue", "new"], "declare"),
        (["exchanges", "bind", "events", "mail", "a.#", "--type", "topic"], "declare"),
        (["revoke", "some-task", "--terminate"], "revoke"),
    ],
)
def test_a_command_that_takes_a_right_names_it_and_does_nothing(site, make_user, words, right):
    site.write(TASKS)
    url = make_user("producer")

    said = streamq(site, *words, code=78, url=url).stderr

    assert f"streamq acl producer --may {right}  prints the line" in said
    assert "NOPERM" not in said
    assert [key for key in site.redis.keys("*") if ":publisher:" not in key] == []
    assert refusals(site) == set()


def test_a_worker_that_lacks_a_right_does_not_start(site, make_user):
    site.write(TASKS)
    url = make_user("worker", lacking="+xdel ")

    said = streamq(site, "worker", "-A", "tasks", code=78, url=url).stderr

    assert "lacks rights; nothing was started" in said
    assert "XDEL {streamq}:queue:default" in said
    assert "streamq acl worker" in said
    assert site.redis.keys("*") == []


def test_a_worker_without_that_look_leaves_its_settlements_half_done(site, make_user):
    site.write(TASKS)
    site.changed_package("check_rights.lua", "return denied\n", "return {}\n")
    site.env["STREAMQ_URL"] = make_user("worker", lacking="+xdel ")
    site.worker("-c", 1)

    result = site.send("add", 1, 2)

    assert result.get(timeout=20) == 3
    assert site.held() == 1
    assert ("streamq-worker", "xdel") in refusals(site)


def test_a_monitor_sees_numbers_and_no_contents(site, make_user):
    site.write(TASKS)
    site.worker("-c", 1)
    site.send("add", "s3cret argument", 1, queue="other")
    url = make_user("monitor")
    printed = []

    for words in (
        ["queues", "ls"], ["queues", "show", "default"], ["workers", "ls"], ["doctor"],
        ["queues", "ls", "--json"], ["workers", "ls", "--json"], ["doctor", "--json"],
    ):  # fmt: skip
        printed.append(streamq(site, *words, url=url).stdout)
    for words in (["queues", "peek", "default"], ["dead", "ls", "default"]):
        printed.append(streamq(site, *words, code=78, url=url).stderr)
        assert "does not permit" in printed[-1]

    assert "s3cret" not in "".join(printed)
    assert "worker@" in printed[2]


def test_a_monitor_is_told_what_it_does_not_see(site, make_user):
    site.write(
        """
        @app.task
        def hold(word):
            while not (HERE / "go").exists():
                time.sleep(0.01)
        """
    )
    site.worker("-c", 1)
    result = site.send("hold", "s3cret argument")
    site.until(lambda: site.pending() == 1, "it runs")

    ran = streamq(site, "workers", "show", worker_of(site), url=make_user("monitor"))

    assert "may not read messages" in ran.stderr
    assert result.id not in ran.stdout
    assert "default" in ran.stdout
    (site.folder / "go").touch()
    assert result.get(timeout=20) is None


def worker_of(site: Any) -> str:
    return str(site.redis.zrange("{streamq}:workers", 0, -1)[0])


def test_the_rules_are_for_redis_7_0_where_no_server_answers(site):
    ran = streamq(site, "acl", "producer", url=f"unix://{site.folder}/nobody")

    assert "the line is for Redis 7.0, without client setinfo" in ran.stderr
    assert "setinfo" not in ran.stdout
    assert ran.stdout.startswith("ACL SETUSER streamq-producer reset on >PASSWORD ")
    assert "replace PASSWORD by a password" in ran.stderr


def test_the_rules_take_their_names_from_the_command_line(site):
    said = streamq(site, "acl", "monitor", "--user", "eye", "--namespace", "shop").stdout

    assert said.startswith("ACL SETUSER eye reset on >PASSWORD ")
    assert "{shop}:queue:*" in said
    assert "{streamq}" not in said


def test_an_empty_password_makes_no_rule(site):
    said = streamq(site, "acl", "worker", "--password-file", "-", code=2, input="\n").stderr

    assert "no password" in said
