"""Snapshots copied elsewhere: proven there, whole or not listed, and only what is new."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from tests.generations import publish
from trainq import diskfaults, mirroring, objects, snapshots
from trainq.destinations import Destination
from trainq.errors import DamageError, InputError, StorageError, TrainqError
from trainq.mirroring import Mirror


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    made = tmp_path / "snapshots"
    made.mkdir()
    for number in (1, 2):
        name = publish(folder, number, {"w": os.urandom(5000), "same": b"same" * 1000})
        snapshots.create(made, folder / name, jobs=b"", job_count=0, created_at=1.0, created_by="test",
                         on_chunk=lambda _: None)
    return made


def names(store: Path) -> list[str]:
    return [path.name for path in snapshots.list_snapshots(store)][::-1]


def mirror(url: str) -> Mirror:
    return Mirror(url, lambda _: None)


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_all_that_is_not_there_is_copied_once(store: Path, tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path / 'mirror'}"
    first = mirroring.copy_all(store, names(store), mirror(url))
    assert first.there_bytes >= 4000, "what they have in common lies once"
    assert mirroring.copy_all(store, names(store), mirror(url)) == (0, 0)
    assert all(mirror(url).has(name) for name in names(store))
    if scheme != "memory://":
        for name in names(store):
            assert snapshots.verify(tmp_path / "mirror", name, lambda _: None) == [], "it can be used in its place"


def test_what_is_damaged_here_is_not_listed_there(store: Path, tmp_path: Path) -> None:
    name = names(store)[0]
    record = snapshots.read(store / name).manifest.files["w"]
    objects.path_of(store, record.blake3).write_bytes(b"x" * 5000)
    there = mirror(str(tmp_path / "mirror"))
    with pytest.raises(DamageError, match="not that of w"):
        there.copy(store, snapshots.find(store, name))
    assert not there.has(name)
    assert not list((tmp_path / "mirror").rglob(f"{record.blake3}*"))


def test_a_place_that_changes_what_it_keeps_is_found_out(store: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    there = mirror(str(tmp_path / "mirror"))
    monkeypatch.setattr(Destination, "digest", lambda *_: "0" * 64)
    with pytest.raises(DamageError, match="comes back otherwise"):
        there.copy(store, snapshots.find(store, names(store)[0]))
    assert not there.has(names(store)[0])
    assert not list((tmp_path / "mirror").rglob("*.part"))


def test_a_place_that_refuses_is_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mirror").touch()
    with pytest.raises(TrainqError, match="does not take g000001"):
        mirror(str(tmp_path / "mirror")).copy(store, snapshots.find(store, names(store)[0]))


@pytest.mark.parametrize("at", range(1, 10))
def test_a_place_that_fails_is_named_keeps_nothing_half_done_and_has_no_other_task_wait(store: Path, tmp_path: Path,
                                                                                        at: int) -> None:
    there, snapshot = mirror(str(tmp_path / "mirror")), snapshots.find(store, names(store)[0])
    diskfaults.arm("EIO", at, for_ever=False)
    try:
        # Not StorageError, with which a task is given back and tried again at once.
        with pytest.raises(TrainqError, match=r"does not take g000001.*look at the place") as caught:
            there.copy(store, snapshot)
    finally:
        _, failed = diskfaults.disarm()
    assert failed
    assert not isinstance(caught.value, StorageError)
    assert not list((tmp_path / "mirror").rglob("*.part"))
    there.copy(store, snapshot)
    assert snapshots.verify(tmp_path / "mirror", snapshot.name, lambda _: None) == []


def test_a_url_that_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="Protocol not known"):
        mirror("nowhere://at/all")
    assert "memory" in fsspec.available_protocols()
