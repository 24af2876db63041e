"""A home with a broker in it and the command line that belongs to it; and a worker that works over the protocol."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.asking import Asking
from tests.installations import PLAIN
from trainq import checkpoints, files
from trainq.client import BrokerClient
from trainq.config import Home, project_root
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    Complete,
    Done,
    Fail,
    Greeted,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Lease,
    Leased,
    LeaseState,
    Lifecycle,
    PrepareResult,
    Progress,
    Result,
    TakeLease,
    TrainResult,
)
from trainq.picture import PICTURE_VERSION

ROOT = project_root()
START_SECONDS = 20.0


class Place(Asking):
    """A home with a broker in it, and the command line that belongs to it."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINQ_")}
        # A slot may come at any moment of a test.
        self.environment = {**kept, "TRAINQ_HOME": str(root), "TRAINQ_SCHEDULE_ENABLED": "false",
                            "TRAINQ_DISK_HOLD_GIB": "0", "TRAINQ_WEB_PORT": "0", **PLAIN,
                            "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
        self._services: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a service; for the broker, until it answers."""
        self._services[name] = subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=self.environment,
                                                cwd=ROOT, stdout=subprocess.DEVNULL)
        if name == "broker":
            self.overview(START_SECONDS)

    def pid(self, name: str) -> int:
        return self._services[name].pid

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        self._services[name].send_signal(number)
        self.wait_end(name)

    def wait_end(self, name: str) -> None:
        """Until a service has ended. One that does not in time is still there for :meth:`stop_all`."""
        self._services[name].wait(START_SECONDS)
        del self._services[name]

    def stop_all(self) -> None:
        for name in list(self._services):
            self.stop(name, signal.SIGKILL)

    def tell_of(self, name: str) -> None:
        """Have the broker hear of a generation, as the trainer tells it of its head."""
        head = checkpoints.parse_name(name)
        assert head is not None
        with BrokerClient(self.home) as client:
            client.call(Hello(request_id=new_request_id(), worker="trainer", session="s", generation=head.generation,
                              name=name, step=head.step), Greeted)

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
        # The picture has a version of its own.
        assert document["v"] == (PICTURE_VERSION if words[0] == "status" else 1)
        return document


@contextlib.contextmanager
def place_with_broker(**environment: str) -> Iterator[Place]:
    """A home with all folders and a broker that answers; it goes with all its processes."""
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        made = Place(Path(folder) / "h")
        made.environment |= environment
        for each in made.home.folders():
            files.make_directory(each)
        made.start("broker")
        try:
            yield made
        finally:
            made.stop_all()


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

    def complete(self, lease: Lease, report: dict[str, Any] | None = None, *, hold: str = "") -> None:
        result: Result = PrepareResult(shard="s", shard_digest="0" * 64, rows=3, tokens=30,
                                       report=report or {"read": 3}, hold=hold)
        if lease.kind is JobKind.TRAIN:
            result = TrainResult(steps_done=9, steps_planned=9, global_step=9, generation=1, checkpoint="g",
                                 first_loss=5.0, last_loss=2.5)
        self.client.call(Complete(request_id=new_request_id(), job=lease.job, token=lease.token, result=result,
                                  worker=_WORKERS[lease.kind], session="one"), Leased)

    def fail(self, lease: Lease, reason: str) -> None:
        self.client.call(Fail(request_id=new_request_id(), job=lease.job, token=lease.token, reason=reason), Done)

    def train_next(self) -> None:
        """Prepare and train the next job."""
        for kind in (JobKind.PREPARE, JobKind.TRAIN):
            self.complete(self.lease(kind))


_WORKERS = {JobKind.PREPARE: "preparer", JobKind.TRAIN: "trainer"}


def jobs_of(place: Place) -> dict[str, str]:
    return {job["id"]: job["state"] for job in place.json("list")["jobs"]}


def read_until(stream: IO[str] | None, wanted: str) -> str:
    """The next line that has ``wanted`` in it; the stream must not end before."""
    assert stream is not None
    for line in stream:
        if wanted in line:
            return line
    raise AssertionError(f"it ended without {wanted!r}")
