"""Ticks, straight at Redis: each moment once, in one act with what follows."""

import pytest

from streamq.transport.scripts import Script, load
from tests.conftest import Scripts
from tests.lua.test_scheduled import at

HOUR = 3_600_000
START = 1_000_000
GAP = 10_000


class Clocked:
    """Scripts at a moment that the test chooses, and a schedule of every ten seconds."""

    def __init__(self, redis, root):
        self.redis, self.root, self.now = redis, root, START

    def run(self, name, *argv):
        return Scripts(self.redis, self.root, at(self.now))(name, *argv)

    def declare(
        self, name="beat", revision="r1", *, first=START + GAP, owed="", order=0, source="code",
        **more,
    ):  # fmt: skip
        fields = {"task": "t", "when": revision, "gap": GAP, **more}
        pairs = [part for pair in fields.items() for part in pair]
        argv = (source, order, name, revision, first, owed, len(fields), *pairs)
        return self.run("declare_schedules", *argv)[0]

    def arguments(
        self, expected=START + GAP, *, name="beat", revision="r1", resumed="", next=None,
        missed=0, nominal=None, id=None, overlap="allow", final=0, key="mail", exchange="", keep=1,
    ):  # fmt: skip
        next = expected + GAP if next is None else next
        nominal = expected if nominal is None else nominal
        id = f"{name}-{nominal}" if id is None else id
        rest = (HOUR, HOUR, "SIGTERM", 60_000)
        tick = (name, expected, revision, resumed, next, missed, nominal, id, overlap, final, *rest)
        message = (exchange, key, id, "none", keep, "", "", "", 0, 2, "task", "t", "tick", nominal)
        return (*tick, *(message if id else ()))

    def tick(self, *expected, **told):
        return self.run("tick", *self.arguments(*expected, **told))


@pytest.fixture
def clocked(redis, scripts, keys):
    scripts("declare_queue", "mail", "{}")
    found = Clocked(redis, keys.root)
    assert found.declare() == ["new", str(START + GAP), "", ""]
    found.now += GAP
    return found


@pytest.fixture
def sent(redis, keys):
    """The ids that wait in a queue."""

    def sent(queue="mail"):
        return [fields["id"] for _, fields in redis.xrange(keys.queue(queue))]

    return sent


def runs(redis, keys, name="beat"):
    return [fields for _, fields in redis.xrange(keys.schedule_runs(name))]


def test_a_moment_is_sent_once_and_the_next_one_stands(clocked, redis, keys, sent):
    clocked.now += 7

    assert clocked.tick() == ["done", f"beat-{START + GAP}"]
    assert clocked.tick() == ["moved", str(START + 2 * GAP)]

    assert sent() == [f"beat-{START + GAP}"]
    assert redis.zscore(keys.schedules, "beat") == START + 2 * GAP
    record = redis.hgetall(keys.task(f"beat-{START + GAP}"))
    assert (record["state"], record["queue"]) == ("QUEUED", "mail")
    about = redis.hgetall(keys.schedule("beat"))
    assert (about["last"], about["last_late_ms"]) == (str(START + GAP), "7")
    assert runs(redis, keys) == [
        {
            "tick": str(START + GAP), "outcome": "done", "missed": "0",
            "id": f"beat-{START + GAP}", "late_ms": "7",
        }
    ]  # fmt: skip


def test_without_the_comparison_it_is_sent_twice(clocked, redis, keys, sent):
    """The control: two workers that both find the moment due."""
    guard = "if score ~= expected then"
    text = load("tick", at(clocked.now)).text
    assert text.count(guard) == 1
    script = Script("tick", text.replace(guard, "if not score then"))
    redis.script_load(script.text)

    for worker in ("1", "2"):
        argv = clocked.arguments(id=f"beat-{worker}")
        redis.execute_command(*script.command(keys.root, *argv))

    assert len(sent()) == 2


def test_a_moment_that_is_not_due_is_not_sent(clocked, sent):
    clocked.now -= 1

    assert clocked.tick() == ["early", str(START + GAP - 1)]
    assert sent() == []


def test_only_code_that_declares_what_redis_has_fires_it(clocked, sent):
    assert clocked.tick(revision="r0") == ["other"]
    assert clocked.declare(revision="r2")[0] == "changed"
    assert clocked.tick() == ["other"]
    assert sent() == []
    assert clocked.tick(revision="r2")[0] == "done"


@pytest.mark.parametrize(
    ("next", "why"),
    [
        (START + GAP, "not-after-the-last"),
        (START, "not-after-the-last"),
        (START + 3 * GAP + 31_622_400_000, "too-far-away"),
        ("soon", "not-a-number"),
    ],
)
def test_a_next_moment_that_cannot_be_right_is_refused(clocked, redis, keys, sent, next, why):
    assert clocked.tick(next=next) == ["bad", why]
    assert sent() == []
    assert redis.zscore(keys.schedules, "beat") == START + GAP


