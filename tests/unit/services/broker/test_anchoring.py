"""Anchoring: a journal that is older than its checkpoints is noticed."""

from pathlib import Path

from services.broker.anchoring import refuse_if_behind
from trainq import checkpoints, files, manifests


def checkpoint(folder: Path, name: str, journal_seq: int) -> None:
    with files.publish_directory(folder / name) as made:
        manifests.seal(made, checkpoints.KIND, {"journal_seq": journal_seq})


def test_a_journal_that_ends_before_what_a_checkpoint_has_seen(tmp_path: Path) -> None:
    checkpoint(tmp_path, "g000001-s00000000", 0)
    checkpoint(tmp_path, "g000002-s00000010", 40)
    assert refuse_if_behind(tmp_path, 40) is None
    error = refuse_if_behind(tmp_path, 39)
    assert error is not None
    assert "g000002-s00000010" in str(error)


def test_no_checkpoints_prove_nothing(tmp_path: Path) -> None:
    assert refuse_if_behind(tmp_path / "none", 0) is None


def test_a_damaged_manifest_proves_nothing(tmp_path: Path) -> None:
    checkpoint(tmp_path, "g000002-s00000010", 40)
    manifest = tmp_path / "g000002-s00000010" / manifests.MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes().replace(b"40", b"99"))
    assert refuse_if_behind(tmp_path, 40) is None


def test_a_newer_format_proves_nothing_and_the_older_ones_are_read(tmp_path: Path) -> None:
    checkpoint(tmp_path, "g000001-s00000000", 40)
    checkpoint(tmp_path, "g000002-s00000010", 50)
    (tmp_path / "g000002-s00000010" / manifests.MANIFEST_NAME).write_bytes(b'{"format": 99}')
    assert refuse_if_behind(tmp_path, 40) is None
    assert refuse_if_behind(tmp_path, 39) is not None
