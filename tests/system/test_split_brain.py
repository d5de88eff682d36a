"""The master stands still, another is promoted, and the old one wakes up believing it is one."""

import os
import signal
import threading
import time

import pytest

import streamq
from streamq.errors import NotConfirmed, PublishUnknown
from tests.processes import until
from tests.sentinels import Trio
from tests.sites import close
from tests.system.traffic import TASKS, begun


@pytest.fixture
def trio(server_program):
    trio = Trio(server_program)
    yield trio
    trio.close()


class Sender:
    """Sends calls with numbered ids until it is stopped."""

    def __init__(self, trio, name, **settings):
        self.app = streamq.App("producer", url=trio.url, **settings)
        self.name, self.accepted, self.unsure = name, [], []
        self.stopping = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.stopping:
            id = f"{self.name}-{number}"
            (self.unsure if self.send(id) is None else self.accepted).append(id)
            number += 1
            time.sleep(0.002)

    def send(self, id):
        try:
            return self.app.enqueue(self.app.signature("tasks.quick", (0,), task_id=id))
        except (NotConfirmed, PublishUnknown):
            return None

    def stop(self):
        self.stopping = True
        self.thread.join(40)
        assert not self.thread.is_alive()


@pytest.mark.timeout(120)
def test_what_was_confirmed_is_known_to_the_new_master(trio, site):
    """What only the old master's word stood for is gone with it: the fault has bitten."""
    site.write(TASKS)
    sure = Sender(trio, "sure", confirm="replica", confirm_timeout="200ms")
    hopeful = Sender(trio, "hopeful")
    senders = [sure, hopeful]
    try:
        until(lambda: all(len(each.accepted) > 100 for each in senders), "accepted")
        old = trio.master
        os.kill(old.process.pid, signal.SIGSTOP)
        trio.master, trio.replica = trio.replica, trio.master
        until(trio.promoted, "another is the master")
        os.kill(old.process.pid, signal.SIGCONT)
        goals = [len(each.accepted) + 100 for each in senders]
        until(lambda: old.client.role()[0] == "slave", "the old one follows it")
        until(
            lambda: all(len(s.accepted) > g for s, g in zip(senders, goals, strict=True)),
            "accepted and confirmed again",
            seconds=30,
        )
    finally:
        for each in senders:
            each.stop()
    sent_again = [sure.send(id) for id in sure.unsure]
    site.redis = trio.master.client
    there = {key.removeprefix("{streamq}:task:") for key in site.redis.keys("{streamq}:task:*")}
    lost = {name: set(s.accepted) - there for name, s in (("sure", sure), ("hopeful", hopeful))}

    assert lost["sure"] == set()
    assert lost["hopeful"] != set()
    assert None not in sent_again
    site.env["STREAMQ_URL"] = trio.url
    worker = site.worker("-c", 2)
    site.until(lambda: site.held() == 0, "everything runs", seconds=40)
    assert len(begun(site, "quick")) == len(there | set(sure.unsure))
    assert worker.stop() == 0
    for each in senders:
        close(each.app)
