"""Controls of `tests/system/test_signed.py`: what its tests must see is broken on purpose."""

from tests.system.test_signed import sealed  # noqa: F401 - a fixture


def test_control_without_the_check_it_is_run(sealed):
    sealed.changed_module(
        "streamq/execution/executor.py",
        'return self.outcomes.dead_lettered(delivery, error, "signature")',
        "pass; signed = True",
    )
    sealed.worker("-c", 1)

    assert sealed.new_app().enqueue("tasks.echo", "forged").get(timeout=10) == "forged"
