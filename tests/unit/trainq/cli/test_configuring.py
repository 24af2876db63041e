"""``trainq config``."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from trainq.cli import main
from trainq.cli.configuring import toml_value


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trainq.toml"
    file.write_text('[train]\nepochs = 3\n[data]\nmap = { prompt = "question", completion = "ü" }\n'
                    '[data.folders."a b"]\nmap = { text = "t" }\n')
    monkeypatch.setenv("TRAINQ_CONFIG", str(file))
    monkeypatch.setenv("TRAINQ_HOME", "/tmp/tq-nowhere")
    monkeypatch.setenv("TRAINQ_TRAIN_SEED", "5")


def test_a_good_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["config", "check"]) == 0
    assert str(tmp_path / "trainq.toml") in capsys.readouterr().out
    assert main(["config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "v": 1, "ok": True, "file": str(tmp_path / "trainq.toml"), "home": "/tmp/tq-nowhere"}


def test_all_mistakes_come_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trainq.toml").write_text('[train]\nepoch = 3\nseed = "x"\n[brokr]\na = 1\n')
    monkeypatch.setenv("TRAINQ_LOG_LEVEL", "loud")
    monkeypatch.delenv("TRAINQ_TRAIN_SEED")
    assert main(["config", "check", "--json"]) == 78
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == "configuration"
    assert {problem["key"] for problem in error["problems"]} == {"train.epoch", "train.seed", "[brokr]", "log.level"}
    assert all(problem["mend"] for problem in error["problems"])
    assert len(err.splitlines()) == 4


def test_every_command_stops_at_a_bad_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINQ_TRAIN_EPOCHS", "none")
    for words in (["list"], ["status"], ["why"], ["submit", "x"], ["logs"], ["sample", "x"], ["wait"]):
        assert main(words) == 78


def test_show_is_toml_that_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert shown["train"]["epochs"] == 3
    assert shown["train"]["seed"] == 5
    assert shown["data"]["map"] == {"prompt": "question", "completion": "ü"}
    assert shown["data"]["folders"] == {"a b": {"map": {"text": "t"}}}
    assert main(["--json", "config", "show"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"] == shown


def test_origins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["config", "show", "--origin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"epochs = 3  # {tmp_path / 'trainq.toml'}" in lines
    assert "seed = 5  # TRAINQ_TRAIN_SEED" in lines
    assert "batch_rows = 16  # default" in lines
    assert main(["config", "show", "--json"]) == 0
    origins = json.loads(capsys.readouterr().out)["origins"]
    assert (origins["train.seed"], origins["train.batch_rows"]) == ("TRAINQ_TRAIN_SEED", "default")


@pytest.mark.parametrize("value", [True, 1, 2.5, "a\"b\\", [1, 2], {}, {"a": {"b c": "d"}}])
def test_values_are_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value
