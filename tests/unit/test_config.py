"""Where settings come from, which one counts, and what a mistake looks like."""

import copy
import os
import pickle
import re
import runpy
import typing
from pathlib import Path

import pytest

from streamq.config.celery_names import ADVICE
from streamq.config.config import Config
from streamq.config.cpus import cpu_quota, usable_cpus
from streamq.config.settings import ALIASES, LATER, SETTINGS, find
from streamq.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def load(code=None, flags=None, environ=None, folder=None):
    """A configuration that knows nothing of the machine the test runs on."""
    return Config.load(code, flags, environ or {}, folder or Path("/nowhere/at/all"))


def refusal(act):
    with pytest.raises(ConfigError) as refused:
        act()
    return str(refused.value)


# which one counts


def test_a_flag_beats_the_environment_beats_code_beats_a_file_beats_the_default(tmp_path):
    (tmp_path / "streamq.toml").write_text(
        "lease = 1\nshutdown_timeout = 1\nresult_expires = 1\ndead_expires = 1\n"
    )
    config = load(
        code={"lease": 2, "shutdown_timeout": 2, "result_expires": 2},
        environ={"STREAMQ_LEASE": "3", "STREAMQ_SHUTDOWN_TIMEOUT": "3"},
        flags={"lease": 4},
        folder=tmp_path,
    )

    assert config.lease == 4.0
    assert config.shutdown_timeout == 3.0
    assert config.result_expires == 2.0
    assert config.dead_expires == 1.0
    assert config.dedup_window == 600.0


def test_the_origin_of_each_value_is_known(tmp_path):
    (tmp_path / "streamq.toml").write_text("dead-expires = '1d'")
    config = load(
        code={"result_expires": "2d"},
        environ={"STREAMQ_TASK_ACKS_LATE": "no"},
        flags={"concurrency": 3, "worker_name": "w1", "lease": 20},
        folder=tmp_path,
    )

    assert config.origin("dead_expires") == f"streamq.toml ({tmp_path})"
    assert config.origin("result_expires") == "code"
    assert config.origin("acks_late") == "STREAMQ_TASK_ACKS_LATE"
    assert config.origin("task_acks_late") == "STREAMQ_TASK_ACKS_LATE"
    assert config.origin("concurrency") == "--concurrency"
    assert config.origin("worker_name") == "-n"
    assert config.origin("lease") == "--lease"
    assert config.origin("pool") == "default"


def test_an_explicit_url_argument_is_never_overridden():
    everywhere = {"environ": {"STREAMQ_URL": "redis://env"}, "flags": {"url": "redis://flag"}}

    assert load(code={"url": "redis://code"}, **everywhere).url == "redis://code"
    assert load(code={"broker_url": "redis://code"}, **everywhere).url == "redis://code"
    assert load(code={"url": None}, **everywhere).url == "redis://flag"

    assigned = load(environ={"STREAMQ_URL": "redis://env"})
    assigned.url = "redis://assigned"
    assert assigned.url == "redis://env"


def test_an_absent_url_argument_leaves_the_file_its_say(tmp_path):
    (tmp_path / "streamq.toml").write_text('url = "redis://file"')

    assert load(code={"url": None}, folder=tmp_path).url == "redis://file"


def test_assigning_is_codes_word_and_the_environment_still_wins():
    config = load(environ={"STREAMQ_LEASE": "20s"})

    config.acks_late = False
    config["result_expires"] = "2h"
    config.update({"task_serializer": "pickle"}, accept_content=["json", "pickle"])
    config.lease = "10s"

    assert config.acks_late is False
    assert config.result_expires == 7_200.0
    assert config.task_serializer == "pickle"
    assert config["accept_content"] == ("json", "pickle")
    assert config.lease == 20.0


def test_an_update_with_one_mistake_changes_nothing():
    config = Config()

    refusal(lambda: config.update(lease="20s", result_expires="soon"))

    assert config.lease == 15.0
    assert config.origin("lease") == "default"


def test_flags_that_were_not_given_change_nothing():
    config = load(code={"concurrency": 3, "queues": ["mail"]})

    config.with_flags(concurrency=None, queues=())
    assert (config.concurrency, config.queues) == (3, ("mail",))

    config.with_flags(queues="a,b")
    assert (config.concurrency, config.queues) == (3, ("a", "b"))


# where from


