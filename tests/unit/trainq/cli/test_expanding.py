"""Which files a command line means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainq.cli.expanding import MAX_NAME, Source, expand, job_name
from trainq.errors import InputError


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "x"}\n')


def names(*words: str) -> list[str]:
    found = list(expand(words))
    assert all(isinstance(source, Source) for source in found), found
    return [source.name for source in found if isinstance(source, Source)]


def only_error(*words: str) -> InputError:
    (error,) = expand(words)
    assert isinstance(error, InputError)
    return error


def test_a_folder_gives_its_data_files_sorted_with_relative_names(tmp_path: Path) -> None:
    make(tmp_path, "b.jsonl", "a.jsonl.gz", "sub/deep/c.jsonl.zst", "notes.txt", "a.json", ".hidden.jsonl",
         ".git/d.jsonl", "b.jsonl.part")
    assert names(str(tmp_path)) == ["a.jsonl.gz", "b.jsonl", "sub/deep/c.jsonl.zst"]


def test_a_folder_linked_to_itself_ends(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(str(tmp_path)) == ["a.jsonl"]


def test_a_file_named_itself_may_be_called_anything(tmp_path: Path) -> None:
    make(tmp_path, "rows.txt")
    assert names(str(tmp_path / "rows.txt"), "-") == ["rows.txt", "stdin"]


def test_quoted_patterns_are_expanded_sorted(tmp_path: Path) -> None:
    make(tmp_path, "b1.jsonl", "a2.jsonl", "a1.jsonl", "sub/a3.jsonl", "sub/notes.txt")
    assert names(f"{tmp_path}/a?.jsonl") == ["a1.jsonl", "a2.jsonl"]
    assert names(f"{tmp_path}/**/a*.jsonl") == ["a1.jsonl", "a2.jsonl", "a3.jsonl"]
    assert names(f"{tmp_path}/[s]u*") == ["a3.jsonl"]


def test_relative_patterns_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jsonl", "b.jsonl")
    monkeypatch.chdir(tmp_path)
    assert names("*.jsonl") == ["a.jsonl", "b.jsonl"]


def test_the_name_of_something_there_is_no_pattern(tmp_path: Path) -> None:
    make(tmp_path, "what[1].jsonl", "what1.jsonl")
    assert names(f"{tmp_path}/what[1].jsonl") == ["what[1].jsonl"]


def test_a_pattern_without_a_match_is_an_error_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    first, second = expand([f"{tmp_path}/z*.jsonl", f"{tmp_path}/a*.jsonl"])
    assert isinstance(first, InputError)
    assert "no file matches" in str(first)
    assert isinstance(second, Source)


def test_a_folder_without_data_files_says_what_it_looked_for(tmp_path: Path) -> None:
    make(tmp_path, "notes.txt")
    assert ".jsonl, .ndjson, .jsonl.gz" in str(only_error(str(tmp_path)))


def test_an_empty_word_is_not_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jsonl")
    monkeypatch.chdir(tmp_path)
    assert "empty name" in str(only_error(""))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    make(tmp_path, "closed/a.jsonl")
    (tmp_path / "closed").chmod(0)
    try:
        assert "closed" in only_error(str(tmp_path)).file
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_names_fit_the_protocol() -> None:
    assert job_name("bad\udcff.jsonl") == r"bad\udcff.jsonl"
    assert job_name("größe.jsonl") == "größe.jsonl"
    long = job_name("folder/" * 500 + "a.jsonl")
    assert len(long) == MAX_NAME
    assert long.endswith("folder/a.jsonl")
