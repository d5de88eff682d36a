"""The rights of each role: enough for what it does, and for nothing else."""

import asyncio
import re
import secrets
import shlex
import threading

import pytest
import redis as redis_py
from click.testing import CliRunner

from streamq import Binding, Exchange, Queue, QueueFull, Reject, TaskError, Unroutable
from streamq.acl.footprint import Access
from streamq.acl.rights import missing_rights, permitted
from streamq.acl.roles import NEWER, RIGHTS, ROLES, newer_commands, rule
from streamq.admin.inspector import Inspector
from streamq.cli.main import main
from streamq.errors import BrokerUnavailable, ConfigError, PartlyPublished
from streamq.transport.client import Client
from streamq.transport.keys import Keys
from streamq.transport.replies import Denied, LoginRefused

#: What a server that does not know a command notes when a client tries it.
UNKNOWN_ON_7_0 = {name.lower() for name in NEWER}


def words_of(line):
    """A line for redis-cli as the words that it sends."""
    return line.split(" ")


@pytest.fixture
def keys():
    """Keys of a namespace whose name would be a pattern if nobody took care."""
    return Keys(f"t[{secrets.token_hex(4)}*")


@pytest.fixture
def make_user(redis, server_url, keys):
    """``make_user(role)`` makes a user with a role's rights, or others; answers its URL."""
    made = []

    def make(role, needs=None, may=()):
        name, chosen = f"{role}-{len(made)}", ROLES[role]
        needs = chosen.needs if needs is None else needs
        line = rule(
            needs.union(*(RIGHTS[right].needs for right in may)),
            keys,
            user=name,
            password="secret",
            channels=chosen.channels,
            newer=newer_commands(Client(server_url, name="test")),
        )
        redis.execute_command(*words_of(line))
        made.append(name)
        return f"{server_url}?username={name}&password=secret"

    redis.acl_log_reset()
    yield make
    for name in made:
        redis.acl_deluser(name)


@pytest.fixture
def refusals(redis):
    """``refusals()`` lists what a user was refused, as the server noted it."""

    def listed():
        noted = {(entry["username"], entry["object"]) for entry in redis.acl_log()}
        return {each for each in noted if each[1] not in UNKNOWN_ON_7_0}

    return listed


# Enough: what each role does, done as that user.  A new feature gets a function here.


def runs_late_and_early(send):
    assert send("add", 1, 2).get(timeout=10) == 3
    assert send("add", 1, 2, acks_late=False).get(timeout=10) == 3


def sends_many(send, app):
    results = app.enqueue_many(app.signature("tasks.add", (n, n)) for n in range(300))

    assert sum(result.get(timeout=10) for result in results) == 89700


def fails(send):
    with pytest.raises((ValueError, TaskError), match="not today"):
        send("fail").get(timeout=10)


def dead_letters(send, app, redis, eventually):
    send("reject")
    dead = app.broker.keys.dead("default")

    assert eventually(lambda: redis.zcard(dead)) == 1


def hands_back_what_is_rejected(send, app, redis, eventually):
    send("hand_back")

    assert eventually(lambda: redis.zcard(app.broker.keys.scheduled) == 1)


def tells_its_progress(send, seen, eventually):
    result = send("tell")

    assert eventually(lambda: result.state == "HALF")
    seen.set()
    assert result.get(timeout=10) is None


def stores_nothing(send, streams, worker_app, eventually):
    send("add", 1, 2, ignore_result=True)

    eventually(lambda: not streams(worker_app))


def goes_through_exchanges(send, app):
    copies = send("add", 2, 3, exchange="events", routing_key="user.created").get(timeout=10)

    assert copies == {"audit": 5, "mail": 5}


def keeps_to_priorities_and_limits(send):
    assert send("add", 1, 1, queue="ranked", priority=7).get(timeout=10) == 2


def is_accepted_once(send):
    first, again = (send("add", 1, 2, task_id="chosen") for _ in range(2))

    assert first.get(timeout=10) == again.get(timeout=10) == 3


def sends_from_a_task(send):
    assert send("relay").get(timeout=10) == 7


def is_waited_for_before_it_is_sent(send, app, redis, eventually):
    waiting, answer = app.result("chosen"), []
    thread = threading.Thread(target=lambda: answer.append(waiting.get(timeout=10)))
    thread.start()
    assert eventually(lambda: redis.exists(app.broker.keys.early_waiters("chosen")))

    send("add", 1, 2, task_id="chosen")
    thread.join(10)

    assert answer == [3]


def is_told_that_nothing_leads_there(send):
    with pytest.raises(Unroutable):
        send("add", 1, 2, exchange="events", routing_key="nowhere")


