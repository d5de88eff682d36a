"""Messages for later, straight at Redis: kept until they are due, then moved once."""

import pytest

from streamq.transport.scripts import Script, load
from tests.conftest import Scripts

HOUR = 3_600_000
BOUNDS = (100, HOUR)


def at(moment):
    """A clock that stands still, in milliseconds."""
    return f"local function clock() return {moment} end"


class Times:
    """Scripts at a moment that the test chooses; it begins at 1 000 000."""

    def __init__(self, redis, root):
        self.redis, self.root, self.now = redis, root, 1_000_000

    def run(self, name, *argv):
        return Scripts(self.redis, self.root, at(self.now))(name, *argv)

    def send(self, id, *, key="mail", due="", expires="", priority="", keep=1, **fields):
        pairs = [part for pair in {"task": "t", **fields}.items() for part in pair]
        head = ("", key, id, 0, keep, priority, due, expires, 0)
        return self.run("publish", "", "", *head, len(pairs) // 2, *pairs)

    def promote(self, limit=100):
        return self.run("promote", limit, HOUR, *BOUNDS)


@pytest.fixture
def times(redis, scripts, keys):
    scripts("declare_queue", "mail", "{}")
    return Times(redis, keys.root)


@pytest.fixture
def waiting(redis, keys):
    """The ids that wait in a stream."""

    def waiting(stream="mail"):
        return [fields["id"] for _, fields in redis.xrange(keys.queue(stream))]

    return waiting


def test_a_message_for_later_lies_by_its_moment_and_its_record_says_so(times, redis, keys, waiting):
    assert times.send("a", due="+5000", args="[1]") == ["mail"]

    assert waiting() == []
    assert redis.zrange(keys.scheduled, 0, -1, withscores=True) == [("a", 1_005_000)]
    assert redis.hgetall(keys.later("a")) == {
        **{"id": "a", "task": "t", "args": "[1]", "eta": "1005000", "scheduled_for": "mail"}
    }
    record = redis.hgetall(keys.task("a"))
    assert (record["state"], record["eta"]) == ("SCHEDULED", "1005000")


def test_it_waits_until_it_is_due_and_is_moved_once(times, redis, keys, waiting):
    times.send("a", due="+5000")

    times.now += 4_999
    assert times.promote() == [0, "1005000", 1_004_999, []]
    times.now += 1
    assert times.promote() == [1, "", 1_005_000, []]
    assert times.promote()[0] == 0

    assert waiting() == ["a"]
    assert redis.hget(keys.task("a"), "state") == "QUEUED"
    assert redis.keys("{streamq}:scheduled*") == []


def test_without_the_look_at_the_clock_it_would_come_at_once(times, redis, keys, waiting):
    times.send("a", due="+5000")
    text = load("promote", at(times.now)).text
    guard = "redis.call('ZRANGE', scheduled, '-inf', now, 'BYSCORE'"
    assert text.count(guard) == 1
    script = Script("promote", text.replace(guard, guard.replace("now", "'+inf'")))
    redis.script_load(script.text)

    redis.execute_command(*script.command(keys.root, 100, HOUR, *BOUNDS))

    assert waiting() == ["a"]


def test_what_is_due_already_goes_to_its_queue_at_once(times, waiting, redis, keys):
    times.send("a", due="+0")
    times.send("b", due="5")

    assert waiting() == ["a", "b"]
    assert redis.hget(keys.task("a"), "state") == "QUEUED"


def test_many_are_moved_in_the_order_in_which_they_are_due(times, waiting):
    for number in (3, 1, 2, 5, 4):
        times.send(f"t{number}", due=f"+{number}")
    times.now += 10

    assert times.promote(limit=2)[:2] == [2, "1000003"]
    assert waiting() == ["t1", "t2"]
    assert times.promote()[0] == 3
    assert waiting() == ["t1", "t2", "t3", "t4", "t5"]


def test_priorities_are_kept(times, waiting, scripts):
    scripts("declare_queue", "ranked", '{"max_priority":5}')
    times.send("a", key="ranked", due="+1", priority=9)
    times.now += 1
    times.promote()

    assert waiting("ranked:p5") == ["a"]


def test_a_priority_that_the_queue_has_no_more_leads_where_workers_look(times, waiting, scripts):
    scripts("declare_queue", "ranked", '{"max_priority":5}')
    times.send("a", key="ranked", due="+1", priority=9)
    scripts("delete_queue", "ranked")
    scripts("declare_queue", "ranked", '{"max_priority":2}')
    times.now += 1
    times.promote()

    assert waiting("ranked:p2") == ["a"]
    assert waiting("ranked:p5") == []


def test_two_of_one_id_are_kept_apart(times, waiting):
    times.send("a", due="+1")
    times.send("a", due="+2")
    times.now += 5
    times.promote()

    assert waiting() == ["a", "a"]


def test_a_message_for_several_queues_is_for_later_in_each(times, waiting, scripts):
    scripts("declare_exchange", "news", "fanout", "")
    for queue in ("one", "two"):
        scripts("declare_queue", queue, "{}")
        scripts("bind", "news", "queue", queue, "")
    head = ("news", "", "a", 0, 1, "", "+5", "", 0)

    assert times.run("publish", "", "", *head, 1, "task", "t") == ["one:two"]
    times.now += 5
    times.promote()

    assert (waiting("one"), waiting("two")) == (["a@one"], ["a@two"])


def test_what_expires_before_it_is_due_ends_as_revoked(times, redis, keys, waiting):
    times.send("a", due="+5000", expires="+1000")
    times.now += 5000
    times.promote()

    record = redis.hgetall(keys.task("a"))
    assert (record["state"], record["reason"]) == ("REVOKED", "expired")
    assert redis.pttl(keys.task("a")) > 0
    assert waiting() == []


def test_what_leads_to_a_deleted_queue_becomes_a_dead_letter(times, redis, keys, scripts):
    times.send("a", due="+5")
    scripts("delete_queue", "mail")
    times.now += 5
    times.promote()

    assert redis.hget(keys.dead_letter("mail", "a"), "dead_reason") == "queue gone"
    assert redis.hget(keys.task("a"), "state") == "FAILURE"
    assert not redis.exists(keys.queue("mail"))


def test_who_sleeps_hears_of_an_earlier_moment_and_of_no_other(times, redis, keys):
    listener = redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.notices)
    listener.get_message(timeout=1)

    times.send("a", due="+5000")
    times.send("b", due="+9000")
    times.send("c", due="+1000")

    heard = []
    while message := listener.get_message(timeout=0.2):
        heard.append(message["data"])
    listener.close()
    assert heard == ["due 1005000", "due 1001000"]


