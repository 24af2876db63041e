"""``trainq validate`` and ``submit --check``: the preparer's verdict beforehand, with a place for every bad row."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from trainq import builtin
from trainq.cli import main
from trainq.config import DataSettings
from trainq.preparing import Prepared, prepare
from trainq.textcodec import TextCodec

GOOD = '{"text": "good %d"}\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINQ_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capsys, *words, "--json")
    document: dict[str, Any] = json.loads(out)
    return code, document


def test_bad_rows_are_named_with_place_field_reason_and_mend(capsys: pytest.CaptureFixture[str], home: Path,
                                                             tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(GOOD % 1 + '{"text": 5}\n' + "{bad\n" * 29)
    code, out, _ = run(capsys, "validate", str(path))
    assert code == 65
    assert f"{path}: would be rejected: 30 of 31 rows are bad" in out
    assert f"{path}:2:10: text: it is a number, not a string (write a string)" in out
    assert "  quality: poor\n    30 of 31 rows are bad" in out
    assert out.count("\n") == 2 + 2 + 20 + 1 + 2
    assert "and 10 more" in out
    assert "       29  not valid JSON" in out
    assert not home.exists()


@pytest.mark.parametrize("content", [
    GOOD % 1, GOOD % 1 + GOOD % 1, GOOD % 1 + "[]\n", "\n\n", '{"text": "' + "x" * 2000 + '"}\n', '{"question": "a"}\n',
    '{"prompt": "a", "completion": "b"}\n', "".join(GOOD % number for number in range(200)) + "{\n"])
def test_the_verdict_is_the_preparer_s(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(content)
    outcome = prepare(path, TextCodec.load(builtin.folder()), DataSettings(), builtin.CONTEXT_TOKENS,
                      tmp_path / "cache", tmp_path / "rejected", "f", lambda _: None)
    code, document = run_json(capsys, "validate", str(path))
    (said,) = document["files"]
    assert said["accepted"] == isinstance(outcome, Prepared) == (code == 0)
    assert said["reason"] == ("" if isinstance(outcome, Prepared) else outcome.reason)
    for name in ("read", "trained", "rejected", "duplicate", "dropped_long", "tokens"):
        assert said["report"][name] == getattr(outcome.report, name)


def test_a_map_is_honoured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"q": "a", "a": "b"}\n')
    assert run(capsys, "validate", str(path))[0] == 65
    assert run(capsys, "validate", str(path), "--map", "prompt=q,completion=a")[0] == 0


def test_what_is_no_file_is_refused_and_the_others_are_judged(capsys: pytest.CaptureFixture[str],
                                                              tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD % 1)
    (tmp_path / "empty.jsonl").touch()
    os.mkfifo(tmp_path / "fifo.jsonl")
    code, document = run_json(capsys, "validate", str(tmp_path), "/dev/zero", str(tmp_path / "none"))
    assert code == 65
    said = {Path(file["file"]).name: file for file in document["files"]}
    assert said["good.jsonl"]["accepted"]
    for name, message in (("empty.jsonl", "it is empty"), ("fifo.jsonl", "it is not a regular file"),
                          ("zero", "it is not a regular file"), ("none", "it cannot be opened")):
        assert not said[name]["accepted"]
        assert message in said[name]["error"]["message"]
        assert said[name]["error"]["mend"]


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((GOOD % 1 + GOOD % 2).encode())))
    code, document = run_json(capsys, "validate", "-")
    assert (code, document["files"][0]["report"]["trained"]) == (0, 2)


def test_a_name_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\n\u202egnp.jsonl"
    path.write_text("{\n")
    code, out, err = run(capsys, "validate", str(path))
    assert code == 65
    assert not {"\x1b", "\u202e"} & set(out + err)
    assert "a\\x1b[31m\\n\\u202egnp.jsonl:1:2: " in out


def test_check_says_what_training_takes_and_submits_nothing(capsys: pytest.CaptureFixture[str], home: Path,
                                                            tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text("".join(GOOD % number for number in range(20)))
    code, document = run_json(capsys, "submit", "--check", "--epochs", "3", str(path))
    assert code == 0
    plan = document["files"][0]["plan"]
    report = document["files"][0]["report"]
    assert (plan["steps"], plan["tokens"], plan["seconds"]) == (2 * 3, 3 * report["tokens"], None)
    assert document["free_bytes"] > document["disk_bytes"] > path.stat().st_size
    assert not home.exists()

    (home / "metrics").mkdir(parents=True)
    (home / "metrics" / "train-1.jsonl").write_text('{"tokens": 100, "seconds": 2.0}\n' * 3 + '{"tok')
    _, document = run_json(capsys, "submit", "--check", str(path))
    assert document["files"][0]["plan"]["seconds"] == pytest.approx(report["tokens"] / 50)
    _, document = run_json(capsys, "submit", "--check", "--set", "batch_rows=5", "--set", "epochs=2", str(path))
    assert document["files"][0]["plan"]["steps"] == 4 * 2


@pytest.mark.parametrize(("words", "reason"), [
    (("--set", "seed=1", "--set", "seed=2"), "two values for seed"),
    (("--epochs", "2", "--set", "epochs=2"), "two values for epochs"),
    (("--set", "learning_rate=2"), "learning_rate: '2': Expected `float` <= 1.0 (write it as in trainq.toml"),
    (("--set", "batch_rows=2", "--set", "micro_batch_rows=4"), "micro_batch_rows 4 is more than batch_rows 2")])
def test_what_cannot_be_wished(capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, words: tuple[str, ...],
                               reason: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD % 1)
    assert main(["submit", "--check", *words, str(path)]) in (2, 64)
    assert reason in capsys.readouterr().err
    assert not home.exists()


def test_the_disk_that_check_names_is_what_the_preparer_uses(capsys: pytest.CaptureFixture[str],
                                                             tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text("".join(GOOD % number for number in range(20)))
    _, document = run_json(capsys, "submit", "--check", str(path))
    outcome = prepare(path, TextCodec.load(builtin.folder()), DataSettings(), builtin.CONTEXT_TOKENS,
                      tmp_path / "cache", tmp_path / "rejected", "f", lambda _: None)
    assert isinstance(outcome, Prepared)
    arrays = sum(file.stat().st_size for file in (tmp_path / "cache" / outcome.shard).glob("*.bin"))
    assert document["disk_bytes"] == path.stat().st_size + arrays


def test_a_name_that_no_file_can_have_is_refused_and_the_others_are_judged(capsys: pytest.CaptureFixture[str],
                                                                           tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text(GOOD % 1)
    code, document = run_json(capsys, "validate", "x" * 300, str(good))
    assert code == 65
    assert [entry["accepted"] for entry in document["files"]] == [False, True]
    assert "too long" in str(document["files"][0])


def test_there_may_be_no_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    code, out, err = run(capsys, "validate", "-")
    assert code == 65
    assert "no standard input" in out + err


def test_a_speed_that_cannot_be_read_is_not_known(capsys: pytest.CaptureFixture[str], home: Path,
                                                  tmp_path: Path) -> None:
    (home / "metrics" / "x.jsonl").mkdir(parents=True)
    good = tmp_path / "good.jsonl"
    good.write_text(GOOD % 1)
    code, document = run_json(capsys, "submit", "--check", str(good))
    assert code == 0
    assert document["files"][0]["plan"]["seconds"] is None


def test_a_disk_that_fails_keeps_the_verdicts_that_were_reached(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """A process out of descriptors, from the second file on."""
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(GOOD % 1)
    genuine = os.open

    def fail(path: str, *rest: int) -> int:
        if str(path).endswith("b.jsonl"):
            raise OSError(errno.EMFILE, "Too many open files")
        return genuine(path, *rest)

    monkeypatch.setattr("trainq.ingest.os.open", fail)
    code, document = run_json(capsys, "validate", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    assert code == 74
    assert [entry["accepted"] for entry in document["files"]] == [True]


def test_where_a_cut_file_ends_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress("".join(GOOD % number for number in range(500)).encode())[:-40])
    code, document = run_json(capsys, "validate", str(cut))
    (entry,) = document["files"]
    assert code == 65
    assert entry["reason"].startswith(f"line {entry['report']['read'] + 1}: its compression is damaged or cut short")
    assert entry["report"]["read"] > 300
