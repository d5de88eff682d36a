"""``confirm``: a message counts as accepted when it is on disk, or on replicas, as asked."""

import asyncio
import os
import signal
import time
from contextlib import contextmanager

import pytest

from streamq import NotConfirmed, PartlyPublished
from streamq.broker.confirmation import Confirmation
from streamq.errors import ConfigError, PublishUnknown
from streamq.transport import scripts
from tests.conftest import free_ports
from tests.processes import until
from tests.proxy import Proxy, calls_of
from tests.servers import running

PUBLISHING = calls_of("publish", "publish_plain")


#: A master and its replica hold everything in memory, and find each other at once.
IN_MEMORY = ("--appendonly", "no", "--repl-diskless-sync-delay", "0")


@pytest.fixture(scope="module")
def pair(server_program, tmp_path_factory):
    """A master and its replica: the master's URL, and a client of each."""
    folder = tmp_path_factory.mktemp("pair")
    port = str(*free_ports(1))
    with (
        running(server_program, folder / "m", *IN_MEMORY, "--port", port) as master,
        running(server_program, folder / "r", *IN_MEMORY, *replica_of(port)) as copy,
    ):
        until(lambda: master.client.wait(1, 100) == 1, "the replica follows")
        yield master.url, master.client, copy.client


def replica_of(port):
    return ("--replicaof", "127.0.0.1", str(port))


@pytest.fixture
def replicated(pair, make_app):
    """An app whose messages are to be on the replica, and the replica's switch."""
    url, master, _ = pair
    master.flushall()
    master.wait(1, 5000)
    app = make_app(url=url, confirm="replica", confirm_timeout="500ms")
    return app, master


@contextmanager
def lagging(pair):
    """The replica stands still: it is connected, and confirms nothing."""
    pid = pair[2].info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def one(app, **options):
    return app.enqueue(app.signature("any.task", **options))


def from_asyncio(app, **options):
    async def main():
        try:
            return await app.aenqueue(app.signature("any.task", **options))
        finally:
            await app.aclose()

    return asyncio.run(main())


def many(app, **options):
    try:
        return app.enqueue_many([app.signature("any.task", **options)])
    except PartlyPublished as stopped:
        raise stopped.__cause__ from None


WAYS = pytest.mark.parametrize("send", [one, many, from_asyncio], ids=lambda way: way.__name__)


@WAYS
@pytest.mark.parametrize("options", [{}, {"priority": 1}], ids=["short", "long"])
def test_what_is_confirmed_is_on_the_replica(replicated, pair, send, options):
    app, _ = replicated

    send(app, **options)

    assert pair[2].xlen(app.broker.keys.queue("default")) == 1


@WAYS
def test_what_no_replica_has_is_not_confirmed_and_may_run(replicated, pair, send):
    app, master = replicated
    send(app)
    with lagging(pair), pytest.raises(NotConfirmed, match=r"0 of 1 replicas[\s\S]*is safe") as said:
        send(app)

    unmet = said.value
    assert isinstance(unmet, ConnectionError)
    result = unmet.unconfirmed[0] if send is many else unmet.result
    assert result.state == "QUEUED"
    assert master.xlen(app.broker.keys.queue("default")) == 2


@WAYS
def test_the_default_asks_for_nothing(replicated, pair, make_app, send):
    """The control of the one before: without ``confirm`` the same message counts as accepted."""
    app, master = replicated
    before = commands(master)
    with lagging(pair):
        send(app, confirm="server")
        send(make_app(url=pair[0]))

    assert before == commands(master) == before


def commands(client):
    """How often WAIT and WAITAOF were called."""
    stats = client.info("commandstats")
    return [stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("wait", "waitaof")]