def test_a_message_says_when_it_expires_by_the_servers_clock(times, redis, keys):
    times.send("a", expires="+1000")
    times.send("b", expires="7000000")

    said = [fields["expires"] for _, fields in redis.xrange(keys.queue("mail"))]
    assert said == ["1001000", "7000000"]


@pytest.mark.parametrize(
    ("expires", "due", "moments"),
    [
        ("", "", (None, "1002000")),
        ("+500", "", ("1000500", "1002000")),
        ("", "+100", (None, "1002100")),
    ],
)
def test_no_message_waits_longer_than_its_queue_allows(
    times, redis, keys, scripts, expires, due, moments
):
    scripts("declare_queue", "brief", '{"message_ttl":2000}')

    times.send("a", key="brief", expires=expires, due=due)
    times.now += 100
    times.promote()

    ((_, fields),) = redis.xrange(keys.queue("brief"))
    assert (fields.get("expires"), fields["stale"]) == moments


def test_a_message_that_has_expired_is_known_by_the_servers_clock(times):
    assert times.run("check_start", "a", "", "1000000", "b", "", "1000001", "c", "", "") == "e11"
    assert times.run("check_start", "a", "", "soon") == "1"


@pytest.mark.parametrize("asked", ["soon", "-5", "1.5", "9" * 16, "0", "000"])
def test_a_life_of_its_record_that_is_none_keeps_no_task_from_its_end(times, redis, keys, asked):
    times.send("a", due="+5000", expires="+1000", result_expires=asked)
    times.now += 5000

    assert times.promote()[0] == 1

    assert redis.hget(keys.task("a"), "state") == "REVOKED"
    assert 0 < redis.pttl(keys.task("a")) <= HOUR
