"""``scripts/bench/gap``: how long nothing is computed between two jobs, with the model warm, in a real installation.

In turn: so many files, and one file with as many rows. Each is submitted while the queue is drained, and let go once
all is prepared; the training process lives and has trained before. What is measured is the time from the first lease
to the last success, by the journal, less the steps themselves, by the jobs' own histories: for many files a file's
share of that, which is its gap; for one file all of it, which is the part that a file has anyway (the checkpoint at its
end). The broker's part is from a job's success to the next one's lease.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from statistics import mean

from bench import tables
from trainq import stephistory
from trainq.chaos.installation import Installation, wait_until
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import JobKind, JobState
from trainq.messages import Done, DrainQueue, Events, EventView, GetOverview, Overview, Replay, ResumeQueue

PATIENCE_SECONDS = 240.0
BATCH_ROWS = 16
SETTINGS = """[train]
threads = {threads}
batch_rows = 16
checkpoint_seconds = 86400
[data]
held_out_fraction = 0.0
"""


class Bench:
    """An installation whose trainer is warm."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.installation = Installation(folder, SETTINGS.format(threads=threads))
        self.folder, self.home = folder, self.installation.home
        self._number = 0
        self.installation.start()
        self.round(1, 1)

    def round(self, files: int, steps: int) -> tuple[float, float]:
        """Train so many files of so many steps; what a file takes beside its steps, and the broker's part (seconds)."""
        with BrokerClient(self.home) as client:
            client.call(DrainQueue(request_id=new_request_id()), Done, timeout_seconds=PATIENCE_SECONDS)
            before = self._events(client, 0)
            seq = before[-1].seq if before else 0
            self._submit(files, steps)
            wait_until(lambda: self._prepared(client, seq) == files, "all is prepared", PATIENCE_SECONDS)
            client.call(ResumeQueue(request_id=new_request_id()), Done)
            wait_until(lambda: self._open(client) == 0, "all is trained", PATIENCE_SECONDS)
            return self._measure(self._events(client, seq))

    def _submit(self, files: int, steps: int) -> None:
        paths = []
        for _ in range(files):
            self._number += 1
            path = self.folder / f"{self._number}.jsonl"
            path.write_text("".join(f'{{"text": "file {self._number} row {row} and some words"}}\n'
                                    for row in range(steps * BATCH_ROWS)))
            paths.append(str(path))
        done = self.installation.run("-m", "trainq.cli", "submit", *paths, seconds=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr

    def _prepared(self, client: BrokerClient, after: int) -> int:
        return sum(event.type == "JobPrepared" for event in self._events(client, after))

    def _open(self, client: BrokerClient) -> int:
        counts = client.call(GetOverview(request_id=new_request_id()), Overview).counts.get(JobKind.TRAIN.value, {})
        return sum(counts.get(state.value, 0) for state in (JobState.QUEUED, JobState.RUNNING))

    def _events(self, client: BrokerClient, after: int) -> list[EventView]:
        found: list[EventView] = []
        while page := client.call(Replay(request_id=new_request_id(), after_seq=found[-1].seq if found else after),
                                  Events, timeout_seconds=PATIENCE_SECONDS).events:
            found += page
        return found

    def _measure(self, events: list[EventView]) -> tuple[float, float]:
        ended = {event.job: event.at for event in events
                 if event.type == "JobSucceeded" and event.job.startswith("train-")}
        began = {event.job: event.at for event in events if event.type == "LeaseGranted" and event.job in ended}
        order = sorted(ended, key=ended.__getitem__)
        steps = sum(metrics.seconds for job in order
                    for metrics in stephistory.read(stephistory.path_of(self.home.metrics, job)))
        whole = max(ended.values()) - min(began.values())
        handed_over = [began[after] - ended[before] for before, after in itertools.pairwise(order)]
        return (whole - steps) / len(order), mean(handed_over) if handed_over else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description="How long nothing is computed between two jobs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8, help="steps of a file")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    seen: dict[str, list[float]] = {"a file of many": [], "of that the broker's part": [], "one file of all rows": []}
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        bench = Bench(Path(folder), chosen.threads)
        try:
            for number in range(chosen.rounds):
                for many in ((True, False) if number % 2 else (False, True)):
                    beside, handed_over = bench.round(*((chosen.files, chosen.steps) if many
                                                        else (1, chosen.files * chosen.steps)))
                    seen["a file of many" if many else "one file of all rows"].append(1000 * beside)
                    if many:
                        seen["of that the broker's part"].append(1000 * handed_over)
        finally:
            bench.installation.end()
    sys.stdout.write(f"{tables.machine()}\n{chosen.files} files of {chosen.steps} steps, {chosen.threads} threads\n\n")
    rows = [[name, *tables.spread(values, 0)] for name, values in seen.items()]
    sys.stdout.write("\n".join(tables.lines(("ms beside the steps", "rounds", "least", "median", "most"), rows)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
