"""The inbox on a real file system: claims, leftovers, refusals."""

import os
import tempfile
from pathlib import Path

import orjson
import pytest

from services.watcher import inbox
from services.watcher.settling import EntryKind
from trainq import files, ingest
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


def test_what_lies_too_deep_is_named(home: Home) -> None:
    deep = "/".join(["d"] * (inbox.MAX_DEPTH + 1))
    drop(home, f"{deep}/a.jsonl")
    drop(home, "b.jsonl")
    found = {entry.name: entry for entry in inbox.sweep(home)}
    assert {name: entry.kind for name, entry in found.items()} == {
        deep: EntryKind.UNREACHABLE, "b.jsonl": EntryKind.FILE}
    with pytest.raises(inbox.CannotClaimError, match="16 folders deep"):
        inbox.claim(home, found[deep])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(home: Home) -> None:
    drop(home, "closed/a.jsonl")
    (home.inbox / "closed").chmod(0)
    try:
        (entry,) = inbox.sweep(home)
        assert (entry.name, entry.kind) == ("closed", EntryKind.UNREACHABLE)
        with pytest.raises(inbox.CannotClaimError, match="Permission denied"):
            inbox.claim(home, entry)
    finally:
        (home.inbox / "closed").chmod(0o700)


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
    inbox.discard(home, claimed.id)
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


def claim_first(home: Home) -> inbox.Claim:
    claimed = inbox.claim(home, inbox.sweep(home)[0])
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("name", ["a.csv", "n" * 251 + ".csv", "é" * 120 + ".csv", os.fsdecode(b"caf\xe9.csv"),
                                  "new\nline.csv", "x." + "y" * 240])
def test_a_refused_file_is_kept_with_a_report(home: Home, name: str) -> None:
    drop(home, name, "content")
    claimed = claim_first(home)
    refused = inbox.refuse(home, claimed, "because")
    assert orjson.loads(refused.report.read_bytes())["reason"] == "because"
    kept = [path for path in home.rejected.iterdir() if path != refused.report]
    assert [path.read_text() for path in kept] == ["content"]
    assert kept[0].name.startswith(claimed.id)
    if name.isprintable():
        kept[0].name.encode()  # cut between characters, not within one
    assert inbox.leftover_claims(home) == []
    assert inbox.unreported_refusals(home) == [refused], "until the broker has heard of it"
    inbox.discard(home, claimed.id)
    assert inbox.unreported_refusals(home) == []
    assert list(home.claimed.iterdir()) == []


def test_two_refused_files_of_one_long_name_are_both_kept(home: Home) -> None:
    name = "n" * 250 + ".csv"
    for content in ("one", "two"):
        drop(home, name, content)
        inbox.refuse(home, claim_first(home), "because")
    assert sorted(path.read_text() for path in home.rejected.iterdir() if path.suffix == ".csv") == ["one", "two"]


def test_refusing_again_does_nothing_twice(home: Home) -> None:
    drop(home, "a.csv", "content")
    claimed = claim_first(home)
    refused = inbox.refuse(home, claimed, "because")
    before = sorted(home.rejected.iterdir())
    with pytest.raises(FileNotFoundError):
        inbox.judge(claimed)
    assert inbox.reported_reason(home, claimed.id) == "because"
    assert inbox.refuse(home, claimed, "because") == refused
    assert sorted(home.rejected.iterdir()) == before


