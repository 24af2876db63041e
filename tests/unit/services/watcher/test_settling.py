"""Settling: only whole files are taken, in the order of their times."""

import pytest

from services.watcher.settling import Entry, EntryKind, Settling, is_ignored, refusal


def entry(name: str, size_bytes: int = 1, mtime_ns: int = 1) -> Entry:
    return Entry(name=name, kind=EntryKind.FILE, size_bytes=size_bytes, mtime_ns=mtime_ns, inode=1)


def names(entries: list[Entry]) -> list[str]:
    return [one.name for one in entries]


def test_a_growing_file_is_waited_for() -> None:
    settling = Settling(2.0)
    assert settling.observe([entry("a.jsonl", 1)], 0.0) == []
    assert settling.observe([entry("a.jsonl", 2)], 2.0) == []
    assert settling.observe([entry("a.jsonl", 2, mtime_ns=5)], 3.0) == []
    assert settling.observe([entry("a.jsonl", 2, mtime_ns=5)], 4.9) == []
    assert names(settling.observe([entry("a.jsonl", 2, mtime_ns=5)], 5.0)) == ["a.jsonl"]


def test_a_file_that_vanished_and_came_back_starts_anew() -> None:
    settling = Settling(2.0)
    settling.observe([entry("a.jsonl")], 0.0)
    settling.observe([], 1.0)
    assert settling.observe([entry("a.jsonl")], 2.5) == []


def test_order_is_by_time_then_name() -> None:
    settling = Settling(0.0)
    found = settling.observe([entry("c.jsonl", mtime_ns=1), entry("b.jsonl", mtime_ns=2), entry("a.jsonl", mtime_ns=2)],
                             0.0)
    assert names(found) == ["c.jsonl", "a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("name", [".hidden", "a.jsonl.part", "b.tmp", ".dir/x.jsonl", "x.jsonl~", "A.PART",
                                  ".claimed/1/x.jsonl"])
def test_unfinished_and_hidden_names_are_ignored(name: str) -> None:
    assert is_ignored(name)
    assert Settling(0.0).observe([entry(name)], 0.0) == []


@pytest.mark.parametrize("name", ["a.jsonl", "sub/b.JSONL", "c.jsonl.gz", "d.ndjson.zst"])
def test_known_endings_are_accepted(name: str) -> None:
    assert refusal(entry(name)) is None


def test_other_things_are_refused_with_a_reason() -> None:
    assert "JSON lines" in (refusal(entry("a.csv")) or "")
    for kind in (EntryKind.SYMLINK, EntryKind.SPECIAL):
        made = Entry(name="a.jsonl", kind=kind)
        assert kind.value in (refusal(made) or "")


def test_it_says_when_to_look_again() -> None:
    settling = Settling(2.0)
    assert settling.seconds_to_next(0.0) is None
    settling.observe([entry("a.jsonl")], 10.0)
    assert settling.seconds_to_next(10.5) == 1.5
    assert settling.seconds_to_next(99.0) == 0.0
