"""The name of a worker, and whether another one has it."""

import os
import socket

import pytest

from streamq.store.client import Client
from streamq.worker.presence import node_name, own_name

HOST = socket.gethostname()


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("worker1@%h", "worker1@web.shop.example"),
        ("w@%n", "w@web"),
        ("w@%d", "w@shop.example"),
        ("100%%@%n", "100%@web"),
        ("plain", "plain@web.shop.example"),
    ],
)
def test_signs_in_a_name_are_expanded(pattern, name):
    assert node_name(pattern, "web.shop.example") == name


@pytest.fixture
def named(redis, keys, server_url):
    client = Client(server_url, name="test")

    def named(node, *, given=False, **described):
        if described:
            redis.hset(keys.worker(node), mapping=described)
        return own_name(node, client, keys, given=given)

    yield named
    client.close()


def test_a_name_that_nobody_has_is_kept(named):
    assert named("worker@web") == "worker@web"


def test_a_living_worker_keeps_its_name_for_itself(named):
    assert named("worker@web", host=HOST, pid=os.getpid()) == "worker-2@web"
    assert named("worker-2@web", host="elsewhere", pid=1) == "worker-2-2@web"


def test_the_name_of_a_process_that_is_gone_is_free(named):
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    assert named("worker@web", host=HOST, pid=gone) == "worker@web"


@pytest.mark.parametrize("pid", [b"\xff", "9" * 30, ""], ids=["no text", "too large", "nothing"])
def test_the_name_of_what_can_be_no_process_is_free(named, pid):
    assert named("worker@web", host=HOST, pid=pid) == "worker@web"


def test_a_chosen_name_is_kept_and_the_log_says_so(named, caplog):
    assert named("w1@web", given=True, host=HOST, pid=os.getpid()) == "w1@web"
    assert "another worker is named w1@web" in caplog.text
