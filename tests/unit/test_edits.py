"""A changed checkout for the controls: it is what runs, and the checkout stays as it is."""

from tests.edits import CHECKOUT
from tests.guards.guard import changed_checkout, run

FILE, LINE = "streamq/states.py", '"""The states of a task'

TEST = """
from pathlib import Path
import streamq.states
from streamq.transport.scripts import folder


def test_what_runs_is_the_copy():
    here = Path(__file__).parent
    assert Path(streamq.states.__file__) == here / "streamq" / "states.py"
    assert str(folder()) == str(here / "scripts" / "lua")
    assert streamq.states.__doc__.startswith("Changed")
"""


def test_a_test_of_a_changed_checkout_meets_the_copy_and_its_scripts():
    before = (CHECKOUT / FILE).read_text()

    with changed_checkout(((FILE, LINE, '"""Changed'),)) as folder:
        (folder / "test_copy.py").write_text(TEST)
        done = run(folder, "test_copy.py", seconds=30)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (CHECKOUT / FILE).read_text() == before
