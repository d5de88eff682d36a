"""`streamq dead` as people and programs use it."""

import json
import os
import subprocess
import zlib
from typing import Any

import pytest

from streamq.transport.keys import Keys
from tests.system.shell import Shell

KEYS = Keys()
DAY = 86_400_000


@pytest.fixture
def died(redis: Any, scripts: Any):
    """``died("mail", "one", ago=5)`` puts a letter there that died so many seconds ago."""

    def died(queue: str, name: str, *, ago: float = 0.0, **fields: Any) -> None:
        seconds, micros = redis.time()
        at = seconds * 1000 + micros // 1000 - int(ago * 1000)
        told = {"id": name, "task": "shop.mail", "args": json.dumps([name]), "kwargs": "{}"}
        dead = {"dead_reason": "unknown task", "dead_error": "no such task", "dead_at": at,
                "dead_worker": "w:1:x"}  # fmt: skip
        pairs = [part for pair in {**told, **dead, **fields}.items() for part in pair]
        assert scripts("import_letter", queue, name, at, 100, 30 * DAY, *pairs)[0] == "kept"

    return died


@pytest.fixture
def mail(bare: Shell, scripts: Any, died: Any) -> Shell:
    """Three letters of `mail`, one of `audit`; the folder has no app."""
    scripts("declare_queue", "mail", "{}")
    scripts("declare_queue", "audit", "{}")
    died("mail", "one", ago=3000)
    died("mail", "two", ago=300, dead_reason="crashed 3 times")
    died("mail", "three", task="shop.bill")
    died("audit", "four", task="shop.bill")
    return bare


def letters(shell: Shell, *words: str) -> set[str]:
    return {letter["letter"] for letter in shell.json("dead", "ls", *words)}


# Looking


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], {"one", "two", "three", "four"}),
        (["mail"], {"one", "two", "three"}),
        (["--task", "shop.bill"], {"three", "four"}),
        (["mail", "--task", "*bill"], {"three"}),
        (["--reason", "CRASH"], {"two"}),
        (["--reason", "unknown*"], {"one", "three", "four"}),
        (["--older", "4m"], {"one", "two"}),
        (["--newer", "1h", "--older", "40m"], {"one"}),
        (["--newer", "10m", "--task", "shop.mail"], {"two"}),
        (["--task", "nothing"], set()),
    ],
)
def test_letters_are_listed_by_queue_task_reason_and_age(mail, words, found):
    assert letters(mail, *words) == found


def test_a_page_says_how_many_more_there_are(mail):
    out = mail.quick("dead", "ls", "mail", "-n", "1")
    assert out.splitlines()[1].split()[:3] == ["mail", "three", "shop.bill"]
    assert out.endswith("… and 2 more in mail: --limit\n")

    assert len(mail.json("dead", "ls", "mail", "--limit", "2")) == 2
    assert mail.err == "… and 1 more in mail: --limit\n"
    out = mail.quick("dead", "ls", "mail", "-n", "1", "--task", "*")
    assert "… and 2 more to look through in mail" in out


def test_a_letter_shows_all_that_a_person_needs(mail, redis, died):
    history = {"at": 1000, "reason": "rejected", "error": "not yet", "worker": "w0", "enqueued": 5}
    died("mail", "five", ago=90, history=json.dumps(history), dead_first_at="7000",
         kwargs='{"to":"\\u001b[31m"}', dead_traceback="Traceback …\n  boom")  # fmt: skip

    said = mail.quick("dead", "show", "mail", "five")

    lines = {
        line.split()[0]: line.split(None, 1)[1]
        for line in said.partition("died before")[0].splitlines()
        if len(line.split()) > 1
    }
    assert said.startswith("shop.mail  five  in mail\n")
    assert (lines["reason"], lines["error"]) == ("unknown task", "no such task")
    assert lines["worker"] == "w:1:x"
    assert lines["died"].endswith("1 m 30 s ago")
    assert lines["first_at"].startswith("19")
    assert "Traceback …\n  boom\n" in said
    assert lines["args"] == '["five"]'
    assert lines["kwargs"] == '{"to": "\\u001b[31m"}'
    assert "rejected: not yet  (w0)" in said
    assert "→ streamq dead retry mail five" in said
    assert "\x1b" not in said
    told = mail.json("dead", "show", "mail", "five")
    assert told["enqueued"] == 0.005
    assert told["history"][0]["at"] == 1.0


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"args": b"\xff\x00["}, "\\xff\\x00["),
        ({"args": b"\x80\x04K\x01.", "content_type": "application/x-python-serialize"}, "\\x80"),
        ({"args": zlib.compress(b"[1, 2]"), "compression": "zlib"}, "[1, 2]"),
        ({"args": b"junk", "compression": "magic"}, "junk"),
        ({"args": "{not json"}, "{not json"),
    ],
)
def test_arguments_are_json_where_they_can_be_read_else_escaped(mail, died, fields, shown):
    died("mail", "odd", **fields)

    said = mail.quick("dead", "show", "mail", "odd")

    (args,) = [line for line in said.splitlines() if line.startswith("  args ")]
    assert args.split(None, 1)[1].startswith(shown)
    assert "\x00" not in said


