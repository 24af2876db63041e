"""The inbox on a real file system: claims, leftovers, refusals."""

import os
from pathlib import Path

import orjson
import pytest

from services.watcher import inbox
from services.watcher.settling import EntryKind
from trainq import files
from trainq.config import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    for folder in made.folders():
        files.make_directory(folder)
    return made


def drop(home: Home, name: str, content: str = "{}") -> None:
    path = home.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_a_sweep_finds_files_in_sub_folders_and_follows_no_link(home: Home, tmp_path: Path) -> None:
    drop(home, "a.jsonl")
    drop(home, "deep/er/b.jsonl")
    drop(home, ".hidden/c.jsonl")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "d.jsonl").write_text("{}")
    (home.inbox / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(home.inbox / "pipe.jsonl")
    found = {entry.name: entry.kind for entry in inbox.sweep(home)}
    assert found == {"a.jsonl": EntryKind.FILE, "deep/er/b.jsonl": EntryKind.FILE, "link": EntryKind.SYMLINK,
                     "pipe.jsonl": EntryKind.SPECIAL}


def test_a_writer_is_noticed(home: Home) -> None:
    drop(home, "a.jsonl")
    path = home.inbox / "a.jsonl"
    with path.open("a"):
        assert inbox.has_writer(path)
    assert not inbox.has_writer(path)


def test_a_claim_keeps_the_name_and_survives_a_crash(home: Home) -> None:
    drop(home, "sub/a.jsonl", "x")
    claimed = inbox.claim(home, inbox.sweep(home)[0])
    assert claimed is not None
    assert inbox.sweep(home) == []
    assert inbox.leftover_claims(home) == [claimed]
    assert (claimed.shown_name, claimed.folder, claimed.path.read_text()) == ("sub/a.jsonl", "sub", "x")
    inbox.discard(home, claimed)
    assert inbox.leftover_claims(home) == []
    assert list(home.claimed.iterdir()) == []


def test_a_crash_before_the_rename_leaves_an_empty_claim_that_goes(home: Home) -> None:
    (home.claimed / "abc").mkdir()
    assert inbox.leftover_claims(home) == []
    assert list(home.claimed.iterdir()) == []


def test_leftovers_come_oldest_first(home: Home) -> None:
    for name, time in (("b.jsonl", 100), ("a.jsonl", 200)):
        drop(home, name)
        os.utime(home.inbox / name, (time, time))
    for entry in inbox.sweep(home):
        inbox.claim(home, entry)
    assert [claimed.name for claimed in inbox.leftover_claims(home)] == ["b.jsonl", "a.jsonl"]


def test_a_file_that_vanished_is_no_claim(home: Home) -> None:
    drop(home, "a.jsonl")
    entry = inbox.sweep(home)[0]
    (home.inbox / "a.jsonl").unlink()
    assert inbox.claim(home, entry) is None
    assert list(home.claimed.iterdir()) == []


@pytest.mark.parametrize("name", ["a.csv", "n" * 251 + ".csv", os.fsdecode(b"caf\xe9.csv"), "new\nline.csv"])
def test_a_refused_file_is_kept_with_a_report(home: Home, name: str) -> None:
    drop(home, name, "content")
    claimed = inbox.claim(home, inbox.sweep(home)[0])
    assert claimed is not None
    report = inbox.refuse(home, claimed, "because")
    found = orjson.loads(report.read_bytes())
    assert found["reason"] == "because"
    kept = [path for path in home.rejected.iterdir() if path != report]
    assert [path.read_text() for path in kept] == ["content"]
    assert list(home.claimed.iterdir()) == []
