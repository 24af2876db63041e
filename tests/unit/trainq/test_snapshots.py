"""Snapshots: real copies that are proven, share what is the same, and heal."""

from pathlib import Path

import msgspec
import pytest

from trainq import checkpoints, files, manifests, objects, snapshots
from trainq.checkpoints import CheckpointFacts, Cursor, Name
from trainq.errors import DamageError, InputError, NewerFormatError, NotFoundError
from trainq.snapshots import Created

JOBS = b'{"job":"train-1","digest":"00"}\n'


def generation(home: Path, number: int, step: int, **content: bytes) -> Path:
    """A sealed checkpoint whose files are ``content``, ``model`` becoming ``model.safetensors``."""
    facts = CheckpointFacts(generation=number, step=step, cursor=Cursor(), journal_seq=1, fingerprint={}, rows_seen=0,
                            tokens_seen=0, model="m", created_by="test", reason="job_end")
    path = home / "checkpoints" / str(Name(number, step))
    files.make_directory(path.parent)
    with files.publish_directory(path) as folder:
        for name, body in {"model": b"weights", "optimizer": b"momentum", **content}.items():
            (folder / f"{name}.safetensors").write_bytes(body)
        (folder / "config.json").write_bytes(b"{}")
        manifests.seal(folder, checkpoints.KIND, msgspec.to_builtins(facts))
    return path




def store_of(home: Path) -> Path:
    files.make_directory(home / "snapshots")
    return home / "snapshots"


def create(home: Path, source: Path) -> Created:
    return snapshots.create(store_of(home), source, jobs=JOBS, job_count=1, created_at=1.0, created_by="test",
                            on_chunk=lambda _: None)


def verify(home: Path, name: str) -> list[str]:
    return snapshots.verify(store_of(home), name, lambda _: None)


def damage(path: Path) -> None:
    """Flip a bit in place, as a disk does."""
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)


def object_of(home: Path, content: bytes) -> Path:
    return objects.path_of(home / "snapshots", manifests.digest_bytes(content))


def test_a_snapshot_is_a_copy_that_is_proven(tmp_path: Path) -> None:
    source = generation(tmp_path, 7, 30)
    made = create(tmp_path, source)
    assert made.snapshot.name == source.name
    assert made.shared_bytes == 0
    assert verify(tmp_path, source.name) == []
    proven = snapshots.find(store_of(tmp_path), source.name)
    assert proven == made.snapshot
    assert (proven.facts.jobs, proven.facts.checkpoint["generation"], proven.facts.parent) == (1, 7, "")
    assert object_of(tmp_path, b"weights").stat().st_nlink == 1, "a hard link is no second copy"


def test_what_is_the_same_lies_once(tmp_path: Path) -> None:
    create(tmp_path, generation(tmp_path, 1, 10))
    second = create(tmp_path, generation(tmp_path, 2, 20, model=b"other weights"))
    assert second.shared_bytes == len(b"momentum") + len(b"{}")
    assert second.snapshot.facts.parent == "g000001-s00000010"
    assert snapshots.missing_bytes(store_of(tmp_path), generation(tmp_path, 3, 30, model=b"more")) == len(b"more")


def test_order_is_by_number_and_never_by_string(tmp_path: Path) -> None:
    for number, step in ((999_999, 900), (1_000_000, 2600), (5, 99_999_999)):
        create(tmp_path, generation(tmp_path, number, step))
    assert [path.name for path in snapshots.list_snapshots(store_of(tmp_path))] == [
        "g1000000-s00002600", "g999999-s00000900", "g000005-s99999999"]


def test_the_same_generation_again_is_only_read(tmp_path: Path) -> None:
    source = generation(tmp_path, 1, 10)
    first, second = create(tmp_path, source), create(tmp_path, source)
    assert second == Created(first.snapshot, 0, len(b"weights" + b"momentum" + b"{}"))


def test_a_damaged_generation_makes_no_snapshot(tmp_path: Path) -> None:
    source = generation(tmp_path, 1, 10)
    damage(source / "model.safetensors")
    with pytest.raises(DamageError, match=r"model\.safetensors"):
        create(tmp_path, source)
    assert snapshots.list_snapshots(store_of(tmp_path)) == []
    assert not object_of(tmp_path, b"weights").exists()


