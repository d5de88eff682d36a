"""Names of Celery's that projects import: each is there, and is refused only where it is used."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

import streamq.celery
from streamq.celery import exceptions, schedules, signals, states
from streamq.context import NotInThisVersion
from streamq.errors import ConfigError

#: Modules of Celery and kombu → names that projects import from them.
NAMES = {
    "": "Celery shared_task current_app current_task Task AsyncResult EagerResult states "
    "signature Signature chain group chord chunks crontab schedule signals schedules uuid subtask",
    ".app": "app_or_default shared_task",
    ".app.base": "Celery",
    ".app.task": "Task Context",
    ".canvas": "Signature chain chord group signature maybe_signature chunks xmap subtask",
    ".contrib.django.task": "DjangoTask",
    ".contrib.testing.app": "TestApp",
    ".contrib.testing.worker": "start_worker",
    ".contrib.pytest": "celery_app celery_worker celery_config celery_session_app",
    ".exceptions": "SoftTimeLimitExceeded TimeLimitExceeded Retry Ignore Reject "
    "MaxRetriesExceededError NotRegistered WorkerShutdown WorkerTerminate TaskRevokedError "
    "WorkerLostError ImproperlyConfigured TimeoutError CeleryError OperationalError",
    ".kombu": "Queue Exchange binding Connection Producer Consumer serialization uuid",
    ".kombu.common": "Broadcast",
    ".kombu.exceptions": "OperationalError EncodeError DecodeError KombuError",
    ".kombu.serialization": "register",
    ".kombu.utils": "uuid json",
    ".kombu.utils.json": "dumps loads register_type",
    ".result": "AsyncResult EagerResult GroupResult ResultSet ResultBase allow_join_result",
    ".schedules": "crontab schedule solar BaseSchedule maybe_schedule",
    ".signals": "setup_logging worker_process_init task_prerun task_postrun celeryd_init beat_init "
    "before_task_publish after_setup_logger worker_ready task_received",
    ".states": "PENDING SUCCESS READY_STATES UNREADY_STATES ALL_STATES EXCEPTION_STATES",
    ".utils": "uuid cached_property",
    ".utils.log": "get_task_logger get_logger",
}


@pytest.mark.parametrize(("module", "names"), NAMES.items(), ids=[m or "celery" for m in NAMES])
def test_names_can_be_imported_from_where_celery_has_them(module, names):
    found = import_module(f"streamq.celery{module}")

    assert [name for name in names.split() if not hasattr(found, name)] == []


def test_modules_are_attributes_of_the_package():
    script = (
        "import streamq.celery as celery\n"
        "print(celery.signals.task_prerun, celery.states.PENDING, celery.schedules.crontab())"
    )
    said = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert said == "<signal task_prerun> PENDING * * * * *\n"


def test_importing_streamq_loads_nothing_of_it():
    script = (
        "import streamq, sys\n"
        "from streamq import App, Task\n"
        "App('a', url='redis://x').task(name='t')(print)\n"
        "print([name for name in sys.modules if name.startswith('streamq.celery')])"
    )

    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


@pytest.mark.parametrize("name", ["chain", "group", "chord", "chunks", "xmap", "xstarmap"])
def test_workflows_are_refused_by_name_where_they_are_called(name):
    with pytest.raises(NotInThisVersion, match=f"not in this version: {name}"):
        getattr(streamq.celery, name)()


@pytest.mark.parametrize("name", ["GroupResult", "ResultSet"])
def test_results_of_groups_are_refused_where_they_are_made(name):
    with pytest.raises(NotInThisVersion, match=name):
        getattr(streamq.celery, name)("id", [])


def test_a_signal_that_is_never_sent_can_be_connected_and_says_so(caplog):
    @signals.celeryd_init.connect
    def receiver(sender, **kwargs):
        pass

    assert "celeryd_init is never sent: worker_init" in caplog.text


def test_exceptions_are_the_same_classes_as_those_of_streamq():
    for name in exceptions.__all__:
        if name != "TaskPredicate":
            assert issubclass(getattr(exceptions, name), BaseException)
    assert exceptions.SoftTimeLimitExceeded is streamq.SoftTimeLimitExceeded
    assert isinstance(streamq.Retry(), exceptions.TaskPredicate)


def test_states_are_ordered_as_celery_orders_them():
    assert states.state(states.STARTED) > states.state(states.PENDING)
    assert states.state("PROGRESS") < states.state(states.SUCCESS)
    assert states.ALL_STATES == states.READY_STATES | states.UNREADY_STATES


def test_schedules_are_values_that_can_be_compared_and_printed():
    one = schedules.crontab(minute="*/15", hour=[8, 12], day_of_week="mon-fri")
    same = schedules.crontab("0,15,30,45", "8,12", "1-5")

    assert one == same
    assert hash(one) == hash(same)
    assert repr(one) == "<crontab: */15 8,12 * * mon-fri (m/h/dM/MY/d)>"
    assert one.day_of_week == {1, 2, 3, 4, 5}
    assert schedules.crontab(day_of_week="sun") == schedules.crontab(day_of_week=7)
    assert schedules.crontab(hour="22-2").hour == {22, 23, 0, 1, 2}
    assert schedules.crontab(month_of_year="*/3").month_of_year == {1, 4, 7, 10}
    assert repr(schedules.schedule(10)) == "<freq: 10.00 seconds>"
    assert schedules.maybe_schedule(10) == schedules.schedule(10)
    noon = datetime(2026, 12, 1, 12, tzinfo=UTC)
    one.nowfun = lambda: noon + timedelta(minutes=50)
    assert one.is_due(noon) == (True, 69_000)  # 12:15 is over; 8:00 is next
    assert one.is_due(noon + timedelta(minutes=45)) == (False, 69_000)


@pytest.mark.parametrize("wrong", ["60", "x", "*/0", "", -1, "1-", []])
def test_a_field_of_a_crontab_that_cannot_be_read_is_named(wrong):
    with pytest.raises(ConfigError, match="crontab: cannot read minute="):
        schedules.crontab(minute=wrong)


@pytest.mark.timing
def test_importing_celerys_names_costs_little_beside_streamq():
    """Starts six processes, the first of which writes bytecode: two seconds."""
    command = [sys.executable, "-X", "importtime", "-c"]
    command.append("from streamq.celery import Celery, shared_task")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    shares = []
    for _ in range(6):
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        ).stderr
        lines = [line.split("|") for line in said.splitlines() if "[us]" not in line]
        times = {name.strip(): int(own.removeprefix("import time:")) for own, _, name in lines}
        ours = sum(time for name, time in times.items() if name.startswith("streamq.celery"))
        shares.append(ours / (sum(times.values()) - ours))

    assert min(shares[1:]) < 0.1
