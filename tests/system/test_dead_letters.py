"""Messages that cannot be run: put aside with the reason, and never looked into."""

import pickle

import pytest

from streamq.admin.dead_letter import parse_history
from streamq.errors import ContentDisallowed, DecodeError, TaskNotFound, WorkerLost

TASKS = """
@app.task
def echo(word: str = ""):
    return word
"""

PICKLE = "application/x-python-serialize"


class Touch:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def served(site):
    site.write(TASKS)
    site.worker("-c", 1)
    return site


def add(site, **fields):
    """Add an entry to the queue by hand; return its Result."""
    entry = site.redis.xadd("{streamq}:queue:default", fields)
    return site.app.result(fields.get("id") or f"default-{entry}")


def letter_of(site, result):
    return site.redis.hgetall(f"{{streamq}}:dead:default:{result.id}")


def retrying(site, *words):
    """`streamq dead retry`, begun."""
    line = ["streamq", "dead", "retry", *words]
    return site.python(f"import sys; from streamq.cli.main import main; sys.argv = {line}; main()")


def retry(site, *words):
    process = retrying(site, *words)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err


UNFIT = [
    ({"task": "tasks.ecko"}, "unknown task", TaskNotFound),
    ({"word": "no task at all"}, "no task", DecodeError),
    ({"task": "tasks.echo", "args": "[1,"}, "undecodable message", DecodeError),
    ({"task": "tasks.echo", "args": "{}"}, "undecodable message", DecodeError),
    ({"task": "tasks.echo", "kwargs": "[]"}, "undecodable message", DecodeError),
    ({"task": "tasks.echo", "args": b"\xff\x00\xfe"}, "undecodable message", DecodeError),
    ({"task": b"\xff\xfe", "id": "odd"}, "unknown task", TaskNotFound),
    (
        {"task": "tasks.echo", "content_type": "application/x-yaml", "args": "[]"},
        "content type not accepted",
        ContentDisallowed,
    ),
    (
        {"task": "tasks.echo", "content_type": "a/b", "args": "[]"},
        "content type not accepted",
        ContentDisallowed,
    ),
    (
        {"task": "tasks.echo", "content_type": b"\xff", "args": "[]"},
        "undecodable message",
        DecodeError,
    ),
    (
        {"task": "tasks.echo", "compression": "zlib", "args": "junk"},
        "undecodable message",
        DecodeError,
    ),
    (
        {"task": "tasks.echo", "compression": "magic", "args": "[]"},
        "undecodable message",
        DecodeError,
    ),
]


@pytest.mark.parametrize("id", ["", "bad@{id}:", "x" * 300_000])
def test_a_message_that_cannot_be_called_so_is_called_after_its_entry(served, id):
    entry = served.redis.xadd("{streamq}:queue:default", {"task": "tasks.echo", "id": id})

    with pytest.raises(DecodeError, match=r"the id .* cannot be used"):
        served.app.result(f"default-{entry}").get(timeout=10)

    assert served.redis.keys("{streamq}:dead:default:*") == [
        f"{{streamq}}:dead:default:default-{entry}"
    ]
    assert "x" * 300 not in served.workers[-1].said
    served.at_rest()


def test_arguments_that_do_not_fit_fail_the_task(served):
    result = add(served, task="tasks.echo", args='["a", "b", "c"]')

    with pytest.raises(TypeError):
        result.get(timeout=10)
    served.at_rest()


def test_odd_fields_do_no_harm(served):
    odd = [
        {"crashes": "many", "max_deliveries": "few", "acks_late": "perhaps"},
        {"acks_late": "0", "track_started": "x", "result_expires": "soon"},
        {"headers": "not json", "priority": "high"},
        {"id": "with space and ünïcode"},
        {"id": "a@b@c"},
    ]
    for fields in odd:
        entry = served.redis.xadd(
            "{streamq}:queue:default", {"task": "tasks.echo", "args": '["x"]', **fields}
        )
        id = fields.get("id", f"default-{entry}")
        key = f"{{streamq}}:task:{id}"
        served.until(lambda key=key: served.redis.hget(key, "state") == "SUCCESS", str(fields))
    served.at_rest()


