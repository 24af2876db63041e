"""Looking and steering from the command line, against a real broker."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from places import Place, Worker, jobs_of, read_until
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import AcknowledgeCancel, Done, Progress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


def test_list_and_show(broker: Place, worker: Worker, rows: Path) -> None:
    assert broker.run("list") == ("", "trainq: no jobs; trainq submit FILE makes one\n")
    broker.run("submit", str(rows))
    out, _ = broker.run("list")
    assert re.search(r"^train-1 +queued +rows\.jsonl +normal +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +to be prepared$", out,
                     re.MULTILINE)
    worker.train_next()
    (job,) = broker.json("list", "--state", "succeeded")["jobs"]
    assert (job["id"], job["kind"], job["state"], job["rows"]) == ("train-1", "train", "succeeded", 3)
    assert broker.json("list", "--state", "queued", "--state", "running")["jobs"] == []
    assert [job["id"] for job in broker.json("list", "--kind", "prepare")["jobs"]] == ["prepare-1"]
    shown, _ = broker.run("show", "1")
    assert re.search(r"^state +succeeded$", shown, re.MULTILINE)
    assert "9 steps, loss 5.000 to 2.500" in shown
    assert re.search(r"^report read +3$", shown, re.MULTILINE)
    _, err = broker.run("show", "7", code=66)
    assert "there is no job train-7" in err


def test_cancel(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    lease = worker.lease(JobKind.PREPARE)
    worker.complete(lease)
    lease = worker.lease(JobKind.TRAIN)
    assert broker.run("cancel", "1")[0] == "train-1  running: it ends at the next step\n"
    assert worker.beat(lease, Progress()).cancel == ("train-1",)
    worker.client.call(AcknowledgeCancel(request_id=new_request_id(), job=lease.job, token=lease.token), Done)
    out, err = broker.run("cancel", "train-1", "train-9", code=66)
    assert out == "train-1  cancelled already\n"
    assert err == "trainq: there is no job train-9 (trainq list shows them)\n"
    outcomes = broker.json("cancel", "1", "9", code=66)["jobs"]
    assert outcomes[0] == {"id": "train-1", "state": "cancelled", "changed": False}
    assert outcomes[1]["error"]["code"] == "not_found"


def test_a_preparation_is_not_cancelled_by_itself(broker: Place, rows: Path) -> None:
    broker.run("submit", str(rows))
    _, err = broker.run("cancel", "prepare-1", code=64)
    assert "cancel train-1" in err
    assert jobs_of(broker) == {"train-1": "queued"}


def test_pause_why_resume(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    lease = worker.lease(JobKind.PREPARE)
    worker.complete(lease)
    worker.beat(lease, Progress())
    assert broker.run("pause", "--reason", "dinner\x1b[31m")[0] == "paused\n"
    assert broker.run("pause")[0] == "paused already\n"
    status = broker.json("status")
    assert (status["paused_reason"], status["training"], status["source"]) == ("dinner\x1b[31m", False, "broker")
    assert {"name", "pid", "state"} <= status["services"][0].keys()
    assert [service["name"] for service in status["services"]] == [
        "broker", "watcher", "preparer", "trainer", "snapshot", "retention", "consolidator", "evaluator",
        "datagen", "status", "web"]
    assert r"paused  dinner\x1b[31m" in re.sub(r" +", "  ", broker.run("status")[0])
    assert broker.json("resume") == {"v": 1, "paused": False, "changed": True}
    assert broker.run("resume")[0] == "nothing was paused, drained or stopped\n"
    assert broker.json("why")["why"].startswith("the trainer ")


def test_events(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    worker.train_next()
    broker.run("pause", "--reason", "a\nb")
    out, _ = broker.run("events", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events if event["job"] == "train-1"] == [
        "JobSubmitted", "JobPrepared", "LeaseGranted", "JobSucceeded"]
    assert all(event["v"] == 1 for event in events)
    out, _ = broker.run("events", "--job", "1", "--after", str(events[-3]["seq"]))
    assert [line.split("  ")[2] for line in out.splitlines()] == ["JobSucceeded"]
    assert r"reason=a\nb" in broker.run("events", "--after", str(events[-2]["seq"]))[0]
    assert broker.run("events", "--after", "99999")[0] == ""


def test_more_events_than_one_message_holds(broker: Place, worker: Worker, tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"text": "{number}"}}\n')
    broker.run("submit", str(tmp_path))
    for _ in range(24):
        worker.complete(worker.lease(JobKind.PREPARE), {"notes": "x" * 250_000})
    out, _ = broker.run("events", "--after", "0", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events].count("JobPrepared") == 24


def test_bad_rows_are_shown_where_they_are(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    bad = {"line": 3, "column": 14, "field": "text", "reason": "it is\x1b no text", "mend": "write one"}
    worker.complete(worker.lease(JobKind.PREPARE), {"read": 4, "reasons": {"it is no text": 1}, "bad_rows": [bad]})
    shown, _ = broker.run("show", "1")
    assert re.search(r"^bad row +line 3, column 14, text: it is\\x1b no text \(write one\)$", shown, re.MULTILINE)


def test_events_follow_over_a_restart(broker: Place) -> None:
    with broker.running("events", "--follow", "--json") as following:
        read_until(following.stdout, "BrokerStarted")
        broker.run("pause")
        read_until(following.stdout, "QueuePaused")
        broker.stop("broker", signal.SIGKILL)
        read_until(following.stderr, "does not answer")
        broker.start("broker")
        read_until(following.stdout, "BrokerStarted")
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130


def test_events_follow_a_journal_that_was_put_back(broker: Place, tmp_path: Path) -> None:
    broker.stop("broker")
    kept = shutil.copy(broker.home.journal, tmp_path / "kept")
    broker.start("broker")
    broker.run("pause")
    with broker.running("events", "--follow", "--json") as following:
        read_until(following.stdout, "QueuePaused")
        broker.stop("broker", signal.SIGKILL)
        for left in broker.home.root.glob("journal.db*"):
            left.unlink()
        shutil.copy(kept, broker.home.journal)
        broker.start("broker")
        read_until(following.stderr, "the journal was put back")
        broker.run("resume")
        broker.run("pause", "--reason", "anew")
        assert '"reason":"anew"' in read_until(following.stdout, "QueuePaused")
    assert "the journal ends at event" in broker.run("events", "--after", "999")[1]