def sends_from_asyncio(app):
    async def ask():
        result = await app.aenqueue(app.signature("tasks.add", (20, 22)))
        try:
            return await result.aget(timeout=10)
        finally:
            await app.aclose()

    assert asyncio.run(ask()) == 42


CORE = [
    runs_late_and_early,
    sends_many,
    fails,
    dead_letters,
    hands_back_what_is_rejected,
    tells_its_progress,
    stores_nothing,
    goes_through_exchanges,
    keeps_to_priorities_and_limits,
    is_accepted_once,
    sends_from_a_task,
    is_waited_for_before_it_is_sent,
    is_told_that_nothing_leads_there,
    sends_from_asyncio,
]


def site_of(make_app, worker_url, keys, seen):
    """A worker's app with queues, exchanges and tasks."""
    app = make_app(url=worker_url, namespace=keys.namespace)
    events = Exchange("events", type="topic")
    app.queues = [
        Queue("default"),
        Queue("mail", bindings=[Binding(events, "user.*")]),
        Queue("audit", bindings=[Binding(events, "#.created")]),
        Queue("ranked", max_priority=9, max_length=100),
    ]

    @app.task(name="tasks.add")
    def add(x, y):
        return x + y

    @app.task(name="tasks.fail")
    def fail():
        raise ValueError("not today")

    @app.task(name="tasks.reject", bind=True)
    def reject(self):
        raise Reject("unwanted")

    @app.task(name="tasks.hand_back")
    def hand_back():
        raise Reject("later", requeue=True)

    @app.task(name="tasks.tell", bind=True)
    def tell(self):
        self.update_state(state="HALF", meta={"done": 1})
        assert seen.wait(10)

    @app.task(name="tasks.relay")
    def relay():
        return app.enqueue(app.signature("tasks.add", (3, 4), ignore_result=True)) and 7

    return app


@pytest.fixture
def seen():
    """Set when the sender has seen what the task told."""
    return threading.Event()


@pytest.fixture
def worker_app(make_app, make_user, keys, seen):
    return site_of(make_app, make_user("worker"), keys, seen)


@pytest.fixture
def producer_app(make_app, make_user, keys):
    return make_app(url=make_user("producer"), namespace=keys.namespace)


@pytest.fixture
def free_app(make_app, make_user, keys):
    """The app of a producer that has every right there is for one."""
    return make_app(url=make_user("producer", may=RIGHTS), namespace=keys.namespace)


@pytest.mark.parametrize("deed", CORE, ids=lambda deed: deed.__name__)
def test_a_producer_and_a_worker_may_do_what_they_are_for(
    deed, request, worker_app, producer_app, working, refusals
):
    def send(task, *args, **options):
        return producer_app.enqueue(producer_app.signature(f"tasks.{task}", args, **options))

    given = {"send": send, "app": producer_app}
    wanted = deed.__code__.co_varnames[: deed.__code__.co_argcount]
    with working(worker_app):
        deed(*(given.get(name) or request.getfixturevalue(name) for name in wanted))

    assert refusals() == set()


def is_forgotten(app, redis, keys):
    redis.hset(keys.task("old"), "state", "SUCCESS")

    app.result("old").forget()

    assert app.result("old").state == "UNKNOWN"


def declares_a_new_queue(app, redis, keys):
    app.enqueue(app.signature("tasks.add", (1, 2), queue="new"))

    assert redis.hexists(keys.queues, "new")


def declares_its_topology(app, redis, keys):
    app.queues = [Queue("post", Exchange("ex", type="topic"), routing_key="a.#", max_priority=2)]
    app.enqueue(app.signature("tasks.add", (1, 2), exchange="ex", routing_key="a.b"))

    assert redis.xlen(keys.queue("post")) == 1


def revokes_what_waits_runs_and_is_unknown(app, redis, keys):
    app.add_queue(Queue("default"))
    app.declare()
    later = app.enqueue(app.signature("tasks.add", (1, 2), countdown=60))
    redis.hset(keys.task("runs"), "state", "STARTED")
    for id in (later.id, "runs", "nobody-s"):
        app.result(id).revoke(terminate=True)

    assert later.state == "REVOKED"
    assert redis.hget(keys.task("runs"), "revoked") == "1"


@pytest.mark.parametrize(
    "deed",
    [
        is_forgotten,
        declares_a_new_queue,
        declares_its_topology,
        revokes_what_waits_runs_and_is_unknown,
    ],
    ids=lambda deed: deed.__name__,
)
def test_a_producer_with_every_right_may_use_it(deed, free_app, redis, keys, refusals):
    deed(free_app, redis, keys)

    assert refusals() == set()