def test_the_environment_speaks_text():
    config = load(
        environ={
            "STREAMQ_CONCURRENCY": "3",
            "STREAMQ_ACKS_LATE": "no",
            "STREAMQ_ACCEPT_CONTENT": "json,pickle",
            "STREAMQ_MESSAGE_LIMIT": "2MiB",
            "STREAMQ_MAX_TASKS_PER_CHILD": "none",
            "STREAMQ_LOG_LEVEL": "",
            "HOME": "/root",
        }
    )

    assert config.concurrency == 3
    assert config.acks_late is False
    assert config.accept_content == ("json", "pickle")
    assert config.message_limit == 2 * 1024 * 1024
    assert config.max_tasks_per_child is None
    assert config.origin("log_level") == "default"


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("no", False), ("other", "other")])
def test_on_commit_is_a_truth_or_the_alias_of_a_database(text, value):
    assert load(environ={"STREAMQ_ON_COMMIT": text}).on_commit == value
    assert load(code={"on_commit": value}).on_commit == value


def test_what_code_has_set_can_be_taken_back():
    config = load(code={"lease": "20s"}, environ={"STREAMQ_CONCURRENCY": "3"})
    config.unset(["lease", "concurrency", "namespace"])

    assert config.lease == 15.0
    assert config.origin("lease") == "default"
    assert config.concurrency == 3


def test_the_environment_of_the_process_is_read_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("STREAMQ_LEASE", "42s")
    monkeypatch.chdir(tmp_path)

    assert Config.load().lease == 42.0


@pytest.mark.parametrize(
    "variable",
    [
        "STREAMQ_CHILD_FD",
        "STREAMQ_TEST_SERVER",
        "STREAMQ_SERVER_LOCK",
        "STREAMQ_SERVICE_HOST",
        "STREAMQ_PORT",
        "STREAMQ_PORT_6379_TCP_ADDR",
        "STREAMQ_REDIS_SERVICE_PORT_HTTP",
        "STREAMQ_REDIS_PORT_80_TCP",
        "STREAMQUE",
    ],
)
def test_variables_that_are_no_settings_are_left_alone(variable):
    config = load(environ={variable: "tcp://10.0.0.1:6379"})

    assert all(shown.origin == "default" for shown in config.shown())


def test_the_nearest_file_counts_and_only_that(tmp_path):
    inner = tmp_path / "shop" / "tasks"
    inner.mkdir(parents=True)
    (tmp_path / "streamq.toml").write_text("lease = 20\ndead_expires = 20")
    (tmp_path / "shop" / "pyproject.toml").write_text("[tool.streamq]\nlease = 30")
    (inner / "pyproject.toml").write_text("[project]\ndependencies = ['streamq']")

    config = load(folder=inner)

    assert config.lease == 30.0
    assert config.origin("lease") == f"pyproject.toml ({tmp_path / 'shop'})"
    assert config.origin("dead_expires") == "default"


def test_beside_each_other_streamq_toml_counts(tmp_path):
    (tmp_path / "streamq.toml").write_text("lease = 20")
    (tmp_path / "pyproject.toml").write_text("[tool.streamq]\nlease = 30")

    assert load(folder=tmp_path).lease == 20.0