def test_damage_is_named_and_healed_by_the_next_copy(tmp_path: Path) -> None:
    """A later generation with the same content heals the older snapshot, too; so does its own, again."""
    first = generation(tmp_path, 1, 10)
    create(tmp_path, first)
    for healer in (first, generation(tmp_path, 2, 20)):
        for content in (b"weights", b"{}"):
            damage(object_of(tmp_path, content))
        for why in ("its content is not that", "it is missing"):
            found = verify(tmp_path, first.name)
            assert [said.partition(":")[0] for said in found] == ["config.json", "model.safetensors"]
            assert all(why in said for said in found)
        assert create(tmp_path, healer).copied_bytes >= len(b"weights" + b"{}")
        assert verify(tmp_path, first.name) == []
    assert list(snapshots.unreferenced(store_of(tmp_path))) == []


@pytest.mark.parametrize("after_chunks", [0, 1, 2, 3])
def test_one_that_is_interrupted_leaves_nothing_half_done(tmp_path: Path, after_chunks: int) -> None:
    source, store = generation(tmp_path, 1, 10), store_of(tmp_path)
    seen: list[int] = []

    def interrupt(size_bytes: int) -> None:
        seen.append(size_bytes)
        if len(seen) > after_chunks:
            raise KeyboardInterrupt

    if after_chunks < 3:
        with pytest.raises(KeyboardInterrupt):
            snapshots.create(store, source, jobs=JOBS, job_count=1, created_at=1.0, created_by="t", on_chunk=interrupt)
        assert snapshots.list_snapshots(store) == []
    create(tmp_path, source)
    assert verify(tmp_path, source.name) == []
    assert list(store.rglob(f"{files.TEMPORARY_PREFIX}*")) == []


def test_materialized_it_is_the_generation_again(tmp_path: Path) -> None:
    source = generation(tmp_path, 1, 10)
    snapshot = create(tmp_path, source).snapshot
    back = tmp_path / "back" / source.name
    files.make_directory(back)
    snapshots.materialize(store_of(tmp_path), snapshot, back, lambda _: None)
    assert checkpoints.verify(back).manifest == checkpoints.verify(source).manifest


def test_an_export_holds_what_loads_and_nothing_else(tmp_path: Path) -> None:
    snapshot = create(tmp_path, generation(tmp_path, 1, 10)).snapshot
    snapshots.export(store_of(tmp_path), snapshot, tmp_path / "out", lambda _: None)
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(InputError, match="exists already"):
        snapshots.export(store_of(tmp_path), snapshot, tmp_path / "out", lambda _: None)


def test_of_a_damaged_one_nothing_is_exported(tmp_path: Path) -> None:
    snapshot = create(tmp_path, generation(tmp_path, 1, 10)).snapshot
    damage(object_of(tmp_path, b"weights"))
    with pytest.raises(DamageError):
        snapshots.export(store_of(tmp_path), snapshot, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()


def test_only_what_nobody_names_is_unreferenced(tmp_path: Path) -> None:
    create(tmp_path, generation(tmp_path, 1, 10))
    create(tmp_path, generation(tmp_path, 2, 20, model=b"other"))
    store = store_of(tmp_path)
    files.remove_tree(store / "g000001-s00000010")
    gone = set(snapshots.unreferenced(store))
    assert object_of(tmp_path, b"weights") in gone
    assert object_of(tmp_path, b"momentum") not in gone


def test_names_and_formats_are_judged(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    for name in ("", "..", "objects", "g1-s1", "g000001-s00000010"):
        with pytest.raises(NotFoundError):
            snapshots.find(store, name)
    made = create(tmp_path, generation(tmp_path, 1, 10)).snapshot
    facts = {**made.manifest.facts, "format": snapshots.FORMAT + 1}
    files.remove_tree(made.path)
    with files.publish_directory(made.path) as folder:
        manifests.write(folder, snapshots.KIND, made.manifest.files, facts)
    with pytest.raises(NewerFormatError):
        snapshots.find(store, made.name)