def test_a_message_that_cannot_be_sent_is_left_out_and_the_next_moment_stands(
    clocked, redis, keys, sent
):
    assert clocked.tick(key="nowhere") == ["refused", "UNROUTABLE 0  nowhere"]
    assert redis.zscore(keys.schedules, "beat") == START + GAP
    assert runs(redis, keys) == []

    assert clocked.tick(key="nowhere", final=1)[0] == "refused"
    assert redis.zscore(keys.schedules, "beat") == START + 2 * GAP
    assert redis.hget(keys.schedule("beat"), "failed") == "1"
    (run,) = runs(redis, keys)
    assert (run["outcome"], run["error"]) == ("failed", "UNROUTABLE 0  nowhere")


def test_a_full_queue_and_one_out_of_ids_refuse(clocked, redis, keys, scripts):
    scripts("declare_queue", "small", '{"max_length":0}')
    scripts("declare_queue", "last", "{}")
    redis.xadd(keys.queue("last"), {"id": "x"}, id="18446744073709551615-18446744073709551615")

    assert clocked.tick(key="small")[1].startswith("QUEUEFULL 0 small")
    assert clocked.tick(key="last") == ["refused", "OUTOFIDS 0 last"]


def test_a_fan_out_reaches_every_queue(clocked, redis, keys, scripts, sent):
    scripts("declare_queue", "other", "{}")
    scripts("declare_exchange", "all", "fanout", "")
    for queue in ("mail", "other"):
        scripts("bind", "all", "queue", queue, "")

    assert clocked.tick(exchange="all", key="")[0] == "done"

    id = f"beat-{START + GAP}"
    assert (sent(), sent("other")) == ([f"{id}@mail"], [f"{id}@other"])
    assert redis.hget(keys.task(id), "copies") == "mail:other"


def test_a_last_moment_ends_the_schedule(clocked, redis, keys):
    assert clocked.tick(next="")[0] == "done"

    assert redis.zscore(keys.schedules, "beat") is None
    for key in (keys.schedule("beat"), keys.schedule_runs("beat")):
        assert 0 < redis.pttl(key) <= 7 * 24 * HOUR
    assert clocked.declare() == ["same", "", "", "r1"]


def test_missed_moments_are_counted(clocked, redis, keys, sent):
    assert clocked.tick(missed=3)[0] == "done"
    clocked.now += 5 * GAP
    assert clocked.tick(START + 2 * GAP, missed=4, nominal="", id="") == ["missed"]

    assert redis.hget(keys.schedule("beat"), "missed") == "7"
    assert [run["outcome"] for run in runs(redis, keys)] == ["done", "missed"]
    assert len(sent()) == 1


class Test_overlap:
    def again(self, clocked, overlap):
        assert clocked.tick()[0] == "done"
        clocked.now += GAP
        return clocked.tick(START + 2 * GAP, overlap=overlap)

    @pytest.mark.parametrize("state", ["QUEUED", "STARTED", "RETRY", "SCHEDULED"])
    def test_skip_leaves_a_moment_out_while_the_last_run_has_not_ended(
        self, clocked, redis, keys, sent, state
    ):
        clocked.tick()
        redis.hset(keys.task(f"beat-{START + GAP}"), "state", state)
        clocked.now += GAP

        assert clocked.tick(START + 2 * GAP, overlap="skip") == ["skipped"]
        assert len(sent()) == 1
        assert redis.hget(keys.schedule("beat"), "skipped") == "1"
        assert redis.zscore(keys.schedules, "beat") == START + 3 * GAP

    def test_skip_runs_when_the_last_run_has_ended_or_its_record_is_gone(
        self, clocked, redis, keys, sent
    ):
        clocked.tick()
        redis.hset(keys.task(f"beat-{START + GAP}"), "state", "SUCCESS")
        clocked.now += GAP
        assert clocked.tick(START + 2 * GAP, overlap="skip")[0] == "done"
        redis.delete(keys.task(f"beat-{START + 2 * GAP}"))
        clocked.now += GAP
        assert clocked.tick(START + 3 * GAP, overlap="skip")[0] == "done"

    def test_all_copies_of_a_fan_out_count(self, clocked, redis, keys, scripts):
        scripts("declare_queue", "other", "{}")
        scripts("declare_exchange", "all", "fanout", "")
        for queue in ("mail", "other"):
            scripts("bind", "all", "queue", queue, "")
        clocked.tick(exchange="all", key="")
        clocked.now += GAP
        id = f"beat-{START + GAP}"

        redis.hset(keys.task(id), "ended", 1)
        assert clocked.tick(START + 2 * GAP, overlap="skip") == ["skipped"]
        clocked.now += GAP
        redis.hset(keys.task(id), "ended", 2)
        assert clocked.tick(START + 3 * GAP, overlap="skip")[0] == "done"

    def test_replace_revokes_the_last_run(self, clocked, redis, keys, sent):
        assert self.again(clocked, "replace")[0] == "done"

        assert redis.hget(keys.task(f"beat-{START + GAP}"), "state") == "REVOKED"
        assert redis.hget(keys.task(f"beat-{START + 2 * GAP}"), "state") == "QUEUED"
        assert redis.zrange(keys.revoked, 0, -1) == [f"beat-{START + GAP}"]

    def test_allow_leaves_it_alone(self, clocked, redis, keys, sent):
        assert self.again(clocked, "allow")[0] == "done"

        assert redis.hget(keys.task(f"beat-{START + GAP}"), "state") == "QUEUED"
        assert len(sent()) == 2