def test_an_empty_store_is_no_mistake(bare):
    assert bare.quick("dead", "ls") == "no dead letters\n"
    assert bare.json("dead", "ls") == []
    for act in (["retry"], ["delete", "--yes"]):
        assert bare.quick("dead", *act, "--all") == "streamq: no dead letters\n"
    assert bare.quick("dead", "export") == ("streamq: no dead letters\n0 dead letters exported\n")


# Mistakes


@pytest.mark.parametrize("act", ["ls", "retry --all", "delete --all", "export"])
def test_a_queue_nobody_knows_gets_a_suggestion(mail, act):
    verb, *rest = act.split()
    said = mail.quick("dead", verb, "mial", *rest, code=2)

    assert "there is no queue 'mial'" in said
    assert "did you mean 'mail'?" in said


@pytest.mark.parametrize("act", ["show", "retry", "delete", "export"])
def test_a_letter_nobody_knows_gets_a_suggestion(mail, act):
    said = mail.quick("dead", act, "mail", "thre", code=2)

    assert "no dead letter of mail: thre" in said
    assert "did you mean 'three'?" in said
    assert letters(mail) == {"one", "two", "three", "four"}


@pytest.mark.parametrize(
    "words",
    [
        ["retry"],
        ["delete", "mail"],
        ["retry", "mail", "one", "--all"],
        ["delete", "mail", "one", "--task", "shop.*"],
    ],
)
def test_what_is_meant_must_be_said_in_one_way(mail, words):
    assert "select letters: QUEUE LETTER…, filters such as --task, or --all" in mail.quick(
        "dead", *words, code=2
    )


def test_an_age_is_a_duration(mail):
    said = mail.quick("dead", "delete", "--older", "yesterday", code=2)

    assert "--older is not a duration: 'yesterday'" in said
    assert '"5m"' in said


def test_without_redis_every_command_is_code_69(bare, tmp_path):
    (tmp_path / "file").write_text("{}")
    bare.env["STREAMQ_URL"] = "redis://127.0.0.1:1/0"
    for words in ("ls", "show mail one", "retry --all", "delete --all", "export"):
        assert "cannot reach Redis" in bare.quick("dead", *words.split(), code=69)


def test_a_reader_that_goes_away_is_no_error(mail, died):
    for number in range(60):  # more than any pipe holds
        died("mail", f"n{number}", args=json.dumps(["x" * 50_000]))
    for words in (["ls", "--json"], ["export"]):
        reader, writer = os.pipe()
        process = mail.start("dead", *words, stdout=writer, env={"PYTHONUNBUFFERED": ""})
        os.close(writer)
        os.read(reader, 10)
        os.close(reader)
        _, err = process.communicate(timeout=30)

        assert (process.returncode, err) == (141, "")


# Putting back and deleting


def test_letters_are_put_back_by_filters_over_all_queues(mail, redis):
    out = mail.quick("dead", "retry", "--task", "shop.bill")

    assert out == "1 message waiting in audit again\n1 message waiting in mail again\n"
    assert redis.xlen(KEYS.queue("audit")) == 1
    assert letters(mail) == {"one", "two"}


def test_an_expiry_that_has_passed_is_dropped_aloud(mail, died, redis):
    died("mail", "late", expires=1000)

    assert mail.quick("dead", "retry", "mail", "late", "one") == (
        "2 messages waiting in mail again, 1 without their expiry, which had passed\n"
    )


def test_a_letter_too_large_to_be_put_back_stays_and_is_named(mail, died):
    died("mail", "huge", **{f"f{number}": "x" for number in range(4200)})

    assert mail.quick("dead", "retry", "mail", "huge", "one", code=1)

    assert "huge stays: more fields" in mail.err
    assert letters(mail) == {"two", "three", "four", "huge"}
    assert "1 dead letter exported" in mail.quick("dead", "export", "mail", "huge", "-o", "h")


def test_a_letter_whose_id_is_used_again_stays_and_says_so(mail, scripts, redis):
    send = ("", "mail", "one", "none", 1, "", "", "", 0, 1, "task", "shop.mail")
    scripts("publish", "", "", *send)

    out = mail.quick("dead", "retry", "mail", "--all", code=1)

    assert out == "2 messages waiting in mail again\n"
    assert "one stays: its id is used again, by a task that is QUEUED now" in mail.err
    assert letters(mail, "mail") == {"one"}
    redis.hset(KEYS.task("one"), "state", "SUCCESS")
    assert mail.quick("dead", "retry", "mail", "one") == "1 message waiting in mail again\n"
    assert mail.json("result", "one")["generation"] == 2


