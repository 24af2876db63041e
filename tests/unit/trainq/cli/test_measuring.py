"""``trainq metrics``: a job's steps from its file alone, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest

from trainq.cli import main
from trainq.cli.measuring import sparkline
from trainq.stephistory import StepMetrics

OLDER = (b'{"step":1,"job_step":1,"loss":2.5,"learning_rate":0.1,"grad_norm":3,"tokens":7,"trained_tokens":5,'
         b'"seconds":0.5}\n')


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three steps; the first one of an older trainq, and the line behind them torn."""
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path))
    path = tmp_path / "metrics" / "train-7.jsonl"
    path.parent.mkdir()
    steps = [StepMetrics(step=at, job_step=at, loss=3.0 - at, learning_rate=0.1, grad_norm=2.0, tokens=10,
                         trained_tokens=5, seconds=0.25, epoch=1, rows=4, micro_batches=2) for at in (2, 3)]
    path.write_bytes(OLDER + b"".join(msgspec.json.encode(step) + b"\n" for step in steps) + b'{"step":4,')
    return path


@pytest.mark.usefixtures("history")
def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "7"]) == 0
    said = capsys.readouterr().out
    assert "2.5000 at first, 0.0000 at last, 0.0000 at least" in said
    assert "27 tokens/s" in said
    assert said.splitlines()[-1].split() == ["3", "3", "2", "0.0000", "0.1", "2", "4", "10", "0.250"]


@pytest.mark.usefixtures("history")
def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "train-7", "--json", "--last", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["job"], said["count"]) == ("train-7", 3)
    assert [step["job_step"] for step in said["steps"]] == [2, 3]
    assert said["steps"][0]["micro_batches"] == 2


@pytest.mark.usefixtures("history")
def test_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "7", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["loss"] for row in rows] == ["2.5", "1.0", "0.0"]
    assert [row["rows"] for row in rows] == ["0", "4", "4"]


@pytest.mark.usefixtures("history")
def test_csv_and_json_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "7", "--csv", "--json"]) == 64
    assert "leave one of them out" in capsys.readouterr().err


@pytest.mark.usefixtures("history")
def test_a_job_without_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "8"]) == 66
    assert "no step of train-8" in capsys.readouterr().err


def test_a_sparkline_is_of_means() -> None:
    assert sparkline([1.0, 1.0, 8.0, 8.0], most=2) == "▁█"
    assert sparkline([float(at) for at in range(8)]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0] * 3) == "▁▁▁"