@WAYS
def test_the_call_wins_over_the_task_and_the_task_over_the_app(pair, make_app, replicated, send):
    app = make_app(url=pair[0], confirm_timeout="100ms")

    @app.task(confirm="replica")
    def careful(): ...

    with lagging(pair):
        send(app)
        with pytest.raises(NotConfirmed):
            send(app, confirm="replica")
        with pytest.raises(NotConfirmed):
            careful.enqueue()
        careful.options(confirm="server").enqueue()


def test_as_many_replicas_as_asked_must_have_it(pair, make_app, replicated):
    app = make_app(url=pair[0], confirm="replica", confirm_replicas=2, confirm_timeout="50ms")

    with pytest.raises(NotConfirmed, match="1 of 2 replicas"):
        one(app)


def test_many_messages_stop_at_what_is_not_confirmed(replicated, pair):
    app, master = replicated
    with lagging(pair), pytest.raises(NotConfirmed) as said:
        app.enqueue_many(app.signature("any.task", (n,)) for n in range(1200))

    unmet = said.value
    assert (len(unmet.accepted), len(unmet.unconfirmed), len(unmet.remaining)) == (0, 500, 700)
    assert [signature.args for signature in unmet.remaining] == [(n,) for n in range(500, 1200)]
    assert master.xlen(app.broker.keys.queue("default")) == 500
    assert {result.state for result in unmet.unconfirmed} == {"QUEUED"}


def test_of_many_messages_some_may_ask_for_more(replicated, pair):
    app, _ = replicated
    signatures = [app.signature("any.task", confirm="server") for _ in range(3)]
    with lagging(pair):
        app.enqueue_many(signatures)
        with pytest.raises(NotConfirmed):
            app.enqueue_many([*signatures, app.signature("any.task")])


def test_a_master_that_dies_takes_with_it_what_no_replica_confirmed(
    server_program, tmp_path, make_app
):
    """The guarantee, and its control: what only the server's word stands for is gone."""
    (port,) = free_ports(1)
    with (
        running(server_program, tmp_path / "m", *IN_MEMORY, "--port", str(port)) as master,
        Proxy(f"redis://127.0.0.1:{port}", raw=True) as link,
        running(server_program, tmp_path / "r", *IN_MEMORY, *replica_of(link.port)) as copy,
    ):
        until(lambda: master.client.wait(1, 100) == 1, "the replica follows")
        app = make_app(url=master.url)
        confirmed = [one(app, confirm="replica").id for _ in range(10)]
        link.blackhole()
        app.conf.confirm_timeout = "50ms"
        accepted = [one(app).id for _ in range(10)]
        for _ in range(3):
            with pytest.raises(NotConfirmed):
                one(app, confirm="replica")
        master.stop(signal.SIGKILL)
        copy.client.replicaof("NO", "ONE")

        there = [fields["id"] for _, fields in copy.client.xrange(app.broker.keys.queue("default"))]
        assert there == confirmed
        assert not set(accepted) & set(there)


# What is answered from memory is confirmed by a write of its own


@pytest.fixture
def behind_proxy(pair, make_app, replicated):
    with Proxy(pair[0]) as proxy:
        yield make_app(url=proxy.url, confirm="replica", confirm_timeout="300ms"), proxy


@pytest.mark.parametrize("options", [{}, {"priority": 1}], ids=["short", "long"])
def test_an_answer_from_the_channels_memory_is_not_confirmed_by_an_older_write(
    behind_proxy, pair, options
):
    """WAIT answers for its own connection: on a new one that wrote nothing it is always met."""
    app, proxy = behind_proxy
    one(app, **options)
    lost = proxy.drop_reply(PUBLISHING)
    with lagging(pair), pytest.raises(NotConfirmed):
        one(app, **options)

    assert lost.hits == 1


