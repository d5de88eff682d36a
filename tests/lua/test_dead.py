"""Dead letters: run again as a new generation, deleted for good, brought from elsewhere."""

import contextlib
import json

import pytest
from redis.exceptions import ResponseError

from streamq.transport.scripts import load
from tests.conftest import Scripts

DEAD = "{streamq}:dead"
#: 40 milliseconds after the beginning of time.
LATER = "local function clock() return 40 end"


@pytest.fixture
def bury(desk, following):
    """``bury("a")`` lets a task fail and keeps its letter; fields are the message's."""

    def bury(id, reason="unknown task", error="no a", entry=None, **fields):
        entry = entry or desk.take(id, **fields)
        kept = fields.get("ignore_result") != "1"
        told = {"error_type": "T", "error": error} if kept else {"error": error}
        ending = {"state": "FAILURE"} if kept else {"state": "", "expires": 0}
        end = following(entry, id, "bury", reason, error, **ending, **told)
        assert desk.settle(end) == "1"
        return id

    return bury


@pytest.fixture
def buried(desk, bury):
    """A task that failed, and its letter."""
    bury("a", args="[1]", crashes="2", refusals="5", retries="3")
    assert desk.letters() == ["a"]
    return desk


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


def test_a_revived_message_waits_again_as_it_was_without_what_was_noted(buried, scripts):
    assert scripts("revive", "mail", "a") == 1

    (message,) = buried.waiting("mail")
    assert message.pop("history")
    assert message == {"id": "a", "task": "tasks.send", "args": "[1]", "generation": "2"}
    assert buried.letters() == []
    assert buried.letter("a") == {}
    assert not buried.redis.exists(DEAD)


def test_a_revived_task_is_a_new_generation_that_remembers(buried, scripts):
    died = int(buried.letter("a")["dead_at"])
    buried.redis.hset("{streamq}:task:a", "enqueued", "123")
    scripts("revive", "mail", "a")

    record = buried.record("a")
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
    assert buried.redis.pttl("{streamq}:task:a") == -1


def test_a_revived_task_can_end_again_and_be_revived_again(buried, bury, scripts, outcome):
    scripts("revive", "mail", "a")
    (entry,) = buried.read()
    bury("a::2", "rejected", 'again "\n/é\x00\\/', entry=entry)
    scripts("revive", "mail", "a")
    (entry,) = buried.read()
    buried.complete(outcome(entry, "a::3", result="5"))

    record = buried.record("a")
    assert (record["state"], record["generation"]) == ("SUCCESS", "3")
    first, second = deaths(record["history"])
    assert (first["reason"], first["error"]) == ("unknown task", "no a")
    assert (second["reason"], second["error"]) == ("rejected", 'again "\n/é\x00\\/')
    assert buried.redis.pttl("{streamq}:task:a") > 0


def test_the_history_is_bounded_in_deaths_and_in_what_each_says(desk, bury, scripts):
    entry = None
    for number in range(23):
        name = f"a::{number + 1}" if number else "a"
        bury(name, f"reason {number}", "é" * 5000, entry=entry)
        scripts("revive", "mail", "a")
        (entry,) = desk.read()

    story = deaths(desk.record("a")["history"])
    assert [death["reason"] for death in story] == [f"reason {n}" for n in range(3, 23)]
    assert all(death["error"] == "é" * 499 + "…" for death in story)


def test_a_letter_whose_record_has_expired_gets_a_new_one(buried, scripts):
    buried.redis.delete("{streamq}:task:a")

    scripts("revive", "mail", "a")

    assert buried.record("a")["state"] == "QUEUED"
    assert deaths(buried.record("a")["history"])[0]["enqueued"] is None


def test_a_message_that_keeps_no_record_remembers_by_itself(desk, bury, scripts):
    bury("a", "rejected", "e", ignore_result="1")

    assert scripts("revive", "mail", "a") == 1

    (message,) = desk.waiting("mail")
    assert message["ignore_result"] == "1"
    assert deaths(message["history"])[0]["reason"] == "rejected"
    assert desk.record("a") == {}


def test_an_expiry_that_has_passed_is_dropped_and_told(desk, bury, scripts):
    bury("past", expires="1000")
    bury("ahead", expires=str(now(desk.redis) + 60_000))
    bury("odd", expires="soon")

    answers = [scripts("revive", "mail", id) for id in ("past", "ahead", "odd")]

    assert answers == [2, 1, 1]
    assert ["expires" in message for message in desk.waiting("mail")] == [False, True, True]


