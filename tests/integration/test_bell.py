"""The bell: what is said is heard, and a dead connection is noticed."""

import pytest

from streamq.broker.notifier import Bell
from streamq.transport.replies import Denied


@pytest.fixture
def bell(server_url, keys):
    bell = Bell(server_url, keys.bell, name="test:bell", patience=2.0)
    yield bell
    bell.connection.drop()


def heard(bell, eventually, count=1):
    found = []
    eventually(lambda: found.extend(bell.heard()) or len(found) >= count)
    return found


def test_what_is_said_is_heard_in_words_and_in_order(bell, redis, keys, eventually):
    bell.listen()

    redis.publish(keys.bell, "due 123")
    redis.publish(keys.bell, "terminate SIGTERM a b")

    assert heard(bell, eventually, 2) == [["due", "123"], ["terminate", "SIGTERM", "a", "b"]]
    assert bell.heard() == []


def test_before_it_listens_there_is_nothing_to_wait_for(bell):
    assert bell.fileno() == -1
    assert bell.heard() == []


def test_a_connection_that_answers_is_kept(bell, clients, eventually):
    bell.listen()
    (first,) = clients("test:bell")

    for _ in range(3):
        eventually(lambda: bell.heard() == [] and not bell.asked)
        bell.next = 0.0
        bell.listen()

    assert [each["id"] for each in clients("test:bell")] == [first["id"]]


def test_one_that_answers_no_more_is_opened_anew(bell, redis, keys, clients, eventually):
    bell.listen()
    (first,) = clients("test:bell")

    bell.next = 0.0  # nobody has read the answer to the first question
    bell.listen()

    eventually(lambda: [each["id"] for each in clients("test:bell")] != [first["id"]])
    redis.publish(keys.bell, "due 5")
    assert ["due", "5"] in heard(bell, eventually)


def test_a_connection_that_was_cut_is_opened_anew(bell, redis, keys, clients, eventually):
    bell.listen()
    (first,) = clients("test:bell")
    redis.client_kill_filter(_id=first["id"])

    with pytest.raises(ConnectionError):
        eventually(bell.heard)
    bell.listen()

    redis.publish(keys.bell, "due 5")
    assert heard(bell, eventually) == [["due", "5"]]


def test_a_connection_that_may_not_listen_does_not_pass_for_one_that_does(server_url, redis, keys):
    redis.acl_setuser("deaf", enabled=True, nopass=True, commands=["+@all"], reset_channels=True)
    url = server_url.replace("unix://", "unix://deaf:any@")
    bell = Bell(url, keys.bell, name="test:bell", patience=2.0)

    for _ in range(2):
        with pytest.raises(Denied):
            bell.listen()

    redis.acl_deluser("deaf")
