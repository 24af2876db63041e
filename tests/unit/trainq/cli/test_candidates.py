"""What may follow on a command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainq.cli import registry
from trainq.cli.candidates import candidates


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("metrics", "logs", "snapshots/g000003-s00000300", "checkpoints/g000004-s00000400",
                 "checkpoints/.tmp-x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status.json").write_text(json.dumps({
        "running": [{"id": "train-3", "state": "running", "name": "a b"}],
        "waiting": [{"id": "train-4"}, {"id": "$(evil)"}, "no job"],
        "background_tasks": {"recent": [{"id": "snapshot-2"}]}}))
    (tmp_path / "metrics" / "train-2.jsonl").touch()
    (tmp_path / "logs" / "broker.log").touch()
    return tmp_path


@pytest.mark.parametrize(("line", "words"), [
    ("", list(registry.ENTRIES)), ("stat", ["status"]), ("--v", ["--version"]), ("--json can", ["cancel"]),
    ("nothing x", []), ("follow ", ["train-3", "train-4", "snapshot-2", "train-2"]), ("follow train-3 ", []),
    ("wait train-3 train-", ["train-3", "train-4", "train-2"]),
    ("submit --after tr", ["train-3", "train-4", "train-2"]),
    ("submit x --priority ", ["high", "normal", "low"]), ("submit --priority=l", ["--priority=low"]),
    ("submit --priority = l", ["low"]), ("submit --priority =", ["high", "normal", "low"]), ("submit ", []),
    ("submit -- --", []), ("snapshot verify ", ["g000003-s00000300", "g000004-s00000400"]),
    ("snapshot ex", ["export"]), ("snapshot export x --js", ["--json"]), ("skip --keep --ke", []),
    ("list --state held --st", ["--state"]), ("logs b", ["broker"]), ("cancel --kind sn", ["snapshot"]),
    ("metrics --last ", []),
])
def test_what_may_follow(line: str, words: list[str], home: Path) -> None:
    assert [each.word for each in candidates(line.split(" "), lambda: home)] == words


def test_no_home_is_no_failure(tmp_path: Path) -> None:
    assert candidates(["follow", ""], lambda: tmp_path / "none") == []
    (tmp_path / "status.json").write_text("[")
    assert candidates(["follow", ""], lambda: tmp_path) == []


def test_every_command_has_options_to_offer(home: Path) -> None:
    for command in registry.ENTRIES:
        assert "--help" in [each.word for each in candidates([command, "--"], lambda: home)], command
