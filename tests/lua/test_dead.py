"""Dead letters: run again as a new generation, deleted for good, brought from elsewhere."""

import contextlib
import json

import pytest
from redis.exceptions import ResponseError

from tests.conftest import Scripts

DEAD = "{streamq}:dead"
#: 40 milliseconds after the beginning of time.
LATER = "local function clock() return 40 end"


@pytest.fixture
def make_dead(consumer, following):
    """``make_dead("a")`` lets a task fail and keeps its letter; fields are the message's."""

    def make_dead(id, reason="unknown task", error="no a", entry=None, **fields):
        entry = entry or consumer.take(id, **fields)
        kept = fields.get("ignore_result") != "1"
        told = {"error_type": "T", "error": error} if kept else {"error": error}
        ending = {"state": "FAILURE"} if kept else {"state": "", "expires": 0}
        end = following(entry, id, "dead_letter", reason, error, **ending, **told)
        assert consumer.follow(end) == "1"
        return id

    return make_dead


@pytest.fixture
def dead_lettered(consumer, make_dead):
    """A task that failed, and its letter."""
    make_dead("a", args="[1]", crashes="2", refusals="5", retries="3")
    assert consumer.letters() == ["a"]
    return consumer


@pytest.fixture
def moved(scripts):
    """``moved("a", at)`` imports a letter that died then; what became of it."""

    def moved(id, at, *pairs, most=3, life=60_000, scripts=scripts, letter=None):
        fields = ("id", id, "task", "tasks.send", "dead_reason", "odd", "dead_at", at, *pairs)
        return scripts("import_letter", "mail", letter or id, at, most, life, *fields)

    return moved


def now(redis):
    seconds, micros = redis.time()
    return seconds * 1000 + micros // 1000


def deaths(history):
    return [json.loads(line) for line in history.split("\n")]


# Put back


def test_a_revived_message_waits_again_as_it_was_without_what_was_noted(dead_lettered, scripts):
    assert scripts("retry_dead", "mail", "a") == 1

    (message,) = dead_lettered.waiting("mail")
    assert message.pop("history")
    assert message == {"id": "a", "task": "tasks.send", "args": "[1]", "generation": "2"}
    assert dead_lettered.letters() == []
    assert dead_lettered.letter("a") == {}
    assert not dead_lettered.redis.exists(DEAD)


def test_a_revived_task_is_a_new_generation_that_remembers(dead_lettered, scripts):
    died = int(dead_lettered.letter("a")["dead_at"])
    dead_lettered.redis.hset("{streamq}:task:a", "enqueued", "123")
    scripts("retry_dead", "mail", "a")

    record = dead_lettered.record("a")
    assert int(record.pop("enqueued")) >= died
    assert deaths(record.pop("history")) == [
        {"at": died, "reason": "unknown task", "error": "no a", "worker": "me", "enqueued": 123}
    ]
    assert record == {
        "state": "QUEUED",
        "task": "tasks.send",
        "queue": "mail",
        "generation": "2",
    }
    assert dead_lettered.redis.pttl("{streamq}:task:a") == -1


def test_a_revived_task_can_end_again_and_be_revived_again(
    dead_lettered, make_dead, scripts, outcome
):
    scripts("retry_dead", "mail", "a")
    (entry,) = dead_lettered.read()
    make_dead("a::2", "rejected", 'again "\n/é\x00\\/', entry=entry)
    scripts("retry_dead", "mail", "a")
    (entry,) = dead_lettered.read()
    dead_lettered.settle(outcome(entry, "a::3", result="5"))

    record = dead_lettered.record("a")
    assert (record["state"], record["generation"]) == ("SUCCESS", "3")
    first, second = deaths(record["history"])
    assert (first["reason"], first["error"]) == ("unknown task", "no a")
    assert (second["reason"], second["error"]) == ("rejected", 'again "\n/é\x00\\/')
    assert dead_lettered.redis.pttl("{streamq}:task:a") > 0