# Without a right: told which one, and nothing is half done


def revoking(app):
    app.result("waits").revoke(terminate=True)


def forgetting(app):
    app.result("waits").forget()


def forgetting_copies(app):
    app.result("copied").forget()


def declaring(app):
    app.queues = [Queue("mail", Exchange("ex"), routing_key="k"), Queue("post", max_priority=9)]
    app.declare()


def sending_to_a_missing_queue(app):
    app.enqueue(app.signature("tasks.add", (1, 2), queue="new"))


def sending_many_to_a_missing_queue(app):
    with pytest.raises(PartlyPublished) as stopped:
        app.enqueue_many(app.signature("tasks.add", (n, 2), queue="new") for n in range(3))
    assert (len(stopped.value.accepted), len(stopped.value.remaining)) == (0, 3)
    raise stopped.value.__cause__


def sending_through_an_exchange_that_is_gone(app):
    app.queues = [Queue("mail", Exchange("ex"), routing_key="k")]
    app.enqueue(app.signature("tasks.add", (1, 2), exchange="ex", routing_key="k"))


def sending_from_asyncio_to_a_missing_queue(app):
    async def send():
        try:
            await app.aenqueue(app.signature("tasks.add", (1, 2), queue="new"))
        finally:
            await app.aclose()

    asyncio.run(send())


