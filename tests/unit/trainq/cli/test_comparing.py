"""``trainq compare``: whom it means, and what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainq.cli import children, main

NUMBERS = {"mean": 0.25, "low": 0.1, "high": 0.4, "n": 40, "scorer": "exact"}
GAIN = {"mean": -0.125, "low": -0.3, "high": 0.05, "p_better": 0.97, "p_worse": 0.031}
ROW = {"row": 7, "became_right": False, "first": "4\n#### 4", "second": "", "place": "rows.jsonl:8",
       "prompt": "2 + 2?", "reference": "4"}
REPORT = {"first": "g000001-s00000010", "second": "g000002-s00000020", "have_same_weights": False, "suites": [
    {"suite": "sums", "kind": "generate", "first": NUMBERS, "second": NUMBERS, "difference": GAIN, "note": "",
     "became_right": 3, "became_wrong": 8, "changed": [ROW]},
    {"suite": "held-out", "kind": "loss", "first": {**NUMBERS, "scorer": ""}, "second": NUMBERS, "difference": None,
     "note": "not of the same rows", "became_right": 0, "became_wrong": 0, "changed": []}],
    "only_first": ["old"], "only_second": []}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    for name in ("g000001-s00000010", "g000002-s00000020"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to("checkpoints/g000002-s00000020")
    (tmp_path / "champion").symlink_to("checkpoints/g000001-s00000010")
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    seen: list[dict[str, Any]] = []

    def ask(module: str, question: dict[str, Any], _who: str) -> dict[str, Any]:
        assert module == "trainq.comparing"
        seen.append(question)
        return REPORT

    monkeypatch.setattr(children, "ask", ask)
    return seen


def test_champion_and_head_are_who_the_links_lead_to(asked: list[dict[str, Any]],
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "champion", "head", "--rows", "1"]) == 0
    assert (asked[0]["first"], asked[0]["second"], asked[0]["rows"]) == (
        "g000001-s00000010", "g000002-s00000020", 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["A         g000001-s00000010", "B         g000002-s00000020", "only A    old",
                         "held-out  not of the same rows"]
    sums = next(line for line in lines if line.startswith("sums"))
    assert sums.split() == ["sums", "exact", "40", "0.250", "0.100", "and", "0.400", "0.250", "0.100", "and", "0.400",
                            "-0.125", "-0.300", "and", "+0.050", "0.031", "worse", "3", "8"]
    assert lines[-6:] == ["row       sums, rows.jsonl:8: A has it right, B has not", "asked     2 + 2?",
                          "right is  4", "A says    4", "          #### 4", "B says    (nothing)"]


def test_json_is_what_the_child_says(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "g000001-s00000010", "g000002-s00000020", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suites"][0]["difference"] == GAIN
    assert asked[0]["rows"] == 0


def test_a_name_that_is_none_is_refused(asked: list[dict[str, Any]], tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "champion", "best"]) == 64
    (tmp_path / "champion").unlink()
    assert main(["compare", "champion", "head"]) == 66
    assert "there is no champion yet" in capsys.readouterr().err
    assert asked == []