def test_without_that_write_it_would_be_confirmed_falsely(behind_proxy, pair, monkeypatch):
    app, proxy = behind_proxy
    if not knows_waitaof(pair[1]):
        pytest.skip("WAIT of this server asks for everything that anybody wrote")
    text = scripts.load("publish").text
    line = next(
        line for line in text.splitlines() if "redis.call('PEXPIRE', key_of('publisher'" in line
    )
    silent = scripts.Script("publish", text.replace(line + "\n", ""))
    monkeypatch.setattr("streamq.broker.publisher_channel.PUBLISH", silent)
    one(app, priority=1)
    lost = proxy.drop_reply(lambda command: command.words[1:2] == (silent.sha.encode(),))

    with lagging(pair):
        one(app, priority=1)  # confirmed, and the replica does not have it

    assert lost.hits == 1


def test_an_answer_from_the_dedup_record_is_confirmed_for_itself(behind_proxy, pair):
    app, _ = behind_proxy
    first = one(app, task_id="order-1")
    with lagging(pair):
        with pytest.raises(NotConfirmed) as said:
            one(app, task_id="order-1")
        assert said.value.result.id == first.id
        app.close()
        with pytest.raises(NotConfirmed):
            one(app, task_id="order-1")
        with pytest.raises(NotConfirmed):
            from_asyncio(app, task_id="order-1")

    assert one(app, task_id="order-1").id == first.id


def test_what_is_lost_while_it_is_confirmed_is_published_again_once(behind_proxy, pair):
    app, proxy = behind_proxy
    for send in (one, many, from_asyncio):
        lost = proxy.drop_reply("WAIT")
        send(app)
        assert lost.hits == 1

    assert pair[1].xlen(app.broker.keys.queue("default")) == 3


def test_an_error_while_it_is_confirmed_does_not_say_that_nothing_was_done(
    pair, make_app, replicated
):
    with Proxy(pair[0]) as proxy:
        app = make_app(url=proxy.url, confirm="replica", publish_timeout="300ms")
        one(app)
        proxy.answer("READONLY You can't write against a read only replica.", "WAIT", times=None)
        for send in (one, from_asyncio):
            with pytest.raises(PublishUnknown):
                send(app)


def test_a_refused_wait_is_not_confirmed(pair, make_app, replicated):
    with Proxy(pair[0]) as proxy:
        app = make_app(url=proxy.url, confirm="replica")
        for answer in ("NOPERM User x has no permissions", "ERR unknown command 'WAIT'"):
            proxy.answer(answer, "WAIT", times=2)
            for send in (one, from_asyncio):
                with pytest.raises(NotConfirmed, match=answer[4:20]) as said:
                    send(app)
                assert said.value.result.state == "QUEUED"


# On disk


@pytest.fixture
def on_disk(server_program, tmp_path):
    """Starts servers with an append-only file of this manner."""
    with running(server_program, tmp_path / "d") as server:
        yield server.url, server.client


def knows_waitaof(client):
    return client.eval("return redis.call('COMMAND', 'INFO', 'WAITAOF')[1] and 1 or 0", 0) == 1


@WAYS
def test_what_is_on_disk_is_confirmed(on_disk, make_app, send):
    url, client = on_disk
    client.config_set("appendfsync", "always")
    app = make_app(url=url, confirm="fsync")

    send(app)

    assert client.xlen(app.broker.keys.queue("default")) == 1


@WAYS
def test_what_is_not_on_disk_in_time_is_not_confirmed(on_disk, make_app, send):
    url, client = on_disk
    if not knows_waitaof(client):
        pytest.skip("this server has no WAITAOF")
    client.config_set("appendfsync", "no")
    app = make_app(url=url, confirm="fsync", confirm_timeout="50ms")

    with pytest.raises(NotConfirmed, match="not on disk"):
        send(app)

    assert client.xlen(app.broker.keys.queue("default")) == 1


@WAYS
def test_a_server_without_a_file_is_found_out_before_anything_is_sent(make_app, redis, send):
    app = make_app(confirm="fsync")

    with pytest.raises(ConfigError, match="cannot tell when a message is on disk"):
        send(app)

    assert redis.dbsize() == 0


