"""Submitting from the command line, against a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from places import START_SECONDS, Place, Worker, jobs_of
from trainq import orders
from trainq.cli import main, submitting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


def test_the_same_content_is_the_same_job(broker: Place, rows: Path) -> None:
    out, err = broker.run("submit", str(rows))
    assert out == "train-1  queued  rows.jsonl\n"
    assert "trainq follow train-1" in err
    copy = rows.with_name("copy.jsonl")
    copy.write_bytes(rows.read_bytes())
    assert broker.run("submit", str(copy))[0] == "train-1  already queued (duplicate)  copy.jsonl\n"
    assert broker.run("submit", str(copy), "--force")[0] == "train-2  queued  copy.jsonl\n"
    receipt = broker.json("submit", str(rows))["receipts"][0]
    assert receipt == {"file": str(rows), "name": "rows.jsonl", "job": "train-1", "state": "queued", "duplicate": True}


def test_settings_of_its_own_are_frozen_and_shown(place: Place, rows: Path) -> None:
    place.environment["TRAINQ_TRAIN_FOLDERS"] = "{math = {learning_rate = 0.5, batch_rows = 4}}"
    place.start("broker")
    place.start("watcher")
    place.run("submit", str(rows), "--set", "learning_rate=1e-4", "--set", "schedule=cosine", "--epochs", "2",
              "--set", "gradient_checkpointing=true", "--set", "batch_rows=8")
    spec = place.json("show", "1")["spec"]
    assert {name: spec["train"][name] for name in (
        "epochs", "learning_rate", "schedule", "gradient_checkpointing", "batch_rows", "micro_batch_rows", "folders",
        "warmup_steps")} == {
            "epochs": 2, "learning_rate": 1e-4, "schedule": "cosine", "gradient_checkpointing": True, "batch_rows": 8,
            "micro_batch_rows": 8, "folders": {}, "warmup_steps": 20}
    shown, _ = place.run("show", "1")
    assert "settings   epochs 2, batch_rows 8, micro_batch_rows 8, learning_rate 0.0001, schedule cosine\n" in shown
    assert "           warmup_steps 20, rewarm_steps 0, min_rate_fraction 0.1, " in shown
    assert "precision fp32, gradient_checkpointing true, seed 0" in shown
    _, err = place.run("submit", str(rows), "--force", "--set", "micro_batch_rows=64", code=64)
    assert "micro_batch_rows 64 is more than batch_rows 16" in err
    _, err = place.run("submit", str(rows), "--set", "scheduel=cosine", code=2)
    assert "did you mean schedule?" in err
    (place.home.inbox / "math").mkdir()
    (place.home.inbox / "math" / "easy.jsonl").write_text('{"text": "one and one"}\n')
    deadline = time.monotonic() + START_SECONDS
    while len(place.json("list")["jobs"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    train = place.json("show", "2")["spec"]["train"]
    assert (train["learning_rate"], train["batch_rows"], train["schedule"]) == (0.5, 4, "constant")


def test_what_is_trained_already_says_so(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    worker.train_next()
    assert broker.run("submit", str(rows))[0] == "train-1  already trained (duplicate)  rows.jsonl\n"
    assert broker.run("submit", str(rows), "--wait")[0].splitlines()[1].startswith("train-1  succeeded  rows.jsonl")


def test_submit_makes_the_home(place: Place, rows: Path) -> None:
    shutil.rmtree(place.home.root)
    with place.running("submit", str(rows)) as waiting:
        deadline = time.monotonic() + START_SECONDS
        while not place.home.run.is_dir() and time.monotonic() < deadline:
            time.sleep(0.01)
        place.start("broker")
        out, _ = waiting.communicate(timeout=60)
    assert out == "train-1  queued  rows.jsonl\n"
    for folder in place.home.folders():
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_a_pattern_and_stdin(broker: Place, tmp_path: Path) -> None:
    for name in ("in/b.jsonl", "in/a/c.jsonl.gz", "p1.jsonl", "p2.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n')
    receipts = broker.json("submit", str(tmp_path / "in"), f"{tmp_path}/p*.jsonl", "-", stdin=b'{"text": "piped"}\n',
                           )["receipts"]
    assert [(receipt["job"], receipt["name"]) for receipt in receipts] == [
        ("train-1", "a/c.jsonl.gz"), ("train-2", "b.jsonl"), ("train-3", "p1.jsonl"), ("train-4", "p2.jsonl"),
        ("train-5", "stdin")]


def test_what_is_wrong_with_one_file_is_no_other_s_fault(broker: Place, rows: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    os.mkfifo(tmp_path / "fifo.jsonl")
    words = ("submit", str(tmp_path / "gone\x1b.jsonl"), str(empty), str(tmp_path / "fifo.jsonl"), str(rows))
    out, err = broker.run(*words, code=65)
    assert out == "train-1  queued  rows.jsonl\n"
    assert [line for line in err.splitlines() if "trainq follow" not in line] == [
        f"trainq: {tmp_path}/gone\\x1b.jsonl: it cannot be opened: No such file or directory "
        "(check its name and its permissions)",
        f"trainq: {empty}: it is empty (give a file with at least one row)",
        f"trainq: {tmp_path}/fifo.jsonl: it is not a regular file (give a file of JSON lines)"]
    receipts = broker.json(*words, code=65)["receipts"]
    assert [receipt.get("error", {}).get("code", "") for receipt in receipts] == ["input", "input", "input", ""]


def test_more_files_than_one_message_and_more_jobs_than_one_page(
        broker: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"text": "{number}"}}\n')
    monkeypatch.setenv("TRAINQ_HOME", str(broker.home.root))
    monkeypatch.setattr(submitting, "MAX_ITEMS", 3)
    monkeypatch.setattr(orders, "PAGE", 5)
    umask = os.umask(0o077)  # as the command sets it; this process gets its own back
    try:
        assert main(["submit", str(tmp_path), "--json"]) == 0
    finally:
        os.umask(umask)
    receipts = json.loads(capsys.readouterr().out)["receipts"]
    assert [receipt["name"] for receipt in receipts] == [f"{number}.jsonl" for number in range(8)]
    assert main(["list", "--all", "--kind", "all", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [job["id"] for job in listed["jobs"]] == [
        f"{kind}-{number}" for number in range(8, 0, -1) for kind in ("train", "prepare")]
    assert not listed["more"]
    few = broker.json("list", "--limit", "3")
    assert [job["id"] for job in few["jobs"]] == ["train-8", "train-7", "train-6"]
    assert few["more"]


def test_settings_of_a_submit_are_frozen_with_it(broker: Place, rows: Path) -> None:
    broker.run("submit", str(rows), "--priority", "high", "--epochs", "3", "--map", "prompt=q,completion=a")
    detail = broker.json("show", "1")
    assert detail["job"]["priority"] == "high"
    assert detail["spec"]["train"]["epochs"] == 3
    assert detail["spec"]["data"]["map"] == {"prompt": "q", "completion": "a"}
    assert "prompt=q, completion=a" in broker.run("show", "train-1")[0]


def test_a_name_that_is_no_utf8(broker: Place, rows: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(rows.parent) + b"/odd\xff.jsonl"))
    odd.write_bytes(rows.read_bytes())
    receipt = broker.json("submit", str(odd))["receipts"][0]
    assert receipt["name"] == r"odd\udcff.jsonl"


def test_after(broker: Place, rows: Path, tmp_path: Path) -> None:
    for name in ("second", "third"):
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n')
    broker.run("submit", str(rows))
    broker.run("submit", str(tmp_path / "second"), "--after", "train-1")
    broker.run("submit", str(tmp_path / "third"), "--after", "1", "--after-any")
    assert broker.json("show", "train-3")["waits_for"] == ["train-1"]
    assert "train-1 (any end)" in broker.run("show", "train-3")[0]
    broker.run("cancel", "train-1")
    assert jobs_of(broker) == {"train-1": "cancelled", "train-2": "cancelled", "train-3": "queued"}
    _, err = broker.run("submit", str(rows), "--after", "train-99", code=66)
    assert "there is no job train-99" in err
    _, err = broker.run("submit", str(rows), "--after", "train-1", code=65)
    assert "train-1 is cancelled" in err


def test_the_broker_is_down(place: Place, broker: Place, rows: Path) -> None:
    broker.run("submit", str(rows))
    place.start("status")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if json.loads(place.home.status_file.read_bytes())["seq"]:
                break
        time.sleep(0.02)
    place.stop("status")
    place.stop("broker", signal.SIGKILL)
    commands = {words: place.popen(*words) for words in (
        ("status", "--json"), ("status",), ("why",), ("list", "--json"), ("list", "--kind", "prepare"),
        ("pause", "--json"), ("show", "1"), ("events",))}
    said = {words: (*process.communicate(timeout=60), process.returncode) for words, process in commands.items()}
    out, err, code = said["status", "--json"]
    status = json.loads(out)
    assert code == 0
    assert re.search(r"this is status.json, [\d.]+ s old", err)
    assert status["source"] == "status.json"
    assert {service["name"]: service["state"] for service in status["services"]}["broker"] == "DEAD"
    assert said["status",][2] == 0
    assert re.search(r"^broker +DEAD", said["status",][0], re.MULTILINE)
    assert said["why",][0].startswith("the broker does not answer")
    listed = json.loads(said["list", "--json"][0])
    assert [job["id"] for job in listed["jobs"]] == ["train-1"]
    assert "only jobs that run or wait" in said["list", "--json"][1]
    assert said["list", "--kind", "prepare"][:1] == ("",)
    assert json.loads(said["pause", "--json"][0])["error"]["code"] == "unavailable"
    for words in (("pause", "--json"), ("show", "1"), ("events",)):
        assert said[words][2] == 69
        assert "did not answer" in said[words][1]


def test_without_broker_and_picture_status_is_unavailable(place: Place) -> None:
    status, why = place.popen("status", "--json"), place.popen("why")
    out, err = status.communicate(timeout=60)
    why.communicate(timeout=60)
    assert (status.returncode, why.returncode) == (69, 69)
    assert json.loads(out)["error"]["code"] == "unavailable"
    assert "supervisorctl status" in err


def test_a_generated_file_that_nobody_can_make_is_refused_and_is_no_job(broker: Place) -> None:
    _, err = broker.run("generate", "typo", code=66)
    assert "there is no generator 'typo' ([datagen.generators] has: syllo, arithmetic; besides, there are: arith" in err
    _, err = broker.run("generate", "syllo", "--level", "11", code=64)
    assert "the level is 11 (syllo takes one from 1 to 10)" in err
    assert "TaskSubmitted" not in broker.run("events")[0]
    assert broker.run("generate", "syllo", "--level", "10")[0] == "generate-1\n"