def test_a_kill_between_report_and_move_is_made_good(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(home, "a.jsonl", "content")
    claimed = claim_first(home)
    with monkeypatch.context() as patched:
        patched.setattr(files, "move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            inbox.refuse(home, claimed, "because")
    left = inbox.leftover_claims(home)
    assert [(one.id, one.fault) for one in left] == [(claimed.id, "because")]
    assert inbox.unreported_refusals(home) == []


def test_leftovers_are_judged_by_what_lies_there(home: Home, tmp_path: Path) -> None:
    for name in ("link.jsonl", "pipe.jsonl", "notes.txt", "good.jsonl"):
        drop(home, name)
    for entry in inbox.sweep(home):
        claimed = inbox.claim(home, entry)
        assert claimed is not None
        if entry.name.startswith(("link", "pipe")):
            claimed.path.unlink()
        if entry.name.startswith("link"):
            claimed.path.symlink_to(tmp_path)
        if entry.name.startswith("pipe"):
            os.mkfifo(claimed.path)
    verdicts = {claimed.name: inbox.judge(claimed) or "" for claimed in inbox.leftover_claims(home)}
    assert verdicts.pop("good.jsonl") == ""
    assert "symbolic link" in verdicts["link.jsonl"]
    assert "FIFO" in verdicts["pipe.jsonl"]
    assert "ending" in verdicts["notes.txt"]


def test_what_is_not_the_watchers_is_refused_and_not_deleted(home: Home) -> None:
    (home.claimed / "mine.jsonl").write_text("file")
    (home.claimed / "folder").mkdir()
    (home.claimed / "folder" / "a.jsonl").write_text("in a folder")
    both = home.claimed / ("0" * 32)
    both.mkdir()
    (both / "a.jsonl").write_text("one of two")
    (both / "b.jsonl").write_text("two of two")
    for claimed in inbox.leftover_claims(home):
        reason = inbox.judge(claimed)
        assert reason
        assert ".claimed" in reason
        inbox.discard(home, inbox.refuse(home, claimed, reason).id)
    assert list(home.claimed.iterdir()) == []
    kept = {path.read_text() for path in home.rejected.rglob("*.jsonl") if path.is_file()}
    assert kept == {"file", "in a folder", "one of two", "two of two"}


def test_what_cannot_be_renamed_stays_and_leaves_no_claim(home: Home) -> None:
    # As long as a path may be (PATH_MAX, 4096 with the closing NUL), so that it is too long below .claimed/<id>/.
    room = 4095 - len(os.fsencode(home.inbox)) - 1
    parts = []
    while room > 255:
        parts.append("d" * min(250, room - 10))
        room -= len(parts[-1]) + 1
    name = "/".join([*parts, "n" * (room - len(".jsonl")) + ".jsonl"])
    drop(home, name)
    drop(home, "good.jsonl")
    found = {entry.name: entry for entry in inbox.sweep(home)}
    with pytest.raises(inbox.CannotClaimError, match="too long"):
        inbox.claim(home, found[name])
    assert list(home.claimed.iterdir()) == []
    assert inbox.claim(home, found["good.jsonl"]) is not None
    assert (home.inbox / name).exists()


def test_another_file_system_leaves_no_claim(home: Home) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == home.inbox.stat().st_dev:
        pytest.skip("needs a second file system")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        home.claimed.rmdir()
        home.claimed.symlink_to(other)
        drop(home, "deep/a.jsonl")
        with pytest.raises(inbox.CannotClaimError, match="ross-device"):
            inbox.claim(home, inbox.sweep(home)[0])
        assert list(home.claimed.iterdir()) == []
    assert (home.inbox / "deep" / "a.jsonl").exists()


def test_a_change_after_reading_is_seen_and_gets_a_new_claim(home: Home) -> None:
    drop(home, "sub/a.jsonl", "{}")
    claimed = claim_first(home)
    stored = ingest.store_file(home, claimed.path, follow_links=False)
    assert inbox.is_unchanged(claimed, stored)
    with claimed.path.open("a") as stream:
        assert not inbox.is_unchanged(claimed, stored), "it has a writer"
        stream.write("{}")
    assert not inbox.is_unchanged(claimed, stored)
    again = inbox.reclaim(home, claimed)
    assert again.id != claimed.id
    assert inbox.leftover_claims(home) == [again]
    assert again.path.read_text() == "{}{}"