class Test_declarations:
    def test_the_newest_counts_and_what_has_happened_stays(self, clocked, redis, keys):
        clocked.tick()

        assert clocked.declare(revision="r2", first=START + 5 * GAP, tz="UTC") == [
            "changed", str(START + 5 * GAP), "", "r1",
        ]  # fmt: skip

        about = redis.hgetall(keys.schedule("beat"))
        assert (about["when"], about["tz"], about["before"]) == ("r2", "UTC", "r1")
        assert about["last_id"] == f"beat-{START + GAP}"

    def test_the_same_changes_nothing(self, clocked):
        assert clocked.declare(first=START + 77) == ["same", str(START + GAP), "", "r1"]

    def test_a_moment_that_it_has_too_stays_unless_it_was_sent_meanwhile(self, clocked):
        assert clocked.declare(revision="r2", first=START + 9 * GAP, owed=START + GAP) == [
            "changed", str(START + GAP), "", "r1",
        ]  # fmt: skip
        assert clocked.tick(revision="r2")[0] == "done"
        assert clocked.declare(first=START + 9 * GAP, owed=START + GAP)[1] == str(START + 9 * GAP)

    def test_a_turn_back_is_told(self, clocked):
        clocked.declare(revision="r2")

        assert clocked.declare(revision="r1")[0] == "back"

    def test_a_higher_schedule_revision_stays(self, clocked):
        assert clocked.declare(revision="r2", order=7)[0] == "changed"
        assert clocked.declare(revision="r1", order=6) == ["older", str(START + GAP), "", "r2"]
        assert clocked.declare(revision="r3", order=7)[0] == "changed"

    def test_code_and_api_do_not_replace_each_other(self, clocked):
        assert clocked.declare(revision="r2", source="api")[0] == "foreign"
        assert clocked.declare("mine", source="api")[0] == "new"
        assert clocked.declare("mine", "r2")[0] == "foreign"

    def test_one_that_has_no_moment_left_is_kept_out(self, clocked, redis, keys):
        assert clocked.declare("over", first="") == ["new", "", "", ""]
        assert redis.zscore(keys.schedules, "over") is None


class Test_pauses:
    def test_a_paused_schedule_does_not_fire_until_it_is_resumed(self, clocked, redis, keys, sent):
        assert clocked.run("change_schedule", "pause", "beat", "") == 1
        assert clocked.tick() == ["moved", "inf"]
        assert clocked.declare()[:2] == ["same", "inf"]

        clocked.now += 3 * GAP
        assert clocked.run("change_schedule", "resume", "beat", "") == 1
        assert redis.zscore(keys.schedules, "beat") == START + GAP
        resumed = redis.hget(keys.schedule("beat"), "resumed")
        assert resumed == str(clocked.now)
        assert clocked.tick() == ["other"], "who does not know of the pause would run what fell in"
        assert clocked.tick(resumed=resumed, nominal="", id="") == ["missed"]
        assert runs(redis, keys) == [], "nothing was missed"

    def test_a_change_during_the_pause_counts_after_it(self, clocked, redis, keys):
        clocked.run("change_schedule", "pause", "beat", "")
        assert clocked.declare(revision="r2", first=START + 9 * GAP)[:2] == ["changed", "inf"]
        clocked.run("change_schedule", "resume", "beat", "")

        assert redis.zscore(keys.schedules, "beat") == START + 9 * GAP

    def test_pausing_twice_keeps_the_moment(self, clocked, redis, keys):
        for how in ("pause", "pause", "resume", "resume"):
            assert clocked.run("change_schedule", how, "beat", "") == 1
        assert redis.zscore(keys.schedules, "beat") == START + GAP
        assert clocked.run("change_schedule", "pause", "none", "") == 0

    def test_remove(self, clocked, redis, keys):
        clocked.tick()
        assert clocked.run("change_schedule", "remove", "beat", START) == 0
        assert clocked.run("change_schedule", "remove", "beat", "") == 1

        assert redis.keys("{streamq}:schedule*") == []


def test_no_more_than_fifty_runs_are_kept(clocked, redis, keys):
    for number in range(1, 60):
        clocked.now = START + number * GAP
        assert clocked.tick(START + number * GAP)[0] == "done"

    assert len(runs(redis, keys)) == 50
