"""Waiting and following from the command line, against a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
from pathlib import Path

import pytest

from places import Place, Worker, jobs_of, read_until
from trainq.jobs import JobKind
from trainq.messages import Progress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


def test_wait_for_several_and_one_does_not_succeed(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    with broker.running("submit", "--wait", str(rows), str(rows), "--json") as waiting:
        worker.train_next()
        out, _ = waiting.communicate(timeout=60)
    document = json.loads(out)
    assert (waiting.returncode, len(document["receipts"])) == (0, 2)
    assert [(job["id"], job["state"]) for job in document["jobs"]] == [("train-1", "succeeded")]
    broker.run("submit", str(rows), "--force")
    with broker.running("wait", "2") as waiting:
        broker.run("cancel", "2", "--reason", "enough")
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert out == "train-2  cancelled  rows.jsonl  enough\n"
    assert broker.run("wait", "1", "2", code=1)[0].startswith("train-1  succeeded  rows.jsonl  9 steps")
    assert broker.run("wait") == ("", "trainq: there is nothing to wait for\n")
    broker.run("wait", "5", code=66)


def test_who_is_held_is_not_waited_for_until_a_person_lets_it_go(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    worker.complete(worker.lease(JobKind.PREPARE), hold="its quality is poor: all of it")
    assert broker.run("wait", "1", code=1)[0] == "train-1  held  rows.jsonl  its quality is poor: all of it\n"
    assert broker.run("wait") == ("", "trainq: there is nothing to wait for\n")
    assert "its quality is poor" in broker.run("list", "--state", "held")[0]
    assert broker.json("release", "1")["jobs"] == [{"id": "train-1", "state": "queued", "changed": True}]
    assert broker.run("release", "1")[0] == "train-1  queued already\n"
    worker.complete(worker.lease(JobKind.TRAIN))
    assert "releasing is not possible now" in broker.run("release", "1", code=65)[1]


def test_wait_survives_the_broker(broker: Place, rows: Path) -> None:
    broker.run("submit", str(rows))
    broker.stop("broker", signal.SIGKILL)
    with broker.running("wait", "1") as waiting:
        read_until(waiting.stderr, "the broker does not answer")
        broker.start("broker")
        read_until(waiting.stderr, "the broker is back")
        broker.run("cancel", "1")
        assert waiting.wait(30) == 1


def put_back(broker: Place, kept: Path | None) -> None:
    """Start the broker with the journal as it was kept, or without any."""
    broker.stop("broker", signal.SIGKILL)
    for left in broker.home.root.glob("journal.db*"):
        left.unlink()
    if kept is not None:
        shutil.copy(kept, broker.home.journal)
    broker.start("broker")


@pytest.fixture
def kept(broker: Place, rows: Path, tmp_path: Path) -> Path:
    """The journal as it was when train-1 had been submitted, which waits."""
    broker.run("submit", str(rows))
    broker.stop("broker")
    shutil.copy(broker.home.journal, tmp_path / "kept")
    broker.start("broker")
    return tmp_path / "kept"


@pytest.mark.parametrize("command", ["wait", "follow"])
def test_a_journal_that_is_put_back_ends_no_waiting(command: str, kept: Path, broker: Place) -> None:
    for _ in range(4):
        broker.run("pause")
        broker.run("resume")
    with broker.running(command, "1") as waiting:
        broker.stop("broker", signal.SIGKILL)
        read_until(waiting.stderr, "the broker does not answer")
        broker.start("broker")
        read_until(waiting.stderr, "the broker is back")
        put_back(broker, kept)
        if command == "wait":
            read_until(waiting.stderr, "the journal was put back: it ends at event")
        broker.run("cancel", "1")
        assert waiting.wait(30) == 1


@pytest.mark.parametrize("command", ["wait", "follow"])
def test_another_job_under_the_id_is_not_taken_for_it(command: str, kept: Path, broker: Place, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"text": "other"}\n')
    assert kept.is_file()
    with broker.running(command, "1") as waiting:
        broker.stop("broker", signal.SIGKILL)
        read_until(waiting.stderr, "the broker does not answer")
        broker.start("broker")
        read_until(waiting.stderr, "the broker is back")
        broker.run("pause")  # while it looks at the job
        broker.stop("broker", signal.SIGKILL)
        for left in broker.home.root.glob("journal.db*"):
            left.unlink()
        with broker.running("submit", str(tmp_path / "other.jsonl")) as submitting:
            broker.start("broker")
            submitting.wait(30)
        assert waiting.wait(30) == 66
        assert waiting.stderr is not None
        text = waiting.stderr.read()
        assert "train-1 is another job now (other.jsonl)" in text or "there is no job train-1" in text


def test_follow_a_job_through_its_life(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    with broker.running("follow") as following:
        read_until(following.stderr, "train-1 rows.jsonl queued (to be prepared): the trainer ")
        lease = worker.lease(JobKind.PREPARE)
        worker.beat(lease, Progress(step=5, steps=10, unit="bytes"))
        line = read_until(following.stderr, "being prepared")
        assert "50 %" in line
        worker.complete(lease)
        read_until(following.stderr, "queued (prepared)")
        lease = worker.lease(JobKind.TRAIN)
        read_until(following.stderr, "starting")
        worker.beat(lease, Progress(step=3, steps=9, loss=4.5, tokens_per_second=1200.0, seconds_left=75.0))
        line = read_until(following.stderr, "3/9")
        assert re.search(r"\[#+\.+\] 3/9  loss 4\.500  1\.2k tokens/s  ETA 1 m 15 s$", line)
        worker.complete(lease)
        out, _ = following.communicate(timeout=60)
    assert following.returncode == 0
    assert re.fullmatch(r"train-1  succeeded  rows.jsonl  9 steps, loss 5.000 to 2.500  [\d.]+ s\n", out)
    assert broker.run("follow") == ("", "trainq: there is nothing to follow: no job runs or waits\n")


def test_follow_with_json_gives_a_line_for_each_change(broker: Place, worker: Worker, rows: Path) -> None:
    broker.run("submit", str(rows))
    with broker.running("follow", "1", "--json") as following:
        assert '"preparation":{' in read_until(following.stdout, '"state":"queued"')
        worker.train_next()
        last = json.loads(read_until(following.stdout, '"state":"succeeded"'))
        assert last["job"]["result"]["steps_done"] == 9
        assert following.wait(30) == 0


@pytest.mark.parametrize(("words", "goes_on"), [
    (("wait",), "not waiting any longer; train-1 goes on"), (("follow",), "not following any longer; train-1 goes on")])
def test_ctrl_c_on_a_terminal(words: tuple[str, ...], goes_on: str, broker: Place, rows: Path) -> None:
    broker.run("submit", str(rows))
    ours, theirs = pty.openpty()
    try:
        with broker.running(*words, stderr=theirs) as process:
            os.close(theirs)
            seen = b""
            while b": the trainer " not in seen:
                seen += os.read(ours, 4096)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            with contextlib.suppress(OSError):  # EIO: everything was read and the other side is closed
                while chunk := os.read(ours, 4096):
                    seen += chunk
    finally:
        os.close(ours)
    text = seen.decode()
    assert goes_on in text
    assert "interrupted" in text
    assert "Traceback" not in text
    assert jobs_of(broker) == {"train-1": "queued"}


def test_logs_of_a_real_service(broker: Place) -> None:
    out, _ = broker.run("logs", "broker", "-n", "1000")
    assert "broker  started" in out
    with broker.running("logs", "-f", "-n", "0", "--json") as following:
        assert following.stdout is not None
        # Nothing tells when the tail is in place, so there is a new life to see until one is seen.
        for _ in range(20):
            broker.stop("broker")
            broker.start("broker")
            if select.select([following.stdout], [], [], 0.5)[0]:
                break
        else:
            raise AssertionError("no line came")
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
