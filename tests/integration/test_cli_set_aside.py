"""What failed, and switching off, from the command line, against a real broker."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from places import Place, Worker, read_until
from tests.installations import wait_for
from trainq import ingest
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import Done, Progress, Release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


def test_list_failed_says_what_went_wrong_and_what_comes_next(broker: Place, worker: Worker, rows: Path) -> None:
    assert broker.run("list", "--failed") == ("", "trainq: no such jobs\n")
    good = rows.with_name("good.jsonl")
    good.write_text('{"text": "good"}\n')
    broker.run("submit", str(rows), str(good))
    for _ in range(2):
        worker.complete(worker.lease(JobKind.PREPARE))
    worker.fail(worker.lease(JobKind.TRAIN), "InputError: the loss is no number\x1b")
    worker.complete(worker.lease(JobKind.TRAIN))
    (job,) = broker.json("list", "--failed")["jobs"]
    assert (job["id"], job["state"], job["attempts"], job["failures"]) == ("train-1", "queued", 1, 1)
    assert job["retry_at"] > job["submitted_at"]
    out, _ = broker.run("list", "--failed")
    assert re.search(r"^train-1 +queued +rows.jsonl +1 +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +"
                     r"InputError: the loss is no number\\x1b$", out, re.MULTILINE)


def test_list_failed_shows_the_final_failure_and_its_mend(place: Place, rows: Path) -> None:
    place.environment["TRAINQ_BROKER_MAX_ATTEMPTS"] = "1"
    for folder in place.home.folders():
        folder.mkdir(mode=0o700, exist_ok=True)
    place.start("broker")
    worker = Worker(place.home)
    place.run("submit", str(rows))
    worker.complete(worker.lease(JobKind.PREPARE))
    worker.fail(worker.lease(JobKind.TRAIN), "it is bad")
    worker.client.close()
    out, _ = place.run("list", "--failed")
    assert re.search(r"^train-1 +quarantined +rows.jsonl +1 +1 +trainq retry 1 +"
                     r"1 attempts failed; the last: it is bad$", out, re.MULTILINE)
    assert place.run("retry", "1")[0] == "train-1  queued\n"
    assert place.run("list", "--failed")[0] == ""


def test_export_gives_the_file_back(broker: Place, rows: Path, tmp_path: Path) -> None:
    content = rows.read_bytes()
    broker.run("submit", str(rows))
    rows.unlink()
    assert broker.run("export", "1", str(tmp_path))[0] == f"{rows}\n"
    assert rows.read_bytes() == content
    _, err = broker.run("export", "1", str(tmp_path), code=64)
    assert "is there already (give another name, or --force to replace it)" in err
    rows.write_bytes(b"other")
    assert broker.json("export", "1", str(rows), "--force")["size_bytes"] == len(content)
    assert rows.read_bytes() == content
    assert broker.run("export", "1", "-")[0].encode() == content
    _, err = broker.run("export", "1", str(tmp_path / "no" / "where"), code=64)
    assert f"there is no folder {tmp_path}/no" in err
    broker.run("export", "7", code=66)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}


def test_export_gives_no_damaged_file(broker: Place, rows: Path, tmp_path: Path) -> None:
    broker.run("submit", str(rows))
    stored = ingest.data_path(broker.home, broker.json("show", "1")["job"]["digest"])
    stored.chmod(0o600)
    stored.write_bytes(rows.read_bytes().replace(b"hello", b"hallo"))
    _, err = broker.run("export", "1", str(tmp_path / "out"), code=74)
    assert "does not have the digest" in err
    assert not (tmp_path / "out").exists()
    stored.unlink()
    _, err = broker.run("export", "1", str(tmp_path / "out"), code=66)
    assert "no longer in data/" in err


def test_a_checkpoint_that_does_not_come_says_why(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    worker.complete(worker.lease(JobKind.PREPARE))
    lease = worker.lease(JobKind.TRAIN)
    worker.beat(lease, Progress(step=3, steps=9))
    with broker.running("checkpoint", "--wait") as asking:
        wait_for(lambda: "CheckpointRequested" in broker.run("events")[0], "it is asked for")
        worker.client.call(Release(request_id=new_request_id(), job=lease.job, token=lease.token,
                                   reason="storage_full: no room", hold_seconds=60.0), Done)
        assert read_until(asking.stdout, "nothing").startswith("nothing was published: the queue is held: storage_full")
        assert asking.wait(30) == 1


def test_drain_waits_for_what_trains_and_lets_nothing_else_begin(broker: Place, worker: Worker, rows: Path) -> None:
    other = rows.with_name("other.jsonl")
    other.write_text('{"text": "other"}\n')
    broker.run("submit", str(rows), str(other))
    for _ in range(2):
        worker.complete(worker.lease(JobKind.PREPARE))
    lease = worker.lease(JobKind.TRAIN)
    worker.beat(lease, Progress(step=3, steps=9))
    out, _ = broker.run("drain", "--no-wait")
    assert out.startswith("train-1 goes on to its end: ")
    with broker.running("drain", "--json") as draining:
        worker.complete(lease)
        said = read_until(draining.stdout, "drained")
        assert '{"v":1,"drained":true,"changed":false,"running":null,"reason":""}' in said
        assert draining.wait(30) == 0
    with pytest.raises(AssertionError, match="the queue is drained: drained by a person"):
        worker.lease(JobKind.TRAIN)
    broker.stop("broker", signal.SIGKILL)
    broker.start("broker")
    assert broker.json("status")["drain"] == "drained by a person"
    assert broker.json("resume")["changed"]
    assert worker.lease(JobKind.TRAIN).job == "train-2"
