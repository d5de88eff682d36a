"""One connection: raw replies, our own errors, and nothing sent twice."""

import gc
import os
import socket
from contextlib import suppress

import pytest
from redis._parsers.base import BaseParser

import streamq
from streamq.errors import BrokerFull, BrokerUnavailable, ConfigError
from streamq.transport import scripts
from streamq.transport.client import Client
from streamq.transport.connection import Connection
from streamq.transport.replies import (
    CODES,
    Denied,
    Disconnected,
    Failover,
    LoginRefused,
    Refused,
    Transient,
    WritesRefused,
    as_sent,
    meaning,
    translated,
)
from tests.faults import MALFORMED
from tests.tls import tls_before


@pytest.fixture
def connection(server_url, redis):
    connection = Connection(server_url, name="streamq:test")
    yield connection
    connection.drop()


@pytest.fixture
def client(server_url, redis):
    client = Client(server_url, name="streamq:test")
    yield client
    client.close()


def test_replies_come_raw(connection):
    assert connection.ask("SET", "k", b"\xff") == b"OK"
    assert connection.ask("GET", "k") == b"\xff"
    assert connection.ask("HSET", "h", "a", 1) == 1
    assert connection.ask("HGETALL", "h") == [b"a", b"1"]
    assert connection.ask("GET", "none") is None


def test_the_server_knows_the_connection_by_name(connection, clients):
    connection.ask("PING")

    assert len(clients("streamq:test")) == 1


def test_a_name_that_redis_would_refuse_is_made_fit(server_url, clients):
    connection = Connection(server_url, name="streamq:wörk er")
    connection.ask("PING")

    assert len(clients("streamq:w?rk?er")) == 1
    connection.drop()


def test_several_commands_go_in_one_packet_and_answer_in_order(connection):
    connection.send([("SET", "k", 1), ("INCR", "k"), ("LPUSH", "k", 1), ("GET", "k")])

    assert [connection.read(raising=False) for _ in range(2)] == [b"OK", 2]
    assert isinstance(connection.read(raising=False), Refused)
    assert connection.read() == b"2"


