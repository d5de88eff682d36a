"""The name of a worker, and whether another one has it."""

import os
import socket

import pytest

from streamq.broker.worker_names import WorkerNames
from streamq.transport.client import Client
from streamq.worker.identity import place
from streamq.worker.services.heartbeat import claim_name, is_up, node_name, this_worker

HOST = socket.gethostname()
#: Some other boot or process namespace.
ELSEWHERE = "ab" * 5
LEASE = 15.0


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("worker1@%h", "worker1@web.shop.example"),
        ("w@%n", "w@web"),
        ("w@%d", "w@shop.example"),
        ("100%%@%n", "100%@web"),
        ("worker1@%%h", "worker1@web.shop.example"),
        ("100%%@%%n", "100%@web"),
        ("plain", "plain@web.shop.example"),
    ],
)
def test_signs_in_a_name_are_expanded(pattern, name):
    assert node_name(pattern, "web.shop.example") == name


@pytest.fixture
def nodes(keys, server_url):
    client = Client(server_url, name="test")
    yield WorkerNames(client, keys)
    client.close()


@pytest.fixture
def named(redis, keys, nodes):
    def named(node, **described):
        if described:
            redis.hset(keys.worker(node), mapping=described)
        return claim_name(node, nodes, LEASE)

    return named


def gone():
    """The number of a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_a_name_that_nobody_has_is_taken_until_it_is_not_renewed(named, redis, keys):
    assert named("worker@web") == "worker@web"

    assert redis.hmget(keys.worker("worker@web"), "pid", "place") == [str(os.getpid()), place()]
    assert 0 < redis.pttl(keys.worker("worker@web")) <= 3000 * LEASE


def test_a_living_worker_keeps_its_name_for_itself_and_the_second_one_says_so(named, caplog):
    assert named("w1@web", host=HOST, pid=os.getppid(), place=place()) == "w1-2@web"

    assert "another worker is named w1@web; this one is called w1-2@web" in caplog.text


@pytest.mark.parametrize(
    ("host", "where"),
    [(HOST, ELSEWHERE), ("elsewhere", ELSEWHERE), (HOST, "0" * 10), (HOST, "")],
    ids=["another namespace", "another host", "a place that nobody knows", "an older version"],
)
def test_who_cannot_be_seen_counts_as_living(named, nodes, host, where):
    """Not even our own number says anything: each container has a process 1."""
    assert named("worker@web", host=host, pid=gone(), place=where) == "worker-2@web"
    assert named("two@web", host=host, pid=os.getpid(), place=where) == "two-2@web"
    assert is_up("worker@web", nodes)


def test_the_name_of_a_process_that_is_gone_is_free(named, nodes):
    pid = gone()
    assert named("worker@web", host=HOST, pid=pid, place=place()) == "worker@web"
    assert named("other@web", host=HOST, pid="9" * 30, place=place()) == "other@web"


def test_a_program_that_takes_our_place_keeps_the_name(named):
    assert named("worker@web") == "worker@web"
    assert named("worker@web") == "worker@web"


def test_of_two_that_find_a_name_free_one_gets_it(nodes, redis, keys):
    me, other = this_worker(), this_worker().__class__(HOST, "7", ELSEWHERE)
    dead = this_worker().__class__(HOST, str(gone()), place())
    redis.hset(keys.worker("w@web"), mapping={"host": HOST, "pid": dead.pid, "place": dead.place})

    assert nodes.claim("w@web", other, LEASE, gone=dead) is None
    assert nodes.claim("w@web", me, LEASE, gone=dead) == other


def test_who_signs_off_takes_nothing_from_another_one_of_its_name(nodes, named, redis, keys):
    named("mine@web")
    redis.hset(keys.worker("w@web"), mapping={"pid": os.getpid(), "place": ELSEWHERE})
    redis.zadd(keys.workers, {"w@web": 1, "mine@web": 1})

    nodes.sign_off("w@web", this_worker())
    nodes.sign_off("mine@web", this_worker())

    assert redis.zrange(keys.workers, 0, -1) == ["w@web"]
    assert not redis.exists(keys.worker("mine@web"))