@pytest.mark.parametrize("count", [100, 3_000, 9_000])
def test_fields_that_nobody_knows_do_no_harm_however_many(served, count):
    fields = {f"unknown-{number}": "x" * 20 for number in range(count)}

    many = add(served, id="many", task="tasks.echo", args='["x"]', **fields)
    lost = add(served, id="lost", task="tasks.echo", args="[", **fields)

    assert many.get(timeout=10) == "x"
    with pytest.raises(DecodeError):
        lost.get(timeout=10)
    letter = letter_of(served, lost)
    assert letter["args"] == "["
    assert len(letter) >= count
    assert add(served, id="next", task="tasks.echo").get(timeout=10) == ""
    served.at_rest()


def test_the_pickle_is_loaded_where_it_was_asked_for(site):
    site.write(TASKS)
    site.env["STREAMQ_ACCEPT_CONTENT"] = "json,pickle"
    site.worker("-c", 1)
    trap = site.folder / "trap"

    add(site, task="tasks.echo", content_type=PICKLE, args=pickle.dumps((Touch(trap),)))

    site.until(trap.exists)


def test_a_failure_that_names_a_class_never_imports_it(served):
    result = add(served, task="tasks.echo", id="x")
    assert result.get(timeout=10) == ""
    for name in ("this.Odd", "builtins.SystemExit", "os.system", "builtins.print"):
        key = "{streamq}:task:forged"
        served.redis.hset(key, mapping={"state": "FAILURE", "error_type": name, "error": "e"})
        with pytest.raises(Exception, match="e") as caught:
            served.app.result("forged").get(timeout=5)
        assert type(caught.value).__name__ == "TaskError"
    served.redis.delete("{streamq}:task:forged")


def test_a_dead_letter_whose_task_has_come_runs_again(site):
    site.write(TASKS)
    worker = site.worker("-c", 1)
    result = site.send("later", 5)
    with pytest.raises(TaskNotFound):
        result.get(timeout=10)
    worker.stop()
    site.write(TASKS + "\n@app.task\ndef later(number):\n    return number + 1\n")
    site.worker("-c", 1)

    retry(site, "default", result.id)

    assert site.app.result(result.id).get(timeout=10) == 6
    assert site.redis.zcard("{streamq}:dead:default") == 0
    site.at_rest()


# Put back


POISON = """
@app.task
def poison():
    note("ran")
    if not (HERE / "cured").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "well"
"""


def poisoned(site):
    """A task that killed its runners as often as it may; its Result."""
    site.write(POISON)
    site.worker("-c", 1)
    result = site.send("poison")
    with pytest.raises(WorkerLost):
        result.get(timeout=30)
    assert letter_of(site, result)["crashes"] == "3"
    return result


def test_a_message_that_killed_its_runners_begins_anew_when_it_is_put_back(site):
    result = poisoned(site)
    runs = len(site.notes())

    retry(site, "default", result.id)
    with pytest.raises(WorkerLost):
        site.app.result(result.id).get(timeout=30)

    assert len(site.notes()) == 2 * runs
    assert len(parse_history(letter_of(site, result)["history"])) == 1
    (site.folder / "cured").touch()
    retry(site, "default", result.id)
    assert result.get(timeout=10) == "well"
    assert (result.state, len(site.notes())) == ("SUCCESS", 2 * runs + 1)
    record = site.app.result(result.id).record()
    assert len(parse_history(record["history"].decode())) == 2
    site.at_rest()


def test_letters_put_back_by_two_at_once_under_load_run_once_each(site):
    site.write(TASKS)
    worker = site.worker("-c", 2)
    results = site.send_many("count", 300)
    site.until(lambda: site.redis.zcard("{streamq}:dead:default") == 300, "all are dead_lettered")
    worker.stop()
    site.write("@app.task\ndef count(number):\n    note(number)\n    return number\n")
    site.worker("-c", 2)

    both = [retrying(site, "--task", "tasks.count") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, out + err

    assert [result.get(timeout=20) for result in results] == list(range(300))
    assert sorted(map(int, site.notes())) == list(range(300))
    site.at_rest()