UNKNOWN = "ERR unknown command 'WAITAOF', with args beginning with: '1' '0' '1'"


@WAYS
def test_a_server_without_waitaof_is_found_out_before_anything_is_sent(on_disk, make_app, send):
    url, client = on_disk
    client.config_set("appendfsync", "everysec")
    with Proxy(url) as proxy:
        app = make_app(url=proxy.url, confirm="fsync")
        proxy.answer(UNKNOWN, "WAITAOF", times=None)

        with pytest.raises(ConfigError, match="cannot tell when"):
            send(app)

    assert client.dbsize() == 0


@WAYS
def test_a_server_without_waitaof_that_always_writes_first_is_enough(on_disk, make_app, send):
    url, client = on_disk
    client.config_set("appendfsync", "always")
    with Proxy(url) as proxy:
        app = make_app(url=proxy.url, confirm="fsync")
        proxy.answer(UNKNOWN, "WAITAOF", times=None)

        send(app)
        client.config_set("appendfsync", "everysec")
        with pytest.raises((NotConfirmed, ConfigError)):
            send(app)

        proxy.answer("NOPERM User x has no permissions", "CONFIG", times=None)
        app.close()
        with pytest.raises(ConfigError, match="CONFIG GET says"):
            send(app)


def test_a_user_who_may_not_use_waitaof_is_told_before_anything_is_sent(on_disk, make_app):
    url, client = on_disk
    with Proxy(url) as proxy:
        app = make_app(url=proxy.url, confirm="fsync")
        proxy.answer("NOPERM User x has no permissions", "WAITAOF", times=None)
        for send in (one, from_asyncio):
            with pytest.raises(ConfigError, match="NOPERM"):
                send(app)

    assert client.dbsize() == 0


def test_the_server_is_asked_what_it_can_once_for_each_connection(on_disk, make_app):
    url, client = on_disk
    client.config_set("appendfsync", "always")
    with Proxy(url) as proxy:
        app = make_app(url=proxy.url, confirm="fsync")
        for _ in range(5):
            one(app)
        first = proxy.seen
        proxy.reset()
        one(app)

    asked = "WAITAOF" if knows_waitaof(client) else "CONFIG"
    assert first[asked] == 6
    assert proxy.seen[asked] in (8, 9)


@pytest.mark.parametrize("value", ["disk", "", 1, True])
def test_a_level_that_does_not_exist_is_refused(make_app, value):
    with pytest.raises(ConfigError, match="confirm"):
        make_app(confirm=value)
    with pytest.raises(ConfigError, match="confirm"):
        make_app().signature("any.task", confirm=value)


def test_waiting_for_ever_is_never_asked_for():
    assert Confirmation("replica", 1, 0.0).question(by_policy=False) == ("WAIT", 1, 1)


def test_a_default_app_sends_one_command_for_each_message(make_app, proxy):
    app = make_app(url=proxy.url)
    app.enqueue("any.task")
    before = proxy.seen.total()
    time.sleep(0)

    for _ in range(10):
        app.enqueue("any.task")

    assert proxy.seen.total() - before == 10


@WAYS
def test_after_a_lost_answer_a_server_that_cannot_confirm_says_nothing_of_the_message(
    on_disk, make_app, send
):
    url, client = on_disk
    client.config_set("appendfsync", "always")
    with Proxy(url) as proxy:
        app = make_app(url=proxy.url, confirm="fsync", publish_timeout="5s")
        send(app)
        lost = proxy.drop_reply(PUBLISHING)
        proxy.answer(
            "ERR WAITAOF cannot be used",
            lambda command: lost.hits and command.name == "WAITAOF",
            times=None,
        )

        with pytest.raises(PublishUnknown, match="the same task_id"):
            send(app)

    assert lost.hits == 1
    assert client.xlen(app.broker.keys.queue("default")) == 2