def test_a_queue_that_is_not_declared_takes_nothing(mail, redis):
    mail.quick("queues", "delete", "mail", "--yes")

    said = mail.quick("dead", "retry", "mail", "--all", code=2)

    assert "queue 'mail' is not declared" in said
    assert "→ start a worker for it first: streamq worker -Q mail" in said
    assert not redis.exists(KEYS.queue("mail"))
    assert letters(mail, "mail") == {"one", "two", "three"}


def test_a_queue_of_the_app_is_declared_again_with_its_bindings(shell, died, redis):
    died("mail", "one")

    assert "1 message waiting in mail again" in shell("dead", "retry", "mail", "one")

    assert shell.json("exchanges", "route", "events", "mail.x")["queues"] == ["mail"]
    assert redis.xinfo_groups(KEYS.queue("mail"))[0]["name"] == "workers"


def test_deleting_says_how_many_and_asks(mail):
    said = mail.quick("dead", "delete", "--reason", "unknown", code=2)
    assert "1 dead letter of audit and 2 dead letters of mail would be deleted" in said
    assert "use --yes" in said
    assert mail.at_terminal("n", "dead", "delete", "mail", "--all")[0] == 1
    assert letters(mail) == {"one", "two", "three", "four"}

    assert mail.at_terminal("y", "dead", "delete", "mail", "one")[0] == 0
    assert letters(mail) == {"two", "three", "four"}
    out = mail.quick("dead", "delete", "--all", "--older", "1m", "--yes")
    assert out == "1 dead letter deleted from mail\n"
    assert letters(mail) == {"three", "four"}


# Moving


def test_letters_move_to_another_namespace_once(mail, redis):
    lines = mail.quick("dead", "export")
    assert mail.err == "4 dead letters exported\n"
    (mail.folder / "letters").write_text(lines)
    mail.env["STREAMQ_NAMESPACE"] = "elsewhere"

    assert mail.quick("dead", "import", "letters") == "4 dead letters imported\n"
    assert mail.quick("dead", "import", "letters") == (
        "0 dead letters imported\n4 known here already\n"
    )

    assert mail.quick("dead", "export") == lines
    assert letters(mail, "mail", "--older", "4m") == {"one", "two"}
    assert mail.json("dead", "show", "mail", "two")["reason"] == "crashed 3 times"
    assert "'mail' is not declared" in mail.quick("dead", "retry", "mail", "two", code=2)


def test_bad_lines_are_told_with_number_and_reason_and_the_others_kept(mail):
    good = mail.quick("dead", "export", "mail", "one").encode()
    mail.quick("dead", "delete", "mail", "one", "--yes")
    (mail.folder / "letters").write_bytes(b'{"queue": 5}\n\n\xff\n' + good + b"[")

    assert mail.quick("dead", "import", "letters", code=1) == "1 dead letter imported\n"

    complaints = mail.err.splitlines()
    assert [line.split(": ")[1] for line in complaints] == ["line 1", "line 3", "line 5"]
    assert "Expected `str`" in complaints[0]
    assert "one" in letters(mail)


def test_importing_keeps_within_the_bounds(mail):
    (mail.folder / "letters").write_text(mail.quick("dead", "export"))
    mail.quick("dead", "delete", "--all", "--yes")
    mail.env |= {"STREAMQ_DEAD_MAX_LENGTH": "1", "STREAMQ_DEAD_EXPIRES": "10m"}

    out = mail.quick("dead", "import", "letters")

    assert out.splitlines() == [
        "3 dead letters imported",
        "1 left out: died longer ago than dead_expires",
        "1 older letter dropped: dead_max_length is 1",
    ]
    assert letters(mail) == {"three", "four"}


def test_a_file_is_written_whole_or_not_at_all_and_not_overwritten_unasked(mail):
    target = mail.folder / "letters"
    mail.quick("dead", "export", "mail", "-o", "letters")
    assert len(target.read_text().splitlines()) == 3

    said = mail.quick("dead", "export", "-o", "letters", code=2)
    assert "letters would be overwritten; standard input is no terminal: use --yes" in said
    assert len(target.read_text().splitlines()) == 3
    mail.quick("dead", "export", "-o", "letters", "--yes")
    assert len(target.read_text().splitlines()) == 4
    assert os.listdir(mail.folder) == ["letters"]
    assert "cannot write nowhere/letters: No such file" in mail.quick(
        "dead", "export", "-o", "nowhere/letters", code=1
    )


def test_what_is_no_file_is_written_to_and_stays_what_it_is(mail):
    pipe = mail.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        mail.quick("dead", "export", "mail", "-o", "pipe")
        assert len(os.read(reader, 65536).splitlines()) == 3
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert "cannot write .: Is a directory" in mail.quick("dead", "export", "-o", ".", code=1)


def test_letters_are_read_from_the_standard_input(mail):
    lines = mail.quick("dead", "export")
    mail.quick("dead", "delete", "--all", "--yes")

    process = mail.start("dead", "import", stdin=subprocess.PIPE)
    out, err = process.communicate(lines, timeout=30)

    assert (out, err, process.returncode) == ("4 dead letters imported\n", "", 0)