def halves(connection, monkeypatch):
    """Let the kernel have room for no more than half of what is sent."""
    whole, lengths = os.write, []

    def half(descriptor, data):
        if descriptor != connection.fileno():
            return whole(descriptor, data)
        lengths.append(whole(descriptor, data[: len(data) // 2]))
        return lengths[-1]

    monkeypatch.setattr(os, "write", half)
    return lengths


def test_what_the_kernel_has_no_room_for_is_sent_after_it(connection, monkeypatch):
    connection.ask("PING")
    lengths = halves(connection, monkeypatch)

    assert connection.ask("SET", "k", b"x" * 1000) == b"OK"
    assert connection.ask("STRLEN", "k") == 1000
    assert len(lengths) == 2


def test_where_the_kernel_has_no_room_at_all_it_is_waited_for(connection, monkeypatch):
    def full(descriptor, data):
        raise BlockingIOError

    connection.ask("PING")
    monkeypatch.setattr(os, "write", full)

    assert connection.ask("SET", "k", b"x" * 1000) == b"OK"


def test_without_the_second_send_half_a_command_would_stay_behind(connection, monkeypatch):
    connection.ask("PING")
    halves(connection, monkeypatch)
    monkeypatch.setattr(connection, "write", lambda opened, data: os.write(opened.fileno(), data))
    connection.patience = 0.2

    with pytest.raises(Disconnected):
        connection.ask("SET", "k", b"x" * 1000)


@pytest.fixture
def encrypted(server_url, redis, tmp_path):
    with tls_before(server_url, tmp_path) as url:
        connection = Connection(url, patience=5)
        connection.ask("PING")
        yield connection
        connection.drop()


def test_over_tls_nothing_goes_past_it(encrypted):
    assert encrypted.ask("SET", "k", b"x" * 1_000_000) == b"OK"
    assert encrypted.ask("GET", "k") == b"x" * 1_000_000


def test_what_went_past_tls_would_end_the_connection(encrypted):
    encrypted.encrypted = False

    with pytest.raises(Disconnected):
        encrypted.ask("SET", "k", 1)


def test_an_error_has_its_code(connection):
    connection.ask("SET", "k", 1)

    with pytest.raises(Refused) as refused:
        connection.ask("LPUSH", "k", 1)

    assert refused.value.code == "WRONGTYPE"
    assert connection.ask("GET", "k") == b"1"


def test_a_script_the_server_does_not_know_is_loaded(connection, redis, keys):
    redis.script_flush()
    script = scripts.load("declare_queue")

    assert connection.call(script, keys.root, "demo", "{}")[0] in (0, 1)
    assert redis.script_exists(script.sha) == [True]


def test_one_error_does_not_hide_the_other_answers(connection, keys, redis):
    redis.script_flush()
    bind, declare = scripts.load("bind"), scripts.load("declare_queue")

    replies = connection.call_all(
        [(declare, ("a", "{}")), (bind, ("nowhere", "queue", "a", "")), (declare, ("b", "{}"))],
        keys.root,
    )

    assert [isinstance(reply, Refused) for reply in replies] == [False, True, False]
    assert replies[1].code == "NOEXCHANGE"


def test_a_late_answer_never_answers_the_next_question(connection):
    with pytest.raises(Disconnected) as lost:
        connection.ask("BLPOP", "nothing", 5, timeout=0.05)

    assert lost.value.sent
    assert "no answer in time" in str(lost.value)
    assert connection.ask("ECHO", "new") == b"new"


def test_a_connection_that_was_killed_is_an_error_once(connection, redis, clients):
    connection.ask("PING")
    redis.client_kill_filter(_id=clients("streamq:test")[0]["id"])

    with pytest.raises(Disconnected) as lost:
        connection.ask("PING")

    assert lost.value.sent
    assert connection.ask("PING") == b"PONG"


def test_a_lent_connection_that_died_while_idle_is_replaced(client, redis, clients):
    assert client.ask("PING") == b"PONG"
    redis.client_kill_filter(_id=clients("streamq:test")[0]["id"])

    assert client.ask("PING") == b"PONG"


def test_a_child_opens_a_connection_of_its_own(connection, client, clients):
    connection.ask("PING")
    client.ask("PING")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            replies = [
                each.ask("ECHO", "child") for each in (connection, client) for _ in range(50)
            ]
            code = 0 if set(replies) == {b"child"} else 2
        finally:
            os._exit(code)

    assert {connection.ask("ECHO", "parent") for _ in range(50)} == {b"parent"}
    assert client.ask("ECHO", "parent") == b"parent"
    assert os.waitpid(pid, 0)[1] == 0
    assert len(clients("streamq:test")) >= 2


def test_no_more_connections_than_agreed_are_lent(client, clients):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda n: client.ask("ECHO", str(n)), range(500)))

    assert replies == [str(n).encode() for n in range(500)]
    assert 1 <= len(clients("streamq:test")) <= 4


def test_a_server_that_is_not_there_says_where_it_should_be():
    with pytest.raises(Disconnected) as lost:
        Connection("redis://user:secret@localhost:1/3").ask("PING")

    assert "connection refused" in str(lost.value)
    assert "secret" not in str(lost.value)
    assert "localhost:1/3" in str(lost.value)
    assert not lost.value.sent
    assert isinstance(lost.value, ConnectionError)


@pytest.mark.parametrize("url", ["nonsense", "http://localhost", "redis://localhost:port"])
def test_what_is_no_url_is_a_configuration_error(url):
    with pytest.raises(ConfigError, match="not a Redis URL"):
        Connection(url).ask("PING")


def test_wrong_credentials_are_said_at_once(server_url, redis):
    redis.acl_setuser("shop", enabled=True, passwords=["+right"], commands=["+ping", "+client"])
    try:
        wrong = Connection(server_url.replace("unix://", "unix://shop:wrong@"))
        with pytest.raises(BrokerUnavailable, match="Redis refused the connection") as refused:
            wrong.ask("PING")
        assert "wrong@" not in str(refused.value)
        assert not isinstance(refused.value, Disconnected)

        right = Connection(server_url.replace("unix://", "unix://shop:right@"))
        with pytest.raises(BrokerUnavailable, match="NOPERM"):
            right.ask("GET", "k")
        right.drop()
    finally:
        redis.acl_deluser("shop")


def test_out_of_memory_is_said_in_our_words(connection, redis):
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerFull, match="out of memory"):
            connection.ask("SET", "k", 1)
    finally:
        redis.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", Transient),
        ("BUSY Redis is busy running a script.", Transient),
        ("ERR max number of clients reached", Transient),
        ("ERR max number of clients + cluster connections reached", Transient),
        ("READONLY You can't write against a read only replica.", Failover),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", Failover),
        ("MASTERDOWN Link with MASTER is down", Failover),
        ("CLUSTERDOWN The cluster is down", Failover),
        ("MOVED 3999 127.0.0.1:6381", Failover),
        ("MISCONF Errors writing to the AOF file: No space left on device", WritesRefused),
        ("NOREPLICAS Not enough good replicas to write.", WritesRefused),
        ("NOAUTH Authentication required.", LoginRefused),
        ("WRONGPASS invalid username-password pair", LoginRefused),
        ("NOPERM User shop has no permissions to run the 'xadd' command", Denied),
        ("ERR The user executing the script can't run this command", Denied),
        ("OOM command not allowed", BrokerFull),
        ("WRONGTYPE Operation", Refused),
        ("NOGROUP No such key 'k' or consumer group 'workers'", Refused),
        ("ERR unknown command", Refused),
        ("", Refused),
    ],
)
def test_error_replies_have_their_meaning(text, kind):
    assert type(meaning(text)) is kind