def test_nothing_is_put_where_no_queue_is_declared(buried, scripts):
    buried.redis.hdel("{streamq}:queues", "mail")
    buried.redis.delete("{streamq}:queue:mail")

    with pytest.raises(ResponseError, match="NOQUEUE"):
        scripts("revive", "mail", "a")

    assert not buried.redis.exists("{streamq}:queue:mail")
    assert buried.letters() == ["a"]
    assert buried.record("a")["state"] == "FAILURE"


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
    desk, bury, scripts, settings, priority, stream
):
    bury("a", priority=priority)
    scripts("declare_queue", "mail", settings)

    scripts("revive", "mail", "a")

    assert [message["id"] for message in desk.waiting(stream)] == ["a"]
    assert desk.read(stream)  # its group is there


def test_a_copy_that_runs_again_has_not_ended(desk, bury, scripts):
    base = "{streamq}:task:a"
    desk.redis.hset(base, mapping={"state": "QUEUED", "copies": "mail:post"})
    bury("a@mail")
    bury("a@post")
    assert desk.redis.pttl(base) > 0

    scripts("revive", "mail", "a@post")

    assert desk.redis.hget(base, "ended") == "1"
    assert desk.redis.pttl(base) == -1


def test_more_fields_than_a_stream_takes_at_once_stay_where_they_are(desk, moved, scripts):
    at = now(desk.redis)
    many = [part for number in range(4500) for part in (f"f{number}", number)]
    assert moved("a", at, *many) == ["kept", 0]

    with pytest.raises(ResponseError, match="TOOLARGE 4504"):
        scripts("revive", "mail", "a")

    assert len(desk.letter("a")) == 4504
    assert (desk.waiting("mail"), desk.record("a")) == ([], {})
    assert scripts("discard", "mail", "a") == 1


def test_there_is_no_letter_to_revive_or_discard_twice(buried, scripts):
    assert [scripts("revive", "mail", "a") for _ in range(2)] == [1, 0]
    assert len(buried.waiting("mail")) == 1
    assert scripts("discard", "mail", "a") == 0


def test_a_discarded_letter_is_gone(buried, scripts):
    assert [scripts("discard", "mail", "a") for _ in range(2)] == [1, 0]

    assert (buried.letters(), buried.letter("a")) == ([], {})
    assert not buried.redis.exists(DEAD)
    assert buried.record("a")["state"] == "FAILURE"


# Bounds


def test_the_queues_with_letters_are_known_also_when_they_are_deleted(buried, bury, scripts):
    scripts("delete_queue", "mail")

    assert buried.redis.smembers(DEAD) == {"mail"}
    assert 0 < buried.redis.pttl(DEAD) <= 60_000


def test_a_store_far_above_its_bounds_shrinks_by_a_hundred_letters_a_call(desk, bury, moved):
    at = now(desk.redis)
    for number in range(350):
        moved(f"a{number:03}", at + number - 1000, most=500)

    left = []
    for id in "xyzw":
        bury(id)  # three are kept
        left.append(len(desk.letters()))

    assert left == [251, 152, 53, 3]
    assert set(desk.letters()) <= set("xyzw")  # the imported ones are older
    assert len(desk.redis.keys("{streamq}:dead:mail:*")) == 3


def test_letters_that_are_too_old_go_first(desk, bury, moved, redis):
    long_ago = Scripts(redis, "{streamq}", LATER)
    moved("old", 40, scripts=long_ago, most=9)
    assert desk.letters() == ["old"]

    bury("new")

    assert desk.letters() == ["new"]
    assert desk.letter("old") == {}


# Brought from elsewhere


def test_an_imported_letter_is_as_it_was_with_its_time(desk, moved):
    at = now(desk.redis) - 20_000

    assert moved("a", at, "args", "[1]") == ["kept", 0]

    assert desk.letter("a") == {
        "id": "a", "task": "tasks.send", "args": "[1]", "dead_reason": "odd", "dead_at": str(at)
    }  # fmt: skip
    assert desk.redis.zscore("{streamq}:dead:mail", "a") == at
    assert 35_000 < desk.redis.pttl("{streamq}:dead:mail:a") <= 40_000
    assert desk.redis.smembers(DEAD) == {"mail"}


def test_a_letter_imported_again_is_there_once(desk, moved):
    at = now(desk.redis)

    assert [moved("a", at)[0] for _ in range(2)] == ["kept", "known"]
    assert moved("a", at - 1)[0] == "kept"  # another death of the same task
    assert [moved("a", time)[0] for time in (at, at - 1)] == ["known", "known"]
    assert desk.letters() == ["a#2", "a"]


def test_a_letter_that_was_put_back_is_not_imported_again(buried, moved, scripts):
    died = buried.letter("a")["dead_at"]
    scripts("revive", "mail", "a")

    assert moved("a", died)[0] == "known"
    assert buried.letters() == []
    assert moved("a", int(died) - 1)[0] == "kept"


def test_an_imported_letter_makes_room_for_itself_but_not_for_older_ones(desk, moved):
    at = now(desk.redis)
    for number, id in enumerate("abc"):
        moved(id, at - 100 + number)

    assert moved("older", at - 200) == ["crowded", 0]
    assert moved("newer", at) == ["kept", 1]
    assert desk.letters() == ["b", "c", "newer"]


