"""Ingest stores content once, whole, under its digest, and refuses what is no file."""

import io
import os
from pathlib import Path

import pytest

from trainq import files, ingest
from trainq.config import Home
from trainq.errors import InputError
from trainq.manifests import digest_bytes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for folder in home.folders():
        files.make_directory(folder)
    return home


def _stored_files(home: Home) -> list[Path]:
    return [path for path in home.data.rglob("*") if path.is_file()]


def test_content_lies_under_its_digest(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b'{"text": "x"}\n' * 100_000)
    stored = ingest.store_file(home, source)
    assert stored.digest == digest_bytes(source.read_bytes())
    assert ingest.data_path(home, stored.digest).read_bytes() == source.read_bytes()
    assert ingest.is_stored(home, stored.digest, stored.size_bytes)
    assert not ingest.is_stored(home, stored.digest, stored.size_bytes + 1)
    assert ingest.store_file(home, source) == stored
    assert _stored_files(home) == [ingest.data_path(home, stored.digest)]


def test_a_stream_is_stored_too(home: Home) -> None:
    assert ingest.store_stream(home, io.BytesIO(b"abc"), "-").size_bytes == 3


@pytest.mark.parametrize("what", ["empty", "missing", "folder", "fifo", "changed"])
def test_what_is_refused_leaves_nothing(home: Home, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "x.jsonl"
    match what:
        case "empty":
            source.touch()
        case "folder":
            source.mkdir()
        case "fifo":
            os.mkfifo(source)
        case "changed":
            source.write_bytes(b"abc")
            real = ingest._read

            def append_while_reading(stream: io.BufferedReader, name: str) -> bytes:
                with source.open("ab") as other:
                    other.write(b"!")
                return real(stream, name) if source.stat().st_size < 10 else b""

            monkeypatch.setattr(ingest, "_read", append_while_reading)
    with pytest.raises(InputError) as caught:
        ingest.store_file(home, source)
    assert str(source) in str(caught.value)
    assert _stored_files(home) == []


def test_what_was_read_is_described(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"{}")
    found = source.stat()
    stored = ingest.store_file(home, source)
    assert (stored.size_bytes, stored.mtime_ns, stored.inode) == (2, found.st_mtime_ns, found.st_ino)


def test_a_link_is_followed_only_where_a_person_gave_it(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert ingest.store_file(home, tmp_path / "link.jsonl").size_bytes == 2
    with pytest.raises(InputError):
        ingest.store_file(home, tmp_path / "link.jsonl", follow_links=False)


def test_a_callback_can_end_a_large_copy_and_nothing_stays(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"x" * (5 << 20))
    calls = 0

    def stop_at_the_third() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest.store_file(home, source, on_chunk=stop_at_the_third)
    assert calls == 3
    assert _stored_files(home) == []


@pytest.mark.parametrize("there", ["nothing", "folder", "content"])
def test_the_name_is_durable_whoever_made_it(home: Home, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = ingest.data_path(home, digest_bytes(b"abc"))
    if there != "nothing":
        destination.parent.mkdir()
    if there == "content":
        destination.write_bytes(b"abc")  # by one that was killed before it could sync the folder
    synced: list[tuple[Path, bool]] = []
    real = os.fsync

    def note_and_sync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), destination.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note_and_sync)
    ingest.store_stream(home, io.BytesIO(b"abc"), "-")
    assert (destination.parent, True) in synced
    assert (home.data, True) in synced
