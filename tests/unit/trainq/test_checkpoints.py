"""Names sort by number, the head is the newest generation that verifies, and damage is told, not hidden."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq import checkpoints, files, manifests
from trainq.checkpoints import CheckpointFacts, Cursor, Name
from trainq.errors import DamageError, NewerFormatError


def facts(generation: int, step: int) -> CheckpointFacts:
    return CheckpointFacts(
        generation=generation, step=step, cursor=Cursor(job="j1", token=3, shard="ab", job_step=step, steps_planned=9),
        journal_seq=17, fingerprint={"torch": "2"}, rows_seen=5, tokens_seen=50, model="m", created_by="test",
        reason="interval", parent="g000001-s00000000", base="g000001-s00000000")


def publish(folder: Path, generation: int, step: int, *, name: str = "", **changed: object) -> Path:
    of = msgspec.structs.replace(facts(generation, step), **changed)
    with files.publish_directory(folder / (name or of.name)) as path:
        (path / "model.safetensors").write_bytes(b"weights" * 10)
        manifests.seal(path, checkpoints.KIND, msgspec.to_builtins(of))
    return folder / (name or of.name)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@given(generation=st.integers(0, 10**9), step=st.integers(0, 10**12))
def test_a_name_says_generation_and_step(generation: int, step: int) -> None:
    assert checkpoints.parse_name(str(Name(generation, step))) == (generation, step)


def test_the_design_s_example() -> None:
    assert str(Name(42, 1200)) == "g000042-s00001200"


@pytest.mark.parametrize("text", [
    "", "g42-s1200", "g000042", "g000042-s00001200.tmp", ".tmp-g000042-s00001200", "g0000042-s00001200",
    "g000042-s000001200",
    "g000042-s00001200\n", "g-00042-s00001200", "g\u0660\u0660\u0660\u0660\u0664\u0662-s00001200"])
def test_what_is_no_name(text: str) -> None:
    assert checkpoints.parse_name(text) is None


def test_generations_are_listed_by_number_newest_first(tmp_path: Path) -> None:
    for name in ("g999999-s00000009", "g1000000-s00000002", "g000010-s00000001", "g000009-s00000500", ".lock"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints.list_generations(tmp_path)] == [
        "g1000000-s00000002", "g999999-s00000009", "g000010-s00000001", "g000009-s00000500"]
    assert checkpoints.next_generation(tmp_path) == 1_000_001


def test_a_damaged_generation_is_set_aside_and_its_number_stays_taken(tmp_path: Path) -> None:
    first = publish(tmp_path, 1, 10)
    newest = publish(tmp_path, 7, 30)
    aside = checkpoints.set_aside(newest)
    assert aside == tmp_path / "damaged-g000007-s00000030"
    assert (aside / "model.safetensors").read_bytes() == b"weights" * 10
    assert checkpoints.list_generations(tmp_path) == [first]
    assert checkpoints.next_generation(tmp_path) == 8
    # The number is never given again; if a copy of it is put back by hand, that one is set aside beside the first.
    again = publish(tmp_path, 7, 30)
    assert checkpoints.set_aside(again).name == "damaged-g000007-s00000030-2"
    assert checkpoints.set_aside(publish(tmp_path, 7, 30)).name == "damaged-g000007-s00000030-3"
    assert checkpoints.next_generation(tmp_path) == 8


def test_what_the_journal_knows_is_never_given_again(tmp_path: Path) -> None:
    publish(tmp_path, 4, 10)
    assert checkpoints.next_generation(tmp_path, above=9) == 10
    assert checkpoints.next_generation(tmp_path, above=2) == 5
    assert checkpoints.next_generation(tmp_path / "missing", above=3) == 4


@pytest.mark.parametrize("name", ["damaged-", "damaged-g7-s1", "damaged-g000099-s00000001.old", "damaged-g000099"])
def test_other_names_take_no_number(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert checkpoints.next_generation(tmp_path) == 1


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert checkpoints.newest_verified(folder) == (None, [])
        assert checkpoints.next_generation(folder) == 1


def test_the_head_is_the_newest_generation_and_not_the_highest_step(tmp_path: Path) -> None:
    publish(tmp_path, 1, 900)
    publish(tmp_path, 2, 100)
    head, damaged = checkpoints.newest_verified(tmp_path)
    assert head is not None
    assert head.facts == facts(2, 100)
    assert head.size_bytes == 70
    assert damaged == []


def test_a_flipped_bit_is_told_and_the_one_before_is_the_head(tmp_path: Path) -> None:
    publish(tmp_path, 1, 10)
    publish(tmp_path, 2, 20)
    newest = publish(tmp_path, 3, 30)
    flip_a_bit(newest / "model.safetensors")
    (tmp_path / facts(2, 20).name / "manifest.json").unlink()
    head, damaged = checkpoints.newest_verified(tmp_path)
    assert head is not None
    assert head.facts.generation == 1
    assert ["model.safetensors" in str(error) for error in damaged] == [True, False]
    assert newest.exists()
    assert checkpoints.next_generation(tmp_path) == 4


def test_a_checkpoint_under_another_name_is_refused(tmp_path: Path) -> None:
    path = publish(tmp_path, 3, 30, name="g000004-s00000030")
    with pytest.raises(DamageError, match="another name"):
        checkpoints.verify(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = publish(tmp_path, 3, 30, format=checkpoints.FORMAT + 1)
    with pytest.raises(NewerFormatError, match=f"format {checkpoints.FORMAT + 1}"):
        checkpoints.verify(path)
    publish(tmp_path, 2, 20)
    with pytest.raises(NewerFormatError):
        checkpoints.newest_verified(tmp_path)


def test_a_newer_format_may_have_other_facts(tmp_path: Path) -> None:
    newer = {**msgspec.to_builtins(facts(3, 30)), "format": checkpoints.FORMAT + 1}
    del newer["rows_seen"]
    with files.publish_directory(tmp_path / "g000003-s00000030") as path:
        manifests.seal(path, checkpoints.KIND, newer)
    with pytest.raises(NewerFormatError):
        checkpoints.newest_verified(tmp_path)


def test_facts_of_something_else_are_refused(tmp_path: Path) -> None:
    with files.publish_directory(tmp_path / "g000001-s00000000") as path:
        manifests.seal(path, checkpoints.KIND, {"generation": "one"})
    with pytest.raises(DamageError, match="facts"):
        checkpoints.verify(tmp_path / "g000001-s00000000")
