"""Census: the command lines of 13 projects, as their compose files and units have them."""

import shlex

import click
import pytest

from streamq import App
from streamq.cli.beat import beat
from streamq.cli.command import GivenOptions
from streamq.cli.main import main
from streamq.cli.worker import maximum_of, worker
from streamq.cli.worker_files import name_worker
from streamq.worker.services.heartbeat import node_name

#: Options of ``celery worker`` as they were found → what is said of them; None for those used.
OPTIONS = {
    "--loglevel=INFO": None,
    "-l info": None,
    "--app=proj": None,
    "-A proj": None,
    "-A proj.celery:app": None,
    "--pool=solo": None,
    "-P gevent": None,
    "--concurrency=4": None,
    "-c 1": None,
    "--hostname=worker1@%h": None,
    "-n default@%%h": None,
    "-Q celery,mail": None,
    "--queues=low": None,
    "--max-tasks-per-child=100": None,
    "--max-memory-per-child 300000": None,
    "--logfile=/var/log/celery.log": None,
    "--pidfile=/tmp/celery.pid": None,
    "--uid=nobody --gid=nogroup": None,
    "--autoscale=10,2": None,
    "--autoscale=1,15": None,
    "--without-gossip": "workers do not talk",
    "--without-mingle": "revocations are in Redis",
    "--without-heartbeat": "renew leases",
    "-E": "states and workers are kept in Redis",
    "--events": "states and workers are kept in Redis",
    "-B": "every worker fires schedules",
    "-Ofair": "a runner that is free",
    "-O fair": "a runner that is free",
    "--prefetch-multiplier=1": "reads ahead",
    "--statedb=/var/run/state": "revocations are in Redis",
}


@pytest.mark.parametrize("group", ["worker", "celery -A proj worker"])
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_of_a_worker_is_used_or_answered_by_one_line(option, group, capsys):
    words = shlex.split(option)
    parent = click.Context(main, info_name="streamq", obj=GivenOptions(celery="celery" in group))

    with worker.make_context("worker", words, parent=parent) as context:
        said = capsys.readouterr().err
        says = OPTIONS[option]
        if says is None:
            assert said == ""
            assert [value for value in context.params.values() if value] or context.obj.app
        else:
            assert len(said.splitlines()) == 1
            assert says in said


@pytest.mark.parametrize(
    ("given", "celery", "node"),
    [
        ("web", True, "celery@web"),
        ("web", False, "web@host"),
        ("web@%h", True, "web@host"),
        ("%h", True, "celery@host"),
        (None, True, "celery@host"),
    ],
)
def test_a_worker_has_the_name_that_celery_would_give_it(given, celery, node):
    app = App("proj")
    flags = {} if given is None else {"worker_name": given}

    name_worker(app, flags, celery=celery)

    assert node_name(app.conf.worker_name, "host") == node


@pytest.mark.parametrize("value", ["15", "15,1", "1,15", "9,15"])
def test_the_numbers_of_autoscale_may_change_places(value):
    assert maximum_of(value) == "15"


@pytest.mark.parametrize(
    "words",
    [
        "-l info --pidfile= -s /var/run/celerybeat-schedule",
        "--scheduler django_celery_beat.schedulers:DatabaseScheduler --max-interval 60",
        "",
    ],
)
def test_beat_takes_its_options(words, capsys):
    parent = click.Context(main, info_name="streamq", obj=GivenOptions(celery=True))
    with beat.make_context("beat", shlex.split(words), parent=parent):
        for line in capsys.readouterr().err.splitlines():
            assert "not needed: " in line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("celery -A proj flower --port=5555", "streamq workers ls"),
        ("flower", "streamq workers ls"),
        ("celery -A proj inspect active", "streamq workers show WORKER"),
        ("celery -A proj inspect stats", "streamq workers ls"),
        ("celery -A proj multi start w1", "one unit of systemd"),
    ],
)  # fmt: skip
def test_commands_that_do_not_exist_say_what_to_type_instead(line, says, capsys):
    assert main.run(shlex.split(line), GivenOptions()) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "line",
    ["status", "celery -A shop status", "inspect ping", "celery -A shop inspect ping -d w1@host",
     "celery inspect ping --timeout 5"],
)  # fmt: skip
def test_health_checks_answer_from_redis(line, broker, package, monkeypatch, capsys):
    package("shop", **{"__init__.py": "from streamq.celery import Celery\napp = Celery('shop')\n"})
    monkeypatch.setenv("STREAMQ_URL", broker)

    assert main.run(shlex.split(line), GivenOptions()) == 69
    assert "no worker is up" in capsys.readouterr().err


def test_the_level_fatal_is_critical():
    with worker.make_context("worker", ["-l", "FATAL"]) as context:
        assert context.params["log_level"] == "critical"


@pytest.mark.parametrize("line", ["worker -Q", "celery -A shop worker -c", "worker --burst=1"])
def test_an_option_with_a_wrong_count_of_values_names_the_help(line, capsys):
    assert main.run(shlex.split(line), GivenOptions()) == 2
    said = capsys.readouterr().err
    assert said.startswith("streamq: option")
    assert "worker --help" in said
