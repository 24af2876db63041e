"""One home with the real services in it, started again when they end, and a disk for it that fills when it is told."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tests.installations import PLAIN
from trainq import diskfaults, files, messages
from trainq.client import BrokerClient
from trainq.config import Home, project_root
from trainq.errors import BrokerUnavailableError, TrainqError
from trainq.ids import new_request_id
from trainq.jobs import JobKind, JobState
from trainq.messages import GetOverview, JobView, ListJobs, Overview, Replay

ROOT = project_root()
SERVICES = ("broker", "watcher", "preparer", "trainer")
SETTINGS = {
    **PLAIN, "TRAINQ_TRAIN_THREADS": "1", "TRAINQ_TRAIN_BATCH_ROWS": "4", "TRAINQ_TRAIN_MICRO_BATCH_ROWS": "4",
    "TRAINQ_TRAIN_CHECKPOINT_STEPS": "10", "TRAINQ_WATCHER_SETTLE_SECONDS": "0.2",
    "TRAINQ_WATCHER_SWEEP_SECONDS": "0.5", "TRAINQ_SCHEDULE_ENABLED": "false",
    "TRAINQ_DISK_HOLD_GIB": "0", "TRAINQ_DISK_RESERVE_MIB": "0"}
# What is held against a file, or says that something was lost.
NEVER = {"FileRefused", "AttemptFailed", "JobFailed", "JobQuarantined", "CheckpointDamaged", "JobUncovered",
         "DuplicateSubmitted"}
PATIENCE_SECONDS = 120.0
RESTART_SECONDS = 1.0


class Site:
    """One home and its services; what they say on stderr lies beside the home, on another disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "h")
        self.home.root.mkdir(parents=True)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ends: list[tuple[str, int]] = []
        self._restart_at: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        self._limits: dict[str, int] = {}
        self._client: BrokerClient | None = None

    def make_folders(self) -> None:
        for folder in self.home.folders():
            files.make_directory(folder)

    def start(self, *names: str, fault: str = "", descriptors: int = 0) -> None:
        for name in names:
            kept = {key: value for key, value in os.environ.items() if not key.startswith("TRAINQ_")}
            environment = {**kept, **SETTINGS, "TRAINQ_HOME": str(self.home.root),
                           "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}", diskfaults.ENVIRONMENT_KEY: fault}
            self._faults[name], self._limits[name] = fault, descriptors

            def limit(descriptors: int = descriptors) -> None:
                if descriptors:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

            with (self.folder / f"{name}.stderr").open("ab") as stderr:
                self.running[name] = subprocess.Popen(
                    [sys.executable, "-m", f"services.{name}"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                    stdout=stderr, stderr=stderr, preexec_fn=limit)  # single threaded

    def stop(self, *names: str) -> None:
        for name in names or tuple(reversed(SERVICES)):
            process = self.running.pop(name, None)
            self._restart_at.pop(name, None)
            if process is not None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        if self._client is not None:
            self._client.close()

    def tend(self) -> None:
        """Start again what has ended, with what it was started with."""
        now = time.monotonic()
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                self.ends.append((name, process.returncode))
                self._restart_at[name] = now + RESTART_SECONDS
                del self.running[name]
        for name, at in list(self._restart_at.items()):
            if now >= at:
                del self._restart_at[name]
                self.start(name, fault=self._faults[name], descriptors=self._limits[name])

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tend()
            if value := condition():
                return value
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds:g} s: {what}; {self.picture()}")

    def picture(self) -> str:
        details = {name: self.detail(name) for name in SERVICES}
        said = {name: self.said(name)[-300:] for name in SERVICES}
        jobs = [(job.id, job.state.value, job.reason) for job in self.jobs()]
        return f"details {details}, stderr {said}, jobs {jobs}, ends {self.ends[-6:]}"

    def said(self, name: str) -> str:
        """Its stderr, which supervisord would keep."""
        path = self.folder / f"{name}.stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    def ask(self, request: Any, expect: Any) -> Any:
        if self._client is None:
            self._client = BrokerClient(self.home)
        with contextlib.suppress(BrokerUnavailableError, TrainqError):
            return self._client.call(request, expect, timeout_seconds=2.0)
        return None

    def overview(self) -> Overview | None:
        found: Overview | None = self.ask(GetOverview(request_id=new_request_id()), Overview)
        return found

    def detail(self, name: str) -> str:
        """What the service says of itself, by its heartbeats."""
        found = self.overview()
        return next((f"{each.state.value}: {each.detail}" for each in found.services if each.name == name), "") \
            if found else ""

    def jobs(self) -> list[JobView]:
        reply = self.ask(ListJobs(request_id=new_request_id(), kinds=(JobKind.TRAIN,)), messages.JobList)
        return list(reply.jobs) if reply else []

    def drop(self, name: str, rows: int) -> None:
        """A file for the inbox, by one rename."""
        lines = b"".join(orjson.dumps({"prompt": f"{name} {row}?", "completion": f"{row}"}) + b"\n"
                         for row in range(rows))
        temporary = self.home.inbox / f".{name}"
        temporary.write_bytes(lines)
        temporary.rename(self.home.inbox / f"{name}.jsonl")

    def wait_trained(self, number: int) -> None:
        self.wait(lambda: [job.state for job in self.jobs()] == [JobState.SUCCEEDED] * number, f"{number} trained")

    def busy(self, name: str, seconds: float = 3.0) -> float:
        """How much of one processor the service and its children take: user and system time over the time."""
        def ticks() -> int:
            # Fields 14 to 17 of /proc/PID/stat (man 5 proc).
            words = Path(f"/proc/{self.running[name].pid}/stat").read_text().rpartition(")")[2].split()
            return sum(map(int, words[11:15]))

        before, began = ticks(), time.monotonic()
        time.sleep(seconds)
        return (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)

    def prove(self, number: int) -> None:
        """Everything is trained, once, and nothing was held against any file."""
        self.wait_trained(number)
        reply = self.ask(Replay(request_id=new_request_id(), after_seq=0, limit=1000), messages.Events)
        types = [event.type for event in reply.events]
        assert types.count("JobSubmitted") == number, types
        assert not NEVER & set(types), [event for event in reply.events if event.type in NEVER]
        assert all(job.failures == 0 for job in self.jobs())
        self.stop()
        assert not files.list_tree(self.home.inbox)
        assert not list(self.home.rejected.iterdir())
        assert not list(self.home.checkpoints.glob("damaged-*"))
        done = subprocess.run([sys.executable, "-m", "trainq_checker", str(self.home.root)], capture_output=True,
                              text=True, check=False, env={**os.environ, "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"})
        assert done.returncode == 0, done.stdout + done.stderr


class Disk:
    """A tmpfs that can be made full (in bytes, in inodes) at any moment, and given room again."""

    def __init__(self, at: Path) -> None:
        self.at = at
        mount("-t", "tmpfs", "-o", "size=2g,nr_inodes=50000,mode=700", "tmpfs", str(at))

    def fill(self, what: str, left_bytes: int = 0) -> None:
        """Leave no room for anything more, or just so many bytes."""
        for _ in range(100):
            found = os.statvfs(self.at)
            # Of size 0 it would have no limit at all.
            limit = {"bytes": f"size={max(1, found.f_blocks - found.f_bfree) * found.f_frsize + left_bytes}",
                     "inodes": f"nr_inodes={found.f_files - found.f_ffree}"}[what]
            with contextlib.suppress(subprocess.CalledProcessError):  # it has grown since
                mount("-o", f"remount,{limit}", str(self.at))
                return
        raise AssertionError(f"it cannot be filled with {what}")

    def give_room(self) -> None:
        mount("-o", "remount,size=2g,nr_inodes=50000", str(self.at))


def says_full(detail: str) -> bool:
    return detail.startswith("ERROR") and ("no room left" in detail or "No space left" in detail)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
