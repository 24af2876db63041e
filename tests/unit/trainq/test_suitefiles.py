"""Of a suite's folder the files of rows are found by their names, and their columns in its settings."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests import rights
from trainq import files, suitefiles
from trainq.errors import InputError, StorageError


def test_files_of_rows_are_told_by_their_names(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.ndjson.zst", "C.JSONL.GZ", ".hidden.jsonl", "suite.toml", "score.py"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jsonl").mkdir()
    assert [path.name for path in suitefiles.files_of_rows(tmp_path)] == ["C.JSONL.GZ", "a.ndjson.zst", "b.jsonl"]
    assert suitefiles.files_of_rows(tmp_path / "none") == suitefiles.files_of_rows(tmp_path / "suite.toml") == []


@pytest.mark.parametrize(("settings", "mapping"), [
    ('map = {prompt = "q", completion = "a"}', {"prompt": "q", "completion": "a"}), ('kind = "loss"', {}),
    ("map = 7", {}), ("map = {prompt = 7}", {}), ('map = {prompt = "q", completion = "q"}', {}), ("map = {", {}),
    ("#" * 70_000, {})])
def test_columns_that_cannot_be_used_are_none(tmp_path: Path, settings: str, mapping: dict[str, str]) -> None:
    assert suitefiles.mapping_of(tmp_path) == {}
    (tmp_path / "suite.toml").write_text(settings)
    assert suitefiles.mapping_of(tmp_path) == mapping


def test_what_cannot_be_read_is_no_suite_without_columns(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").touch(mode=0)
    with rights.as_they_are(), pytest.raises(StorageError):
        suitefiles.mapping_of(tmp_path)
    tmp_path.chmod(0)
    with rights.as_they_are(), pytest.raises(StorageError):
        suitefiles.mapping_of(tmp_path)


def test_only_rights_are_the_fault_of_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.touch(mode=0)
    with rights.as_they_are(), pytest.raises(InputError) as caught, suitefiles.refusing_closed(tmp_path):
        suitefiles.read_table(path)
    assert (caught.value.file, caught.value.reason) == (str(path), "it may not be read")
    assert "chown" in (caught.value.mend or "")
    for number in (errno.EIO, errno.EMFILE, errno.ENOENT):
        with pytest.raises(StorageError), suitefiles.refusing_closed(tmp_path):
            raise files.storage_error(OSError(number, "no"), "reading") from OSError(number, "no")