@pytest.mark.parametrize(
    ("deed", "right"),
    [
        (revoking, "revoke"),
        (forgetting, "forget"),
        (forgetting_copies, "forget"),
        (declaring, "declare"),
        (sending_to_a_missing_queue, "declare"),
        (sending_many_to_a_missing_queue, "declare"),
        (sending_through_an_exchange_that_is_gone, "declare"),
        (sending_from_asyncio_to_a_missing_queue, "declare"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_producer_that_lacks_a_right_is_told_which_and_nothing_is_done(
    deed, right, make_app, make_user, keys, redis, refusals
):
    others = [name for name in RIGHTS if name != right]
    url = make_user("producer", may=others)
    app = make_app(url=url, namespace=keys.namespace)
    redis.hset(keys.task("waits"), mapping={"state": "QUEUED", "task": "t", "waiters": "w"})
    redis.hset(keys.task("copied"), mapping={"state": "QUEUED", "copies": "a:b"})
    before = contents_of(redis, keys)

    with pytest.raises(ConfigError) as caught:
        deed(app)

    said = str(caught.value)
    assert not isinstance(caught.value, BrokerUnavailable)
    assert re.search(rf"^  right +{right}$", said, re.M)
    assert f"streamq acl producer --may {','.join(RIGHTS)} --user producer-0" in said
    assert "NOPERM" not in said
    assert contents_of(redis, keys) == before
    assert refusals() == set()


def contents_of(redis, keys):
    """Every key of the namespace with what it holds."""
    return {
        key: redis.dump(key)
        for key in redis.scan_iter(f"{keys.glob}:*")
        if ":publisher:" not in key
    }


def test_the_line_to_run_gives_the_right_and_keeps_the_others(
    make_app, make_user, keys, redis, server_url, monkeypatch, tmp_path
):
    url = make_user("producer", may=["forget"])
    app = make_app(url=url, namespace=keys.namespace)
    with pytest.raises(ConfigError) as caught:
        app.result("x").revoke()
    (command,) = re.findall(r"→ streamq (acl .*?)  prints", str(caught.value))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMQ_URL", server_url)

    (tmp_path / "secret").write_text("secret")
    words = [*shlex.split(command), "--password-file", str(tmp_path / "secret")]
    line = CliRunner().invoke(main, words).stdout
    redis.execute_command(*words_of(line.strip()))

    app.close()
    app.result("x").revoke()
    app.result("x").forget()
    with pytest.raises(ConfigError, match="may not declare"):
        app.declare()


def test_a_url_with_another_database_is_refused_and_told_why(make_user, make_app, keys):
    app = make_app(url=f"{make_user('producer')}&db=1", namespace=keys.namespace)

    for send in (app.enqueue, lambda call: asyncio.run(app.aenqueue(call))):
        with pytest.raises(ConfigError, match="user may not use this database") as caught:
            send(app.signature("tasks.add", (1, 2)))
        assert "streamq acl ROLE --db N" in str(caught.value)
        assert "NOPERM" not in str(caught.value)


def test_another_database_may_not_be_selected(make_user, redis):
    client = redis_py.Redis.from_url(make_user("producer"), protocol=2)

    assert client.execute_command("SELECT", 0)
    sha = client.script_load("return redis.call('SELECT', ARGV[1])")
    for words in (["SELECT", 1], ["EVALSHA", sha, 0, 1]):
        with pytest.raises(redis_py.ResponseError, match=r"permissions|can't run|ACL failure"):
            client.execute_command(*words)
    client.close()


def test_a_producer_that_may_not_even_send_is_told_so(
    make_app, make_user, keys, free_app, refusals
):
    free_app.add_queue(Queue("mail"))
    free_app.declare()
    needs = {need for need in ROLES["producer"].needs if need.command != "XADD"}
    app = make_app(url=make_user("producer", needs), namespace=keys.namespace)

    with pytest.raises(BrokerUnavailable, match="does not permit"):
        app.enqueue(app.signature("tasks.add", (1, 2), queue="mail"))

    assert refusals() == {("producer-1", "xadd")}


# And nothing else

PRODUCER_MAY_NOT = [
    "XRANGE {root}:queue:mail - +",
    "XREVRANGE {root}:queue:mail + -",
    "XREAD STREAMS {root}:queue:mail 0",
    "XREADGROUP GROUP workers me STREAMS {root}:queue:mail >",
    "XDEL {root}:queue:mail 1-1",
    "XTRIM {root}:queue:mail MAXLEN 0",
    "DEL {root}:queue:mail",
    "SET {root}:queue:mail x",
    "HGETALL {root}:dead:mail:x",
    "HDEL {root}:queues mail",
    "HSET {root}:queues mail {{}}",
    "HSET {root}:exchanges events fanout",
    "HGETALL {root}:queues",
    "XGROUP CREATE {root}:queue:mail workers 0",
    "DEL {root}:bindings:events",
    "ZADD {root}:leases 1 me",
    "DEL {root}:task:x",
    "PEXPIRE {root}:task:x 1",
    "PEXPIRE {root}:scheduled 1",
    "PEXPIRE {root}:queue:mail 1",
    "HGETALL {root}:scheduled:x",
    "HMGET {root}:scheduled:x args",
    "HGET {root}:scheduled:x args",
    "ZRANGE {root}:scheduled 0 -1",
    "ZREM {root}:scheduled x",
    "DEL {root}:scheduled",
    "ZADD {root}:revoked 1 x",
    "ZADD {root}:terminating 1 x",
    "SELECT 1",
    "SET {root}:task:x y",
    "GET {root}",
]
WORKER_MAY_NOT = [
    "XTRIM {root}:queue:mail MAXLEN 0",
    "XGROUP DESTROY {root}:queue:mail workers",
    "XCLAIM {root}:queue:mail workers me 0 1-1",
    "DEL {root}:queue:mail",
    "HDEL {root}:queues mail",
    "PUBLISH elsewhere x",
]
MONITOR_MAY_NOT = [
    "XRANGE {root}:queue:mail - +",
    "XREAD STREAMS {root}:queue:mail 0",
    "XINFO STREAM {root}:queue:mail",
    "XADD {root}:queue:mail * task x",
    "HGETALL {root}:task:x",
    "HMGET {root}:task:x result",
    "HGETALL {root}:started:x",
    "HGETALL {root}:dead:mail:x",
    "HSET {root}:worker:x pid 1",
    "EVALSHA {settle} 1 {root} me 1 0 0",
    "SCRIPT LOAD x",
    "CONFIG GET requirepass",
    "ACL GETUSER default",
    "PUBLISH {root}:notices x",
    "SUBSCRIBE {root}:notices",
]
NOBODY_MAY = [
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "CONFIG SET maxmemory 1",
    "EVAL return 1 0",
    "SCRIPT FLUSH",
    "FUNCTION DELETE x",
    "ACL SETUSER me on",
    "CLIENT KILL ID 1",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "REPLICAOF NO ONE",
    "GET other",
    "HGETALL {{streamq}}:task:x",
    "XLEN {{streamq}}:queue:mail",
    "XADD {{streamq}}:queue:mail * task x",
]


@pytest.mark.parametrize(
    ("role", "commands"),
    [
        ("producer", PRODUCER_MAY_NOT + NOBODY_MAY),
        ("worker", WORKER_MAY_NOT + NOBODY_MAY),
        ("monitor", MONITOR_MAY_NOT + NOBODY_MAY),
    ],
)
def test_a_role_may_do_nothing_else(role, commands, make_user, keys, app):
    client = redis_py.Redis.from_url(make_user(role), protocol=2)
    sha = "f" * 40

    for command in commands:
        words = command.format(root=keys.root, settle=sha).split(" ")
        with pytest.raises(redis_py.exceptions.NoPermissionError):
            client.execute_command(*words)
    client.close()


def test_the_probes_are_permitted_to_who_may_do_all(redis, keys):
    for command in ("XRANGE {root}:queue:mail - +", "HGETALL {root}:task:x", "SCAN 0"):
        redis.execute_command(*command.format(root=keys.root).split(" "))


# Known before it matters


def test_who_has_every_right_lacks_none(make_user, keys, server_url, refusals):
    for role in ("producer", "worker"):
        for url in (server_url, make_user(role)):
            assert missing_rights(Client(url, name="test"), keys, ROLES[role].needs) == []
    for right in RIGHTS.values():
        worker = Client(make_user("worker"), name="test")
        assert missing_rights(worker, keys, right.needs) == []
        worker.close()
    assert refusals() == set()


@pytest.mark.parametrize("role", ["producer", "worker"])
def test_each_right_that_is_missing_is_named(role, make_user, keys):
    needs = ROLES[role].needs
    for lacking in needs:
        if lacking.command in NEWER or lacking.command in ("EVALSHA", "SCRIPT|LOAD"):
            continue
        client = Client(make_user(role, needs - {lacking}), name="test")

        missing = missing_rights(client, keys, needs)

        client.close()
        assert missing, lacking
        if lacking.command == "CLIENT|SETNAME":  # no connection is made without it
            assert "'client|setname'" in missing[0]
        else:
            assert all(name.startswith(lacking.command.replace("|", " ")) for name in missing)


def test_who_may_not_even_ask_is_told_what_redis_said(make_user, keys):
    client = Client(make_user("monitor"), name="test")

    (said,) = missing_rights(client, keys, ROLES["worker"].needs)

    assert "'evalsha'" in said
    client.close()


def test_rights_for_some_queues_are_enough_for_a_worker_of_these(make_app, make_user, redis, keys):
    others = {need for need in ROLES["worker"].needs if "queue:*" not in need.kinds}
    own = {
        Access(need.command, frozenset({"queue:mail*"}))
        for need in ROLES["worker"].needs
        if "queue:*" in need.kinds
    }
    app = make_app(url=make_user("worker", others | own), namespace=keys.namespace)

    client = app.broker.client
    assert permitted(client, keys, [Queue("mail")]) == [Queue("mail")]
    with pytest.raises(ConfigError, match=r"XADD .*:queue:audit"):
        permitted(client, keys, [Queue("mail"), Queue("audit")])
    app.broker.topology.declare([Queue("mail")])
    with pytest.raises(ConfigError, match=r"XGROUP CREATE .*:queue:audit"):
        app.broker.topology.declare([Queue("mail"), Queue("audit")])


def test_a_wrong_password_is_no_missing_right(make_app, make_user, keys):
    app = make_app(url=make_user("worker").replace("password=", "password=wrong-"))

    with pytest.raises(LoginRefused, match="check the user and password in the URL"):
        permitted(app.broker.client, keys, [Queue("mail")])


# The monitor


def test_a_monitor_sees_what_is_there_and_that_something_is_hidden(
    make_app, make_user, keys, redis, free_app
):
    free_app.queues = [Queue("mail")]
    free_app.declare()
    result = free_app.enqueue(free_app.signature("tasks.add", (1, 2), queue="mail"))
    redis.xreadgroup("workers", "w:1:a", {keys.queue("mail"): ">"})
    redis.zadd(keys.leases, {"w:1:a": 9e15})
    client = Client(make_user("monitor"), name="test")
    monitor = Inspector(client, keys)

    (queue,) = monitor.queues()
    assert (queue.name, queue.running) == ("mail", 1)
    assert [reader.name for reader in monitor.consumers("mail")] == ["w:1:a"]
    assert monitor.hidden == set()
    ((run,),) = (worker.running for worker in monitor.workers())
    assert (run.consumer, run.queue, run.id, run.task) == ("w:1:a", "mail", "", "")
    assert monitor.hidden == {"messages", "records"}
    with pytest.raises(Denied, match="does not permit"):
        monitor.peek("mail", 1)

    everything = Inspector(Client(free_app.url.partition("?")[0], name="test"), keys)
    assert [run.id for worker in everything.workers() for run in worker.running] == [result.id]
    client.close()


def test_a_full_queue_is_seen_by_a_producer(producer_app, free_app):
    free_app.queues = [Queue("mail", max_length=1)]
    free_app.declare()
    call = producer_app.signature("tasks.add", (1, 2), queue="mail")
    producer_app.enqueue(call)

    with pytest.raises(QueueFull):
        producer_app.enqueue(call)