def test_who_lacks_a_right_is_not_sent_to_roles_alone_that_may_lack_it_too():
    assert "dead letters it takes a user that may do more" in str(meaning("NOPERM x"))


@pytest.mark.parametrize("script", [f"{'0a' * 20}, ", ""])
def test_nobody_is_told_where_in_a_script_it_was(script):
    refused = meaning(f"WRONGTYPE a is a list script: {script}on @user_script:91.")
    assert str(refused) == "WRONGTYPE a is a list"
    assert refused.code == "WRONGTYPE"


def test_a_full_server_is_said_with_what_to_do():
    assert "raise its maxclients" in str(meaning("ERR max number of clients reached"))


def test_a_database_that_is_not_there_is_said_with_the_url(server_url):
    connection = Connection(f"{server_url}?db=99")

    with pytest.raises(LoginRefused, match=r"db=99[\s\S]*a database that it has[\s\S]*config show"):
        connection.ask("PING")
    connection.drop()


def test_both_wordings_of_a_lost_group_have_one_code():
    assert meaning("NOGROUP No such key 'k'").code == "NOGROUP"
    assert meaning("UNBLOCKED the stream key no longer exists").code == "NOGROUP"


@pytest.mark.parametrize("code", sorted(CODES.values()))
def test_an_error_that_redis_py_took_apart_is_put_together_again(code):
    text = f"{code} 1 there" if code in ("MOVED", "ASK") else f"{code} some words"
    made = BaseParser.parse_error(f"{code} 1 there:1" if "1" in text else text)

    assert as_sent(made).startswith(code)
    assert type(translated(made, "redis://h")) is type(meaning(text))


def test_a_server_that_is_not_the_master_any_more_is_connected_to_anew(proxy, clients):
    connection = Connection(proxy.url, name="streamq:test")
    connection.ask("PING")
    before = clients("streamq:test")[0]["id"]
    proxy.answer("READONLY You can't write against a read only replica.", "SET")

    with pytest.raises(Failover, match="not the master"):
        connection.ask("SET", "k", 1)

    assert connection.ask("SET", "k", 1) == b"OK"
    assert [client["id"] for client in clients("streamq:test")] != [before]
    connection.drop()


