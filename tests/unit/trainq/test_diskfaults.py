"""A fault comes at its place, once or for ever; and what the machine does is never the fault of a file."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.watcher import inbox
from trainq import checkpoints, diskfaults, files, ingest, locks, manifests, modelfolder, shards
from trainq.config import Home
from trainq.errors import StorageError, StorageFullError
from trainq.journal import Journal


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    diskfaults.disarm()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """None can be opened: the limit is what is open already (a real EMFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("entry", "failing"), [("EIO:2:once", [2]), ("EIO:2:ever", [2, 3, 4])])
def test_its_place_and_how_often(entry: str, failing: list[int]) -> None:
    diskfaults.arm_from_environment({diskfaults.ENVIRONMENT_KEY: entry})
    failed = []
    for number in range(1, 5):
        try:
            diskfaults.reach("x")
        except OSError as error:
            failed += [number] * (error.errno == errno.EIO)
    assert failed == failing
    assert diskfaults.disarm() == (4, len(failing))
    diskfaults.reach("x")


@pytest.mark.parametrize("entry", ["EIO:0:once", "EPERM:1:once", "EIO:1:twice"])
def test_what_is_no_fault(entry: str) -> None:
    with pytest.raises(ValueError, match=r"EIO|EPERM"):
        diskfaults.arm_from_environment({diskfaults.ENVIRONMENT_KEY: entry})


def test_without_descriptors_no_file_is_refused_and_none_claimed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}")
    with no_descriptors():
        with pytest.raises(StorageError, match="Too many open files"):
            ingest.store_file(Home(tmp_path), tmp_path / "a.jsonl")
        assert inbox.has_writer(tmp_path / "a.jsonl")
    assert not inbox.has_writer(tmp_path / "a.jsonl")


def test_without_descriptors_no_shard_is_taken_for_damaged(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"1234")
    with no_descriptors(), pytest.raises(StorageError, match="Too many open files"):
        shards._open_array(tmp_path / "tokens", 4)


def test_a_lock_is_held_though_there_is_no_room_for_the_pid(tmp_path: Path) -> None:
    diskfaults.arm("ENOSPC", 2, for_ever=True)
    locks.acquire_lock(tmp_path / "lock", "test").release()
    assert diskfaults.disarm() == (2, 1)


def test_a_folder_whose_name_is_not_durable_is_made_again(tmp_path: Path) -> None:
    diskfaults.arm("EIO", 2, for_ever=False)
    with pytest.raises(StorageError, match="made"):
        files.make_directory(tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_no_head_is_reported_whose_name_may_not_be_durable(tmp_path: Path) -> None:
    diskfaults.arm("EIO", 1, for_ever=False)
    with pytest.raises(StorageError, match=os.strerror(errno.EIO)):
        checkpoints.newest_verified(tmp_path)
    assert checkpoints.newest_verified(tmp_path) == (None, [])


def test_a_journal_that_cannot_be_folded_is_closed_all_the_same(tmp_path: Path) -> None:
    diskfaults.count()
    journal = Journal.open(tmp_path / "j")
    identity = journal.journal_id
    diskfaults.arm("ENOSPC", 1, for_ever=True)
    journal.close()
    assert diskfaults.disarm()[1]
    again = Journal.open(tmp_path / "j")
    assert again.journal_id == identity
    again.close()


def test_a_full_journal_says_so(tmp_path: Path) -> None:
    diskfaults.arm("EDQUOT", 3, for_ever=True)
    with pytest.raises(StorageFullError, match="no room"):
        Journal.open(tmp_path / "j")


def test_without_descriptors_no_claim_is_taken_for_empty_and_removed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for folder in home.folders():
        files.make_directory(folder)
    (home.inbox / "a.jsonl").write_bytes(b"{}")
    (entry,) = inbox.sweep(home)
    claimed = inbox.claim(home, entry)
    assert claimed is not None
    with no_descriptors():
        for act in (inbox.leftover_claims, inbox.unreported_refusals, inbox.sweep):
            with pytest.raises((OSError, StorageError), match="Too many open files"):
                act(home)
        with pytest.raises(StorageError, match="Too many open files"):
            inbox._inside(claimed.path.parent)
        with pytest.raises(StorageError, match="Too many open files"):
            inbox.reported_reason(home, claimed.id)
    assert [each.path for each in inbox.leftover_claims(home)] == [claimed.path]


def test_without_descriptors_no_manifest_is_made_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1234")
    with no_descriptors(), pytest.raises(StorageError, match="Too many open files"):
        manifests.seal(tmp_path, "test", {})
    assert manifests.seal(tmp_path, "test", {}).files.keys() == {"weights"}


def test_without_descriptors_a_file_cannot_even_be_named_and_that_is_the_machines_fault(tmp_path: Path) -> None:
    with no_descriptors():
        for act in (files.temporary_beside, files.sweep_temporaries):
            with pytest.raises(StorageError, match="Too many open files"):
                act(tmp_path)
        with pytest.raises(StorageError, match="Too many open files"):
            modelfolder.context_tokens(tmp_path)