def test_the_history_is_bounded_in_deaths_and_in_what_each_says(consumer, make_dead, scripts):
    entry = None
    for number in range(23):
        name = f"a::{number + 1}" if number else "a"
        make_dead(name, f"reason {number}", "é" * 5000, entry=entry)
        scripts("retry_dead", "mail", "a")
        (entry,) = consumer.read()

    story = deaths(consumer.record("a")["history"])
    assert [death["reason"] for death in story] == [f"reason {n}" for n in range(3, 23)]
    assert all(death["error"] == "é" * 499 + "…" for death in story)


def test_a_letter_whose_record_has_expired_gets_a_new_one(dead_lettered, scripts):
    dead_lettered.redis.delete("{streamq}:task:a")

    scripts("retry_dead", "mail", "a")

    assert dead_lettered.record("a")["state"] == "QUEUED"
    assert deaths(dead_lettered.record("a")["history"])[0]["enqueued"] is None


def test_a_message_that_keeps_no_record_remembers_by_itself(consumer, make_dead, scripts):
    make_dead("a", "rejected", "e", ignore_result="1")

    assert scripts("retry_dead", "mail", "a") == 1

    (message,) = consumer.waiting("mail")
    assert message["ignore_result"] == "1"
    assert deaths(message["history"])[0]["reason"] == "rejected"
    assert consumer.record("a") == {}


def test_an_expiry_that_has_passed_is_dropped_and_told(consumer, make_dead, scripts):
    make_dead("past", expires="1000")
    make_dead("ahead", expires=str(now(consumer.redis) + 60_000))
    make_dead("odd", expires="soon")

    answers = [scripts("retry_dead", "mail", id) for id in ("past", "ahead", "odd")]

    assert answers == [2, 1, 1]
    assert ["expires" in message for message in consumer.waiting("mail")] == [False, True, True]


def test_nothing_is_put_where_no_queue_is_declared(dead_lettered, scripts):
    dead_lettered.redis.hdel("{streamq}:queues", "mail")
    dead_lettered.redis.delete("{streamq}:queue:mail")

    with pytest.raises(ResponseError, match="NOQUEUE"):
        scripts("retry_dead", "mail", "a")

    assert not dead_lettered.redis.exists("{streamq}:queue:mail")
    assert dead_lettered.letters() == ["a"]
    assert dead_lettered.record("a")["state"] == "FAILURE"


@pytest.mark.parametrize(
    ("settings", "priority", "stream"),
    [
        ('{"max_priority":5}', "3", "mail:p3"),
        ('{"max_priority":5}', "9", "mail:p5"),
        ('{"max_priority":5}', "high", "mail"),
        ("{}", "9", "mail"),
    ],
)
def test_a_message_goes_to_the_level_of_its_priority(
    consumer, make_dead, scripts, settings, priority, stream
):
    make_dead("a", priority=priority)
    scripts("declare_queue", "mail", settings)

    scripts("retry_dead", "mail", "a")

    assert [message["id"] for message in consumer.waiting(stream)] == ["a"]
    assert consumer.read(stream)  # its group is there


def test_a_copy_that_runs_again_has_not_ended(consumer, make_dead, scripts):
    base = "{streamq}:task:a"
    consumer.redis.hset(base, mapping={"state": "QUEUED", "copies": "mail:post"})
    make_dead("a@mail")
    make_dead("a@post")
    assert consumer.redis.pttl(base) > 0

    scripts("retry_dead", "mail", "a@post")

    assert consumer.redis.hget(base, "ended") == "1"
    assert consumer.redis.pttl(base) == -1


def test_more_fields_than_a_stream_takes_at_once_stay_where_they_are(consumer, moved, scripts):
    at = now(consumer.redis)
    many = [part for number in range(4500) for part in (f"f{number}", number)]
    assert moved("a", at, *many) == ["kept", 0]

    with pytest.raises(ResponseError, match="TOOLARGE 4504"):
        scripts("retry_dead", "mail", "a")

    assert len(consumer.letter("a")) == 4504
    assert (consumer.waiting("mail"), consumer.record("a")) == ([], {})
    assert scripts("delete_dead", "mail", "a") == 1


