"""``trainq logs``: of a service, of a job across all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainq.cli import main


def line(second: int, **fact: object) -> str:
    record = {"at": f"2026-07-30T10:00:{second:02}.000+00:00", "level": "info", "service": "broker", "pid": 1,
              "event": f"event-{second}", **fact}
    return json.dumps(record, separators=(",", ":")) + "\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/broker.log").write_text(line(1, job="train-7") + line(3, job="train-70"))
    (tmp_path / "logs/preparer.log").write_text(line(2, lease="prepare-7", note="\x1b[2J") + line(4))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_of_one_service(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "preparer", "-n", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [text.split("  ")[3] for text in out] == ["event-2", "event-4"]
    assert r"note=\x1b[2J" in out[0]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("job", ["train-7", "prepare-7", "7"])
def test_of_one_job_across_services(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", job, "--json"]) == 0
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [record["event"] for record in records] == ["event-1", "event-2"]
    assert all(record["v"] == 1 for record in records)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", ["nosuch", "../logs/broker", "/etc/passwd", "*"])
def test_there_is_no_such_log(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", name]) == 66
    assert "broker, preparer" in capsys.readouterr().err


def test_tracebacks_are_shown_below(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "logs/status.log").write_text(line(9, traceback="Traceback:\n  boom"))
    assert main(["logs", "status"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["    Traceback:", "      boom"]


def test_what_was_kept_of_a_job_s_attempts_is_shown_when_the_logs_have_gone_round(
        home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = home / "logs" / "jobs"
    kept.mkdir()
    (kept / "train-7.1.trainer.first.log").write_text(line(0) + line(1, job="train-7"))
    (kept / "train-7.1.trainer.last.log.1").write_text(line(7))
    (kept / "train-7.1.trainer.last.log").write_text(line(8))
    (kept / "prepare-7.1.preparer.first.log").write_text(line(6))
    (kept / "train-70.1.trainer.first.log").write_text(line(9))
    (kept / "snapshot-7.1.snapshot.first.log").write_text(line(9))
    assert main(["logs", "7", "--json"]) == 0
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [record["event"] for record in records] == ["event-0", "event-1", "event-2", "event-6", "event-7", "event-8"]
    assert main(["logs", "7", "-n", "1"]) == 0
    assert "event-8" in capsys.readouterr().out
    assert main(["logs", "snapshot-7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "event-9"
