"""Of a suite's folder the files of rows are found by their names, and their columns in its settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainq import suitefiles
from trainq.errors import StorageError


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_no_suite_without_columns(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").touch(mode=0)
    with pytest.raises(StorageError):
        suitefiles.mapping_of(tmp_path)