def test_there_is_no_letter_to_revive_or_discard_twice(dead_lettered, scripts):
    assert [scripts("retry_dead", "mail", "a") for _ in range(2)] == [1, 0]
    assert len(dead_lettered.waiting("mail")) == 1
    assert scripts("delete_dead", "mail", "a") == 0


def test_a_discarded_letter_is_gone(dead_lettered, scripts):
    assert [scripts("delete_dead", "mail", "a") for _ in range(2)] == [1, 0]

    assert (dead_lettered.letters(), dead_lettered.letter("a")) == ([], {})
    assert not dead_lettered.redis.exists(DEAD)
    assert dead_lettered.record("a")["state"] == "FAILURE"


# Bounds


def test_the_queues_with_letters_are_known_also_when_they_are_deleted(
    dead_lettered, make_dead, scripts
):
    scripts("delete_queue", "mail")

    assert dead_lettered.redis.smembers(DEAD) == {"mail"}
    assert 0 < dead_lettered.redis.pttl(DEAD) <= 60_000


def test_a_store_far_above_its_bounds_shrinks_by_a_hundred_letters_a_call(
    consumer, make_dead, moved
):
    at = now(consumer.redis)
    for number in range(350):
        moved(f"a{number:03}", at + number - 1000, most=500)

    left = []
    for id in "xyzw":
        make_dead(id)  # three are kept
        left.append(len(consumer.letters()))

    assert left == [251, 152, 53, 3]
    assert set(consumer.letters()) <= set("xyzw")  # the imported ones are older
    assert len(consumer.redis.keys("{streamq}:dead:mail:*")) == 3


def test_letters_that_are_too_old_go_first(consumer, make_dead, moved, redis):
    long_ago = Scripts(redis, "{streamq}", LATER)
    moved("old", 40, scripts=long_ago, most=9)
    assert consumer.letters() == ["old"]

    make_dead("new")

    assert consumer.letters() == ["new"]
    assert consumer.letter("old") == {}


# Brought from elsewhere


def test_an_imported_letter_is_as_it_was_with_its_time(consumer, moved):
    at = now(consumer.redis) - 20_000

    assert moved("a", at, "args", "[1]") == ["kept", 0]

    assert consumer.letter("a") == {
        "id": "a", "task": "tasks.send", "args": "[1]", "dead_reason": "odd", "dead_at": str(at)
    }  # fmt: skip
    assert consumer.redis.zscore("{streamq}:dead:mail", "a") == at
    assert 35_000 < consumer.redis.pttl("{streamq}:dead:mail:a") <= 40_000
    assert consumer.redis.smembers(DEAD) == {"mail"}


def test_a_letter_imported_again_is_there_once(consumer, moved):
    at = now(consumer.redis)

    assert [moved("a", at)[0] for _ in range(2)] == ["kept", "known"]
    assert moved("a", at - 1)[0] == "kept"  # another death of the same task
    assert [moved("a", time)[0] for time in (at, at - 1)] == ["known", "known"]
    assert consumer.letters() == ["a#2", "a"]


def test_a_letter_that_was_put_back_is_not_imported_again(dead_lettered, moved, scripts):
    died = dead_lettered.letter("a")["dead_at"]
    scripts("retry_dead", "mail", "a")

    assert moved("a", died)[0] == "known"
    assert dead_lettered.letters() == []
    assert moved("a", int(died) - 1)[0] == "kept"


def test_an_imported_letter_makes_room_for_itself_but_not_for_older_ones(consumer, moved):
    at = now(consumer.redis)
    for number, id in enumerate("abc"):
        moved(id, at - 100 + number)

    assert moved("older", at - 200) == ["full", 0]
    assert moved("newer", at) == ["kept", 1]
    assert consumer.letters() == ["b", "c", "newer"]


def test_a_letter_that_died_too_long_ago_is_not_imported(consumer, moved):
    assert moved("a", now(consumer.redis) - 60_001) == ["expired", 0]
    assert consumer.letters() == []


def test_a_letter_of_a_clock_that_is_ahead_expires_as_one_of_now(consumer, moved):
    moved("a", now(consumer.redis) + 10**9)

    assert consumer.redis.pttl("{streamq}:dead:mail:a") <= 60_000
    assert consumer.redis.zscore("{streamq}:dead:mail", "a") <= now(consumer.redis)


