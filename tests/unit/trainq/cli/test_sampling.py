"""``trainq sample``: which checkpoint is meant, and what a failed child means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainq.cli import children, main, sampling
from trainq.config import Home
from trainq.errors import NotFoundError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "checkpoints/g000001-s00000010").mkdir(parents=True)
    (tmp_path / "checkpoints/g000002-s00000020").mkdir()
    (tmp_path / "current").symlink_to("checkpoints/g000002-s00000020")
    return Home(tmp_path)


def test_by_default_the_current_one_resolved(home: Home) -> None:
    assert sampling.find_checkpoint(home, "") == home.checkpoints / "g000002-s00000020"


def test_by_name_or_by_path(home: Home, tmp_path: Path) -> None:
    assert sampling.find_checkpoint(home, "g000001-s00000010") == home.checkpoints / "g000001-s00000010"
    (tmp_path / "elsewhere").mkdir()
    assert sampling.find_checkpoint(home, str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"
    with pytest.raises(NotFoundError):
        sampling.find_checkpoint(home, "g000009-s00000090")


def test_without_a_model_it_says_how_to_get_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path))
    assert main(["sample", "hello"]) == 66
    assert "submit a file first" in capsys.readouterr().err


def test_a_folder_without_a_model_is_the_child_s_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path))
    assert main(["sample", "hello", "--checkpoint", str(tmp_path), "--json"]) == 65
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "input"
    assert "no folder with a model" in error["message"]


@pytest.mark.parametrize(("code", "exit_code"), [(1, 70), (2, 70), (74, 74), (-9, 70)])
def test_a_child_s_code_is_kept_where_it_means_the_same(code: int, exit_code: int) -> None:
    error = children._failed(code, b"", b"first\nlast words", "the child")
    assert error.exit_code == exit_code
    assert "last words" in str(error)