def test_a_server_that_passes_for_a_moment_keeps_its_connection(proxy, clients):
    connection = Connection(proxy.url, name="streamq:test")
    connection.ask("PING")
    before = clients("streamq:test")[0]["id"]
    proxy.answer("BUSY Redis is busy", "SET")

    with pytest.raises(Transient):
        connection.ask("SET", "k", 1)

    assert connection.ask("SET", "k", 1) == b"OK"
    assert [client["id"] for client in clients("streamq:test")] == [before]
    connection.drop()


def test_a_server_that_forgets_scripts_all_the_time_is_waited_for(proxy, redis, keys):
    connection = Connection(proxy.url)
    with (
        proxy.answering("NOSCRIPT No matching script.", "EVALSHA"),
        pytest.raises(Transient, match="forget"),
    ):
        connection.call(scripts.load("declare_queue"), keys.root, "demo", "{}")
    connection.drop()


# Descriptors that a task closed

#: The loop of gevent watches descriptors by their numbers, and takes free ones for itself.
by_number = pytest.mark.skipif(
    socket.socket.__module__.startswith("gevent"), reason="gevent itself relies on numbers"
)


@pytest.fixture
def stolen(connection):
    """A connection whose number stands for a user's socket now; and that socket's other end."""
    connection.ask("PING")
    number = connection.fileno()
    os.close(number)
    theirs, peer = socket.socketpair()
    os.dup2(theirs.fileno(), number) if theirs.fileno() != number else None
    if theirs.fileno() != number:
        theirs.close()
        theirs = socket.socket(fileno=number)
    peer.settimeout(5)
    yield connection, theirs, peer
    connection.drop()
    peer.close()
    with suppress(OSError):
        theirs.close()


@by_number
def test_a_number_that_became_a_users_socket_is_not_written_to(stolen):
    connection, theirs, peer = stolen

    assert connection.ask("ECHO", "secret") == b"secret"

    theirs.sendall(b"theirs")
    assert peer.recv(100) == b"theirs"
    assert connection.fileno() != theirs.fileno()


@by_number
def test_a_number_that_became_a_users_socket_is_not_closed(stolen):
    connection, theirs, peer = stolen

    connection.drop()
    gc.collect()

    theirs.sendall(b"theirs")
    assert peer.recv(100) == b"theirs"


@by_number
def test_without_the_look_at_the_number_it_would_be_written_to_and_closed(stolen, monkeypatch):
    connection, theirs, peer = stolen
    monkeypatch.setattr(connection, "is_ours", lambda opened: True)

    connection.send([("ECHO", "secret")])
    connection.drop()

    assert b"secret" in peer.recv(100)
    with pytest.raises(OSError, match="Bad file descriptor"):
        theirs.sendall(b"theirs")


@by_number
def test_a_number_that_became_a_users_file_is_left_to_it(connection, tmp_path):
    connection.ask("PING")
    number = connection.fileno()
    os.close(number)
    opened = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    os.dup2(opened, number)

    assert connection.ask("ECHO", "x") == b"x"

    os.write(number, b"theirs")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    for each in {opened, number}:
        os.close(each)


@by_number
def test_numbers_that_were_closed_are_taken_for_lost(connection):
    connection.ask("PING")
    os.close(connection.fileno())

    assert connection.ask("ECHO", "x") == b"x"


@by_number
def test_a_number_that_became_another_connection_of_ours_is_left_to_it(server_url, connection):
    connection.ask("PING")
    os.close(connection.fileno())
    other = Connection(server_url)
    other.ask("PING")

    assert connection.ask("ECHO", "first") == b"first"
    assert other.ask("ECHO", "second") == b"second"
    other.drop()


@pytest.mark.parametrize("url", [*MALFORMED, b"redis://:SECRET@h", ["redis://:SECRET@h"]])
def test_no_error_shows_what_may_be_a_password(url):
    with pytest.raises(streamq.StreamqError) as error:
        streamq.App("app", url=url, publish_timeout=0.01).enqueue("any.task")

    seen, said = error.value, []
    while seen is not None:
        said.append(f"{seen!r} {seen} {getattr(seen, '__notes__', '')}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert "SECRET" not in " ".join(said)