# Each promise, and what happens without the line that keeps it


def kept_once(run, consumer, moved):
    run("mail", "a")
    consumer.redis.hset("{streamq}:task:a", "state", "FAILURE")
    run("mail", "a")
    return len(consumer.waiting("mail")) == 1


def only_where_declared(run, consumer, moved):
    consumer.redis.hdel("{streamq}:queues", "mail")
    with contextlib.suppress(ResponseError):
        run("mail", "a")
    return consumer.waiting("mail") == []


def forgets_what_was_noted(run, consumer, moved):
    run("mail", "a")
    return {"crashes", "retries"}.isdisjoint(consumer.waiting("mail")[0])


def drops_what_has_passed(run, consumer, moved):
    consumer.redis.hset("{streamq}:dead:mail:a", "expires", "1000")
    run("mail", "a")
    return "expires" not in consumer.waiting("mail")[0]


def clears_the_ending(run, consumer, moved):
    run("mail", "a")
    return "error" not in consumer.record("a")


def name_of(part):
    return part.__name__ if callable(part) else ""


REVIVING = [
    (kept_once, "drop_letter(queue, letter)\nreturn expired", "return expired"),
    (only_where_declared, "if not queue_named(queue).declared then", "if false then"),
    (forgets_what_was_noted, "elseif not RUN_FIELDS[name] then", "else"),
    (drops_what_has_passed, "math.huge) <= now then", "math.huge) < 0 then"),
    (clears_the_ending, "sent_again(message, used.next({ id }))", "sent_again(message, 1)"),
]


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "broken"])
@pytest.mark.parametrize(("promise", "line", "instead"), REVIVING, ids=name_of)
def test_what_reviving_promises_rests_on_one_line(
    dead_lettered, moved, changed, promise, line, instead, broken
):
    run = changed("retry_dead", line, instead if broken else line)

    assert promise(run, dead_lettered, moved) is not broken


def once(run, consumer, at):
    for _ in range(2):
        run("mail", "b", at, 9, 60_000, "id", "b", "dead_at", at)
    return consumer.letters() == ["a", "b"]


def not_after_it_was_put_back(run, consumer, at):
    line = json.dumps({"at": at, "reason": "odd"}, separators=(",", ":"))
    consumer.redis.hset("{streamq}:task:b", "history", line)
    run("mail", "b", at, 9, 60_000, "id", "b", "dead_at", at)
    return consumer.letters() == ["a"]


def within_its_life(run, consumer, at):
    run("mail", "b", at - 70_000, 9, 60_000, "id", "b", "dead_at", at - 70_000)
    return consumer.letters() == ["a"]


def within_the_length(run, consumer, at):
    run("mail", "b", at - 1000, 1, 60_000, "id", "b", "dead_at", at - 1000)
    return consumer.letters() == ["a"]


IMPORTING = [
    (once, "'dead_at') == ARGV[3] then", "'dead_at') == false then"),
    (not_after_it_was_put_back, "if was_retried() then", "if false then"),
    (
        within_its_life,
        "if at <= now - limits.life_ms then",
        "limits.life_ms = 90000\nif false then",
    ),
    (within_the_length, "if held >= limits.most then", "limits.most = 2\nif false then"),
]


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "broken"])
@pytest.mark.parametrize(("promise", "line", "instead"), IMPORTING, ids=name_of)
def test_what_importing_promises_rests_on_one_line(
    dead_lettered, changed, promise, line, instead, broken
):
    run = changed("import_letter", line, instead if broken else line)

    assert promise(run, dead_lettered, now(dead_lettered.redis)) is not broken


def test_without_its_bound_one_call_would_drop_any_number(consumer, moved, changed):
    at = now(consumer.redis)
    for number in range(350):
        moved(f"a{number:03}", at + number - 1000, most=500)
    line, instead = "math.min(excess, MOST_TRIMMED)", "excess"

    changed("import_letter", line, instead)("mail", "x", at, 3, 60_000, "id", "x", "dead_at", at)

    assert len(consumer.letters()) == 3
