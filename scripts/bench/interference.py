"""``scripts/bench/interference``: what maintenance costs the training, and those who ask, in a real installation.

A long job trains with one thread. Windows without maintenance and with it alternate: snapshots of large generations,
proofs of them, and retention, asked for without pause. In half of the rounds the training process is bound to one
processor. In each window: optimizer steps a second (lines of the job's metrics), what the snapshot worker has read and
written (/proc/PID/io), the latency of a broker's read and of ``trainq status --json`` as a process, and of a raw 4 KiB
``write`` + ``fdatasync`` on the same disk, one after the other.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from bench import tables
from trainq import checkpoints, files, manifests
from trainq.chaos.installation import Installation, wait_until
from trainq.checkpoints import CheckpointFacts, Cursor
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import (
    Accepted,
    GetOverview,
    Overview,
    RetentionTask,
    SnapshotTask,
    SubmitTask,
    VerifyTask,
)

PATIENCE_SECONDS = 120.0
LARGE = 4
SETTINGS = """[train]
epochs = 1000
threads = 1
batch_rows = 2
checkpoint_seconds = 60
"""


class Window:
    """What was seen in one window."""

    def __init__(self) -> None:
        self.steps_per_second = self.megabytes_per_second = 0.0
        self.latencies: dict[str, list[float]] = {"broker read": [], "trainq status": [], "fdatasync": []}


class Bench:
    """The installation, its large generations, and what is asked of it."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.installation = Installation(folder, SETTINGS)
        self.home = self.installation.home
        files.make_directory(self.home.checkpoints)
        # Before the line's own generations, so that the trainer begins from none of them: their numbers are lower.
        self.names = [self._large(number, mib) for number in range(LARGE)]

    def _large(self, number: int, mib: int) -> str:
        facts = CheckpointFacts(
            generation=0, step=number, cursor=Cursor(), journal_seq=0, fingerprint={}, rows_seen=0, tokens_seen=0,
            model="none", created_by="bench", reason="initial")
        folder = self.home.root / "large" / facts.name
        files.make_directory(folder.parent)
        with files.publish_directory(folder) as made:
            for index in range(4):
                (made / f"{index}.bin").write_bytes(os.urandom(mib * (1 << 20) // 4))
            manifests.seal(made, checkpoints.KIND, msgspec.to_builtins(facts))
        return facts.name

    def start(self, folder: Path) -> None:
        """Train a long job, and let the large generations lie beside the line's own."""
        self.installation.start()
        rows = folder / "rows.jsonl"
        rows.write_text("".join(f'{{"text": "row {number} {"word " * 5}"}}\n' for number in range(2000)))
        wait_until(lambda: self._run("submit", str(rows)) == 0, "the broker answers", PATIENCE_SECONDS)
        wait_until(lambda: self.lines() > 20, "it trains", PATIENCE_SECONDS)
        for name in self.names:
            (self.home.root / "large" / name).rename(self.home.checkpoints / name)

    def _run(self, *words: str) -> int:
        return self.installation.run("-m", "trainq.cli", *words, seconds=PATIENCE_SECONDS).returncode

    def lines(self) -> int:
        """How many steps are done."""
        path = self.home.metrics / "train-1.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def moved_bytes(self) -> int:
        """What the snapshot worker has read and written since it started."""
        total = 0
        for seen in self.installation.processes():
            if seen.role == "snapshot":
                fields = dict(line.split(": ") for line in Path(f"/proc/{seen.pid}/io").read_text().splitlines())
                total += int(fields["rchar"]) + int(fields["wchar"])
        return total

    def bind(self, *, bound: bool) -> None:
        """Bind the training process to one processor, or let it go."""
        for seen in self.installation.processes():
            if seen.role == "training":
                for task in Path(f"/proc/{seen.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {0} if bound else set(range(os.cpu_count() or 1)))

    def keep_busy(self, until: threading.Event) -> None:
        """Ask for maintenance without pause: two tasks wait always."""
        asked = 0
        with BrokerClient(self.home) as client:
            while not until.is_set():
                tasks = client.call(GetOverview(request_id=new_request_id()), Overview,
                                    timeout_seconds=PATIENCE_SECONDS).background_tasks
                for _ in range(2 - tasks.queue_size):
                    name = self.names[asked // 3 % LARGE]
                    task = (SnapshotTask(generation=name), VerifyTask(), RetentionTask())[asked % 3]
                    client.call(SubmitTask(request_id=new_request_id(), task=task), Accepted,
                                timeout_seconds=PATIENCE_SECONDS)
                    asked += 1
                until.wait(0.1)

    def settle(self) -> None:
        """Until no task waits or runs."""
        with BrokerClient(self.home) as client:
            while True:
                tasks = client.call(GetOverview(request_id=new_request_id()), Overview,
                                    timeout_seconds=PATIENCE_SECONDS).background_tasks
                if not tasks.queue_size and not tasks.running:
                    return
                time.sleep(0.1)

    def window(self, seconds: float, *, busy: bool) -> Window:
        """Watch for so long."""
        seen, enough = Window(), threading.Event()
        helper = threading.Thread(target=self.keep_busy, args=(enough,))
        if busy:
            helper.start()
            time.sleep(2.0)
        lines, moved, started = self.lines(), self.moved_bytes(), time.monotonic()
        probe = self.home.root / "probe"
        with BrokerClient(self.home) as client, probe.open("wb", buffering=0) as stream:
            asked = 0
            while time.monotonic() - started < seconds:
                seen.latencies["broker read"].append(_timed(lambda: client.call(
                    GetOverview(request_id=new_request_id()), Overview, timeout_seconds=PATIENCE_SECONDS)))
                seen.latencies["fdatasync"].append(_timed(lambda: _sync(stream.fileno())))
                if asked % 20 == 0:
                    seen.latencies["trainq status"].append(_timed(lambda: self._run("status", "--json")))
                asked += 1
                time.sleep(0.05)
        taken = time.monotonic() - started
        seen.steps_per_second = (self.lines() - lines) / taken
        seen.megabytes_per_second = (self.moved_bytes() - moved) / taken / 1e6
        enough.set()
        if busy:
            helper.join()
            self.settle()
        return seen


def _sync(descriptor: int) -> None:
    os.pwrite(descriptor, bytes(4096), 0)
    os.fdatasync(descriptor)


def _timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def report(found: dict[tuple[str, bool], list[Window]]) -> list[str]:
    """Two tables: what the training loses, and what those wait who ask."""
    rows, waits = [], []
    for bound in ("free", "bound"):
        alone, busy = found[bound, False], found[bound, True]
        ratios = [one.steps_per_second / other.steps_per_second for one, other in zip(busy, alone, strict=True)]
        rows.append([f"training {bound}", f"{median(one.steps_per_second for one in alone):.1f}",
                     f"{median(one.steps_per_second for one in busy):.1f}", f"{min(ratios):.3f}",
                     f"{median(ratios):.3f}", f"{max(ratios):.3f}",
                     f"{median(one.megabytes_per_second for one in busy):.0f}"])
    for name in ("broker read", "trainq status", "fdatasync"):
        cells = [name]
        for is_busy in (False, True):
            every = [value for (_, state), windows in found.items() if state is is_busy for one in windows
                     for value in one.latencies[name]]
            cells += [f"{1000 * _quantile(every, share):.1f}" for share in (0.5, 0.99)]
        waits.append(cells)
    return [*tables.lines(["steps/s", "alone", "with", "ratio: min", "median", "max", "MB/s moved"], rows), "",
            *tables.lines(["milliseconds", "alone: median", "p99", "with: median", "p99"], waits)]


def main() -> int:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--mib", type=int, default=192)
    given = parser.parse_args()
    found: dict[tuple[str, bool], list[Window]] = {}
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        bench = Bench(Path(folder), given.mib)
        try:
            bench.start(Path(folder))
            for _ in range(given.rounds):
                for bound in ("free", "bound"):
                    bench.bind(bound=bound == "bound")
                    for busy in (False, True):
                        found.setdefault((bound, busy), []).append(bench.window(given.seconds, busy=busy))
                        sys.stderr.write(".")
                        sys.stderr.flush()
        finally:
            bench.installation.end(PATIENCE_SECONDS)
    sys.stdout.write("\n".join([f"{tables.machine()}; {given.rounds} rounds of {given.seconds:g} s", "",
                                *report(found), ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
