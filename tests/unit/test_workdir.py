"""The folder that the processes of a worker share, and what becomes of it."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamq.errors import ConfigError
from streamq.runner.shared_memory import SharedMemory
from streamq.worker.workdir import WorkDir, remove_abandoned


@contextmanager
def started():
    """What a worker has while it runs."""
    workdir = WorkDir()
    yield workdir
    workdir.remove()
    for descriptor in (*workdir.opened.values(), workdir.lock):
        os.close(descriptor)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with started() as workdir:
        yield workdir


def test_it_is_private(workdir):
    assert workdir.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("gone", ["folder", "slots"])
def test_what_somebody_removed_leads_to_the_files_that_are_in_use(workdir, gone):
    shared_memory = SharedMemory(workdir.slots, 1, 1)
    if gone == "folder":
        shutil.rmtree(workdir.folder)
    else:
        workdir.slots.unlink()
        workdir.slots.write_bytes(b"")  # whoever looks for it makes another one

    workdir.repair()

    SharedMemory(workdir.slots, 1, 1).of(0).note_start(0, 4, b"9-9")
    (running,) = shared_memory.of(0).running()
    assert running.entry == b"9-9"
    assert workdir.folder.stat().st_mode & 0o777 == 0o700


def test_what_is_there_stays_as_it_is(workdir):
    before = workdir.slots.lstat()

    workdir.repair()

    assert os.path.samestat(before, workdir.slots.lstat())


def test_nothing_is_put_where_somebody_else_has_made_a_folder(workdir, monkeypatch):
    shutil.rmtree(workdir.folder)
    workdir.folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(FileExistsError):
        workdir.repair()

    assert list(workdir.folder.iterdir()) == []


def let_go(workdir):
    """What the kernel does for a worker that was killed."""
    os.close(workdir.lock)
    workdir.lock = os.open(os.devnull, os.O_RDONLY)


def test_a_worker_that_starts_leaves_the_folders_of_others_alone(workdir):
    with started() as other:
        assert workdir.folder.is_dir()
        assert other.folder.is_dir()
    assert workdir.slots.exists()


@pytest.mark.parametrize("tidied", [False, True])
def test_a_folder_is_in_use_for_as_long_as_it_is_locked(workdir, tidied):
    """Whatever is in its name, and also if it had to be made again."""
    if tidied:
        shutil.rmtree(workdir.folder)
        workdir.repair()
    with started():
        assert workdir.slots.exists()

    let_go(workdir)

    with started():
        assert not workdir.folder.exists()


def test_a_folder_that_is_being_made_is_not_taken_for_an_abandoned_one(workdir, monkeypatch):
    """Another worker starts when the folder is there, and not yet locked."""
    drafts = []

    def made_and_seen(**how):
        drafts.append(make(**how))
        remove_abandoned(Path(drafts[-1]).parent)
        return drafts[-1]

    make = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", made_and_seen)

    with started() as other:
        assert other.slots.exists()
    assert len(drafts) == 1


def test_where_nothing_else_can_be_written_it_is_in_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("streamq.worker.workdir.MEMORY", tmp_path)

    with started() as workdir:
        assert workdir.folder.parent == tmp_path


def test_without_any_place_it_says_what_to_set(monkeypatch):
    nowhere = Path("/nonexistent")
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    monkeypatch.setattr("streamq.worker.workdir.MEMORY", nowhere)

    with pytest.raises(ConfigError, match="set TMPDIR"):
        WorkDir()
