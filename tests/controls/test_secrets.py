"""Controls of `tests/system/test_secrets.py`: what its tests must see is broken on purpose."""

from tests.system.test_secrets import (
    CANARY,
    command_line,
    family,
    guarded,  # noqa: F401 - a fixture
)


def test_control_an_assignment_on_the_command_line_would_show_the_password(guarded):
    guarded.changed_module(
        "streamq/worker/processes.py", "config.write()", "config.write(), config.url"
    )
    worker = guarded.worker("-P", "gevent", "-c", 2)

    lines = b"\n".join(command_line(pid) for pid in family(worker.pid))

    assert CANARY.encode() in lines