def test_a_file_of_others_that_is_broken_is_none_of_our_business(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[[[")

    assert load(folder=tmp_path).origin("lease") == "default"


def test_a_broken_file_of_ours_is_named(tmp_path):
    (tmp_path / "streamq.toml").write_text("lease = ")
    assert str(tmp_path / "streamq.toml") in refusal(lambda: load(folder=tmp_path))

    (tmp_path / "streamq.toml").write_bytes(b"# \xff")
    assert "not valid TOML" in refusal(lambda: load(folder=tmp_path))


def test_tool_streamq_must_be_a_table(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\nstreamq = 3")

    assert "is not a table" in refusal(lambda: load(folder=tmp_path))


# mistakes


def test_an_unknown_name_gets_a_suggestion_wherever_it_stands(tmp_path):
    config = Config()
    (tmp_path / "streamq.toml").write_text("concurency = 3")
    place = f"set by  streamq.toml ({tmp_path})"

    in_code = refusal(lambda: load(code={"concurency": 3}))
    assert in_code == "unknown setting 'concurency'\n  → did you mean 'concurrency'?"
    assert refusal(lambda: config.update(concurency=3)) == in_code
    assert refusal(lambda: setattr(config, "concurency", 3)) == in_code
    assert refusal(lambda: config["concurency"]) == in_code
    assert refusal(lambda: config.origin("concurency")) == in_code
    assert refusal(lambda: config.concurency) == in_code
    assert place in refusal(lambda: load(folder=tmp_path))
    assert "did you mean 'STREAMQ_CONCURRENCY'?" in refusal(
        lambda: load(environ={"STREAMQ_CONCURENCY": "3"})
    )
    assert "did you mean '--concurrency'?" in refusal(lambda: load(flags={"concurency": 3}))


def test_an_unknown_attribute_is_an_attribute_error_too():
    assert getattr(Config(), "concurency", "nothing") == "nothing"


@pytest.mark.parametrize("name", sorted(LATER))
def test_settings_of_a_later_version_are_refused_by_name(name):
    wanted = f"not in this version: {name}"
    variable = f"STREAMQ_{name.upper()}"

    assert refusal(lambda: load(code={name: 3})) == wanted
    assert refusal(lambda: getattr(Config(), name)) == wanted
    assert refusal(lambda: load(environ={variable: "3"})).startswith(wanted)
    assert variable in refusal(lambda: load(environ={variable: "3"}))


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_pools_of_a_later_version_are_refused_by_name(pool):
    assert refusal(lambda: load(code={"pool": pool})).startswith(f"not in this version: {pool}")


@pytest.mark.parametrize(
    ("alias", "value", "name", "meant"),
    [
        ("task_acks_late", False, "acks_late", False),
        ("task_ignore_result", True, "ignore_result", True),
        ("task_track_started", False, "track_started", False),
        ("worker_concurrency", 3, "concurrency", 3),
        ("worker_pool", "solo", "pool", "solo"),
        ("worker_max_tasks_per_child", 100, "max_tasks_per_child", 100),
        ("broker_url", "redis://h", "url", "redis://h"),
        ("imports", ["a", "b"], "include", ("a", "b")),
    ],
)
def test_names_of_celery_that_mean_the_same_are_accepted(alias, value, name, meant):
    config = Config()

    config.update({alias: value})

    assert config[name] == config[alias] == getattr(config, alias) == meant


def test_two_names_of_one_setting_are_a_contradiction():
    twice = refusal(lambda: load(code={"acks_late": True, "task_acks_late": False}))

    assert "acks_late is set twice" in twice
    assert "acks_late and task_acks_late" in twice


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("result_backend", "results live in the same Redis as the messages; remove it"),
        ("worker_max_memory_per_child", "max_memory_per_child = '300MB'"),
        ("worker_prefetch_multiplier", "holds only what it can start now"),
        ("broker_transport_options", "no visibility timeout"),
        ("broker_connection_retry_on_startup", "always reconnect"),
        ("redis_max_connections", "look after themselves"),
        ("beat_max_loop_interval", "every worker fires schedules"),
    ],
)
def test_names_of_celery_that_mean_nothing_here_are_explained(name, said):
    explained = refusal(lambda: load(code={name: 3}))

    assert explained.startswith(f"{name} is not a setting here")
    assert said in explained


def test_no_setting_is_both_accepted_and_explained_away():
    assert not (set(SETTINGS) | set(ALIASES)) & (set(ADVICE) | LATER)
    assert not [find(name) for name in SETTINGS if find(name).name != name]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("concurrency", 0, "concurrency must be a whole number, at least 1: 0"),
        ("task_default_priority", 10, "from 0 to 9: 10"),
        ("message_limit", "17MiB", "message_limit must be from 1KiB to 16MiB: '17MiB'"),
        ("max_memory_per_child", 200_000, "max_memory_per_child must be at least 1MiB: 200000"),
        ("lease", "0s", "lease must be at least 500ms: '0s'"),
        ("lease", "soon", "lease is not a duration: 'soon'"),
        ("namespace", "a{b}", "namespace: 'a{b}' cannot be used"),
        ("queues", "mail,a@b", "queues: 'a@b' cannot be used"),
        ("url", "http://:secret@host", "not the address of a Redis: 'http://:***@host'"),
        ("url", "me:secret@host", "not the address of a Redis: 'me:***@host'"),
        ("timezone", "Europe/Berlinn", "did you mean 'Europe/Berlin'?"),
        ("timezone", "../../etc/passwd", "no time zone named"),
        ("log_level", "warn", "did you mean 'warning'?"),
        ("pool", ["prefork"], "pool must be one of prefork, gevent, solo"),
        ("task_routes", "shop.route", "task_routes must be a mapping"),
        ("task_routes", {re.compile("shop.*"): "q"}, "or a glob, not re.compile('shop.*')"),
        ("task_routes", [{re.compile("shop.*"): "q"}], "a function "),
        ("broker", "redis://h", "App('name', url="),
        ("result_expires", None, "result_expires is not a duration: None"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_right(name, value, said):
    assert said in refusal(lambda: load(code={name: value}))


def test_a_wrong_value_says_where_it_stands():
    said = refusal(lambda: load(environ={"STREAMQ_WORKER_CONCURRENCY": "many"}))

    assert said.startswith("concurrency (STREAMQ_WORKER_CONCURRENCY) must be a whole number")


def test_routes_are_set_in_python_only(tmp_path):
    def route(name, *_):
        return {"queue": name}

    (tmp_path / "streamq.toml").write_text('[task_routes]\n"a.*" = "q"')

    assert load(code={"task_routes": route}).task_routes is route
    assert load(code={"task_routes": [{"a.*": {"queue": "q"}}, route]}).task_routes[1] is route
    assert "only be set in Python" in refusal(lambda: load(folder=tmp_path))
    assert "only be set in Python" in refusal(lambda: load(environ={"STREAMQ_TASK_ROUTES": "x"}))


# showing


def test_every_setting_is_shown_with_its_origin_and_no_password():
    config = load(code={"url": "redis://:secret@host/0"}, environ={"STREAMQ_LEASE": "20s"})
    shown = {name: (value, origin) for name, value, origin in config.shown()}

    assert list(shown) == list(SETTINGS) == list(config)
    assert shown["url"] == ("redis://:***@host/0", "code")
    assert shown["lease"] == (20.0, "STREAMQ_LEASE")
    assert repr(config) == "Config(url='redis://:***@host/0', lease=20.0)"
    assert config.url == "redis://:secret@host/0"


def test_a_configuration_can_be_copied_and_pickled():
    config = load(code={"lease": "20s"})

    for twin in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config)):
        twin.lease = "30s"
        assert twin.lease == 30.0
        assert twin.origin("lease") == "code"
    assert config.lease == 20.0


def test_each_setting_is_declared_with_the_type_of_its_value():
    config = Config()
    declared = typing.get_type_hints(Config)

    assert {name for name in declared if not name.startswith("_")} == set(SETTINGS)
    for name in set(SETTINGS) - {"task_routes", "beat_schedule"}:
        kind = typing.get_origin(declared[name]) or declared[name]
        assert isinstance(config[name], declared[name] if kind is not tuple else tuple), name


def test_no_setting_hides_a_method():
    assert not set(vars(Config)) & (set(SETTINGS) | set(ALIASES))


def test_the_page_of_settings_is_up_to_date():
    page = runpy.run_path(str(ROOT / "scripts" / "settings_table.py"))

    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page["render"](), (
        "run: python scripts/settings_table.py"
    )
    assert all(f"| `{name}` |" in page["render"]() for name in SETTINGS)


# CPUs


def groups(root, line, **files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    for place, content in files.items():
        path = root / "sys/fs/cgroup" / place.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_concurrency_is_the_number_of_usable_cpus():
    assert Config().concurrency == usable_cpus()
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


def test_the_tightest_quota_above_a_process_counts(tmp_path):
    root = groups(
        tmp_path,
        "0::/shop/worker",
        shop__cpu_max="150000 100000\n",
        shop__worker__cpu_max="max 100000\n",
    )

    assert cpu_quota(root) == 1.5


def test_a_container_sees_its_own_group_as_the_root(tmp_path):
    assert cpu_quota(groups(tmp_path, "0::/../../outside", cpu_max="50000 100000")) == 0.5


def test_quotas_of_the_first_version_count_too(tmp_path):
    root = groups(
        tmp_path,
        "4:cpu,cpuacct:/docker/abc",
        cpu__cpu_cfs_quota_us="300000\n",
        cpu__cpu_cfs_period_us="100000\n",
    )

    assert cpu_quota(root) == 3.0


def test_without_a_quota_there_is_none(tmp_path):
    root = groups(tmp_path, "4:cpu:/\n0::/", cpu__cpu_cfs_quota_us="-1", cpu_max="max 100000")

    assert cpu_quota(root) is None
    assert cpu_quota(tmp_path / "elsewhere") is None
