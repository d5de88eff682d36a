"""The folder that the processes of a worker share, and what becomes of it."""

import os
import shutil

import pytest

from streamq.runner.slots import Board
from streamq.worker.workplace import Workplace


@pytest.fixture
def workplace():
    workplace = Workplace()
    yield workplace
    workplace.remove()
    for descriptor in workplace.opened.values():
        os.close(descriptor)


def test_it_is_private(workplace):
    assert workplace.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("gone", ["folder", "slots"])
def test_what_somebody_removed_leads_to_the_files_that_are_in_use(workplace, gone):
    board = Board(workplace.slots, 1, 1)
    if gone == "folder":
        shutil.rmtree(workplace.folder)
    else:
        workplace.slots.unlink()
        workplace.slots.write_bytes(b"")  # whoever looks for it makes another one

    workplace.mend()

    Board(workplace.slots, 1, 1).of(0).start(0, 4, b"9-9")
    (running,) = board.of(0).running()
    assert running.entry == b"9-9"
    assert workplace.folder.stat().st_mode & 0o777 == 0o700


def test_what_is_there_stays_as_it_is(workplace):
    before = workplace.slots.lstat()

    workplace.mend()

    assert os.path.samestat(before, workplace.slots.lstat())


def test_nothing_is_put_where_somebody_else_has_made_a_folder(workplace, monkeypatch):
    shutil.rmtree(workplace.folder)
    workplace.folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(FileExistsError):
        workplace.mend()

    assert list(workplace.folder.iterdir()) == []
