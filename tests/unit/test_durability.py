"""The order of what is made durable, on a recorded trace: kills cannot show a missing fsync, a power cut would.

Recorded are the real calls, which are made: fsync of a file or folder (by the path behind its descriptor) and rename.
"""

import os
from pathlib import Path

import pytest

from trainq import files, ingest
from trainq.config import Home
from trainq.journal import Journal

Trace = list[tuple[str, Path]]


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """(what, path) of each call from here on; for a rename the path is the new one."""
    calls: Trace = []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def recorded_rename(self: Path, target: Path) -> Path:
        calls.append(("rename", Path(target)))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    return calls


def assert_published(calls: Trace, path: Path) -> None:
    """``path`` was renamed into place after its content, and its folder's names were made durable after that."""
    at = calls.index(("rename", path))
    assert any(what == "fsync" and where != path.parent for what, where in calls[:at]), "its content, before"
    assert ("fsync", path.parent) in calls[at + 1:], "its name, after"


def test_a_file(tmp_path: Path, trace: Trace) -> None:
    files.write_file(tmp_path / "a", b"content")
    assert [what for what, _ in trace] == ["fsync", "rename", "fsync"]
    assert_published(trace, tmp_path / "a")


def test_a_folder_with_all_that_is_in_it(tmp_path: Path, trace: Trace) -> None:
    with files.publish_directory(tmp_path / "made") as folder:
        (folder / "one").write_bytes(b"1")
        (folder / "sub").mkdir()
        (folder / "sub" / "two").write_bytes(b"2")
    at = trace.index(("rename", tmp_path / "made"))
    before = {where.relative_to(folder).as_posix() for what, where in trace[:at] if what == "fsync"}
    assert before == {"one", "sub/two", "sub", "."}
    assert trace[at + 1:] == [("fsync", tmp_path)]


def test_a_move_makes_both_folders_durable(tmp_path: Path, trace: Trace) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "a").write_bytes(b"")
    files.move(tmp_path / "from" / "a", tmp_path / "to" / "a")
    assert trace == [("rename", tmp_path / "to" / "a"), ("fsync", tmp_path / "to"), ("fsync", tmp_path / "from")]


def test_a_removal(tmp_path: Path, trace: Trace) -> None:
    (tmp_path / "a").write_bytes(b"")
    files.remove_file(tmp_path / "a")
    assert trace == [("fsync", tmp_path)]


def test_a_submitted_file_is_durable_before_its_digest_is_known_to_anybody(tmp_path: Path, trace: Trace) -> None:
    home = Home(tmp_path / "home")
    for folder in home.folders():
        files.make_directory(folder)
    (tmp_path / "a.jsonl").write_bytes(b'{"text":"a"}\n')
    del trace[:]
    stored = ingest.store_file(home, tmp_path / "a.jsonl")
    (path,) = (where for what, where in trace if what == "rename" and where.name == stored.digest)
    assert_published(trace, path)


def test_the_name_of_a_new_journal(tmp_path: Path, trace: Trace) -> None:
    Journal.open(tmp_path / "journal.db").close()
    assert ("fsync", tmp_path) in trace
