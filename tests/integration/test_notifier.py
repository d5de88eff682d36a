"""The notifier: what is said is heard, and a dead connection is noticed."""

import pytest

from streamq.broker.notifier import Notifier
from streamq.transport.replies import Denied


@pytest.fixture
def notifier(server_url, keys):
    notifier = Notifier(server_url, keys.notices, name="test:notifier", patience=2.0)
    yield notifier
    notifier.connection.drop()


def heard(notifier, eventually, count=1):
    found = []
    eventually(lambda: found.extend(notifier.notices()) or len(found) >= count)
    return found


def test_what_is_said_is_heard_in_words_and_in_order(notifier, redis, keys, eventually):
    notifier.listen()

    redis.publish(keys.notices, "due 123")
    redis.publish(keys.notices, "terminate SIGTERM a b")

    assert heard(notifier, eventually, 2) == [["due", "123"], ["terminate", "SIGTERM", "a", "b"]]
    assert notifier.notices() == []


def test_before_it_listens_there_is_nothing_to_wait_for(notifier):
    assert notifier.fileno() == -1
    assert notifier.notices() == []


def test_a_connection_that_answers_is_kept(notifier, clients, eventually):
    notifier.listen()
    (first,) = clients("test:notifier")

    for _ in range(3):
        eventually(lambda: notifier.notices() == [] and not notifier.asked)
        notifier.next = 0.0
        notifier.listen()

    assert [each["id"] for each in clients("test:notifier")] == [first["id"]]


def test_one_that_answers_no_more_is_opened_anew(notifier, redis, keys, clients, eventually):
    notifier.listen()
    (first,) = clients("test:notifier")

    notifier.next = 0.0  # nobody has read the answer to the first question
    notifier.listen()

    eventually(lambda: [each["id"] for each in clients("test:notifier")] != [first["id"]])
    redis.publish(keys.notices, "due 5")
    assert ["due", "5"] in heard(notifier, eventually)


def test_a_connection_that_was_cut_is_opened_anew(notifier, redis, keys, clients, eventually):
    notifier.listen()
    (first,) = clients("test:notifier")
    redis.client_kill_filter(_id=first["id"])

    with pytest.raises(ConnectionError):
        eventually(notifier.notices)
    notifier.listen()

    redis.publish(keys.notices, "due 5")
    assert heard(notifier, eventually) == [["due", "5"]]


def test_a_connection_that_may_not_listen_does_not_pass_for_one_that_does(server_url, redis, keys):
    redis.acl_setuser("deaf", enabled=True, nopass=True, commands=["+@all"], reset_channels=True)
    url = server_url.replace("unix://", "unix://deaf:any@")
    notifier = Notifier(url, keys.notices, name="test:notifier", patience=2.0)

    for _ in range(2):
        with pytest.raises(Denied):
            notifier.listen()

    redis.acl_deluser("deaf")
