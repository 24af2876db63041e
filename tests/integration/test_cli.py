"""The command line against a real broker; where a job must move, this test does a worker's part over the protocol."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from trainq.cli import listing, main, submitting
from trainq.client import BrokerClient
from trainq.config import Home, project_root
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    AcknowledgeCancel,
    Complete,
    Done,
    GetOverview,
    Heartbeat,
    HeartbeatReply,
    Lease,
    Leased,
    LeaseState,
    Lifecycle,
    Overview,
    PrepareResult,
    Progress,
    Result,
    TakeLease,
    TrainResult,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

ROOT = project_root()
START_SECONDS = 20.0


class Place:
    """A home with a broker in it, and the command line that belongs to it."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINQ_")}
        self.environment = {**kept, "TRAINQ_HOME": str(root), "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
        self._services: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a service; for the broker, until it answers."""
        self._services[name] = subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=self.environment,
                                                cwd=ROOT, stdout=subprocess.DEVNULL)
        if name == "broker":
            with BrokerClient(self.home) as client:
                client.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=START_SECONDS)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        process = self._services.pop(name)
        process.send_signal(number)
        process.wait(START_SECONDS)

    def stop_all(self) -> None:
        for name in list(self._services):
            self.stop(name, signal.SIGKILL)

    @contextlib.contextmanager
    def running(self, *words: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        """A command that is still at it; a test that fails meanwhile does not wait for it."""
        with self.popen(*words, stderr=stderr) as process:
            try:
                yield process
            finally:
                process.kill()  # of no effect on one that has ended and was waited for

    def popen(self, *words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-m", "trainq.cli", *words], env=self.environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)

    def run(self, *words: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """One command; (stdout, stderr). Its exit code must be ``code``."""
        done = subprocess.run([sys.executable, "-m", "trainq.cli", *words], env=self.environment, input=stdin,
                              capture_output=True, check=False, timeout=60)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, (words, done.returncode, out, err)
        return out, err

    def json(self, *words: str, code: int = 0, stdin: bytes = b"") -> dict[str, Any]:
        out, _ = self.run(*words, "--json", code=code, stdin=stdin)
        (line,) = out.splitlines()
        document: dict[str, Any] = json.loads(line)
        assert document["v"] == 1
        return document


@pytest.fixture
def place() -> Iterator[Place]:
    # Not tmp_path: a socket's path is at most 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    place = Place(root)
    try:
        yield place
    finally:
        place.stop_all()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def broker(place: Place) -> Place:
    for folder in place.home.folders():
        folder.mkdir(mode=0o700, exist_ok=True)
    place.start("broker")
    return place


class Worker:
    """Does what a preparer and a trainer do, as far as the broker can see."""

    def __init__(self, home: Home) -> None:
        self.client = BrokerClient(home)

    def lease(self, kind: JobKind) -> Lease:
        """The next job of this kind."""
        reply = self.client.call(TakeLease(request_id=new_request_id(), worker=_WORKERS[kind], session="one",
                                           kinds=(kind,)), Leased)
        assert reply.lease is not None, reply.reason
        return reply.lease

    def beat(self, lease: Lease, progress: Progress) -> HeartbeatReply:
        return self.client.call(Heartbeat(
            request_id=new_request_id(), service=_WORKERS[lease.kind], session="one", pid=os.getpid(),
            state=Lifecycle.RUNNING, leases=(LeaseState(job=lease.job, token=lease.token, progress=progress),)),
            HeartbeatReply)

    def complete(self, lease: Lease, report: dict[str, Any] | None = None) -> None:
        result: Result = PrepareResult(shard="s", shard_digest="0" * 64, rows=3, tokens=30,
                                       report=report or {"read": 3})
        if lease.kind is JobKind.TRAIN:
            result = TrainResult(steps_done=9, steps_planned=9, global_step=9, generation=1, checkpoint="g",
                                 first_loss=5.0, last_loss=2.5)
        self.client.call(Complete(request_id=new_request_id(), job=lease.job, token=lease.token, result=result,
                                  worker=_WORKERS[lease.kind], session="one"), Leased)

    def train_next(self) -> None:
        """Prepare and train the next job."""
        for kind in (JobKind.PREPARE, JobKind.TRAIN):
            self.complete(self.lease(kind))


_WORKERS = {JobKind.PREPARE: "preparer", JobKind.TRAIN: "trainer"}


@pytest.fixture
def worker(broker: Place) -> Iterator[Worker]:
    worker = Worker(broker.home)
    yield worker
    worker.client.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "hello"}\n')
    return path


def jobs_of(place: Place) -> dict[str, str]:
    return {job["id"]: job["state"] for job in place.json("list")["jobs"]}


# ----------------------------------------------------------------------------------------------------------- submitting


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
    monkeypatch.setattr(listing, "PAGE", 5)
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


# ------------------------------------------------------------------------------------------------- looking and steering


def test_list_and_show(broker: Place, worker: Worker, rows: Path) -> None:
    assert broker.run("list") == ("", "trainq: no jobs\n")
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
        "broker", "watcher", "preparer", "trainer", "status"]
    assert r"paused  dinner\x1b[31m" in re.sub(r" +", "  ", broker.run("status")[0])
    assert broker.json("resume") == {"v": 1, "paused": False, "changed": True}
    assert broker.run("resume")[0] == "it was not paused\n"
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


def read_until(stream: IO[str] | None, wanted: str) -> str:
    """The next line that has ``wanted`` in it; the stream must not end before."""
    assert stream is not None
    for line in stream:
        if wanted in line:
            return line
    raise AssertionError(f"it ended without {wanted!r}")


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


# --------------------------------------------------------------------------------------------------- waiting, following


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


def test_wait_survives_the_broker(broker: Place, rows: Path) -> None:
    broker.run("submit", str(rows))
    broker.stop("broker", signal.SIGKILL)
    with broker.running("wait", "1") as waiting:
        read_until(waiting.stderr, "the broker does not answer")
        broker.start("broker")
        read_until(waiting.stderr, "the broker is back")
        broker.run("cancel", "1")
        assert waiting.wait(30) == 1


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