def test_a_letter_that_died_too_long_ago_is_not_imported(desk, moved):
    assert moved("a", now(desk.redis) - 60_001) == ["expired", 0]
    assert desk.letters() == []


def test_a_letter_of_a_clock_that_is_ahead_expires_as_one_of_now(desk, moved):
    moved("a", now(desk.redis) + 10**9)

    assert desk.redis.pttl("{streamq}:dead:mail:a") <= 60_000
    assert desk.redis.zscore("{streamq}:dead:mail", "a") <= now(desk.redis)


# Each promise, and what happens without the line that keeps it


@pytest.fixture
def changed(redis):
    """``changed("revive", line, instead)`` runs a script in which one line is another."""

    def changed(name, line, instead):
        text = load(name).text
        assert text.count(line) == 1, f"{name}.lua has changed: {line!r}"
        return lambda *argv: redis.eval(text.replace(line, instead), 1, "{streamq}", *argv)

    return changed


def kept_once(run, desk, moved):
    run("mail", "a")
    desk.redis.hset("{streamq}:task:a", "state", "FAILURE")
    run("mail", "a")
    return len(desk.waiting("mail")) == 1


def only_where_declared(run, desk, moved):
    desk.redis.hdel("{streamq}:queues", "mail")
    with contextlib.suppress(ResponseError):
        run("mail", "a")
    return desk.waiting("mail") == []


def forgets_what_was_noted(run, desk, moved):
    run("mail", "a")
    return {"crashes", "retries"}.isdisjoint(desk.waiting("mail")[0])


def drops_what_has_passed(run, desk, moved):
    desk.redis.hset("{streamq}:dead:mail:a", "expires", "1000")
    run("mail", "a")
    return "expires" not in desk.waiting("mail")[0]


def clears_the_ending(run, desk, moved):
    run("mail", "a")
    return "error" not in desk.record("a")


def name_of(part):
    return part.__name__ if callable(part) else ""


REVIVING = [
    (kept_once, "drop_letter(queue, letter)\nreturn expired", "return expired"),
    (only_where_declared, "if not settings then", "settings = settings or '{}'\nif false then"),
    (forgets_what_was_noted, "elseif not NOTES[name] then", "else"),
    (drops_what_has_passed, "math.huge) <= now then", "math.huge) < 0 then"),
    (clears_the_ending, "  used.begin(id, generation, kept)\n", ""),
]


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "broken"])
@pytest.mark.parametrize(("promise", "line", "instead"), REVIVING, ids=name_of)
def test_what_reviving_promises_rests_on_one_line(
    buried, moved, changed, promise, line, instead, broken
):
    run = changed("revive", line, instead if broken else line)

    assert promise(run, buried, moved) is not broken


def once(run, desk, at):
    for _ in range(2):
        run("mail", "b", at, 9, 60_000, "id", "b", "dead_at", at)
    return desk.letters() == ["a", "b"]


def not_after_it_was_put_back(run, desk, at):
    line = json.dumps({"at": at, "reason": "odd"}, separators=(",", ":"))
    desk.redis.hset("{streamq}:task:b", "history", line)
    run("mail", "b", at, 9, 60_000, "id", "b", "dead_at", at)
    return desk.letters() == ["a"]


def within_its_life(run, desk, at):
    run("mail", "b", at - 70_000, 9, 60_000, "id", "b", "dead_at", at - 70_000)
    return desk.letters() == ["a"]


def within_the_length(run, desk, at):
    run("mail", "b", at - 1000, 1, 60_000, "id", "b", "dead_at", at - 1000)
    return desk.letters() == ["a"]


IMPORTING = [
    (once, "'dead_at') == ARGV[3] then", "'dead_at') == false then"),
    (not_after_it_was_put_back, "if put_back() then", "if false then"),
    (
        within_its_life,
        "if at <= now - limits.life_ms then",
        "limits.life_ms = 90000\nif false then",
    ),
    (within_the_length, "if held >= limits.most then", "limits.most = 2\nif false then"),
]


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "broken"])
@pytest.mark.parametrize(("promise", "line", "instead"), IMPORTING, ids=name_of)
def test_what_importing_promises_rests_on_one_line(buried, changed, promise, line, instead, broken):
    run = changed("import_letter", line, instead if broken else line)

    assert promise(run, buried, now(buried.redis)) is not broken


def test_without_its_bound_one_call_would_drop_any_number(desk, moved, changed):
    at = now(desk.redis)
    for number in range(350):
        moved(f"a{number:03}", at + number - 1000, most=500)
    line, instead = "math.min(excess, TRIMMED_AT_ONCE)", "excess"

    changed("import_letter", line, instead)("mail", "x", at, 3, 60_000, "id", "x", "dead_at", at)

    assert len(desk.letters()) == 3
