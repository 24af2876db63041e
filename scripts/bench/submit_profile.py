"""``scripts/bench/submitting``: where the time of a submit goes inside the broker.

The broker's desk and journal in this process, without sockets: one file a transaction, and 64 of them. SQLite itself
says how long each statement took (sqlite3_profile); what it does not say is Python: decoding, judging, encoding,
hashing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from bench import tables
from services.broker.desk import Desk
from trainq import config, files, ingest, messages
from trainq.clock import SystemClock
from trainq.ids import new_request_id
from trainq.journal import Journal
from trainq.logs import null_log
from trainq.messages import Submit, SubmitItem

_ROW = b'{"text": "one row"}\n'


class Inside:
    """A journal and a desk in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._configuration = config.load({"TRAINQ_HOME": str(folder / "h")}, config.project_root())
        self.home = self._configuration.home
        for made in self.home.folders():
            files.make_directory(made)
        self.journal = Journal.open(self.home.journal)
        self._desk = Desk(self.journal, self._configuration, SystemClock(), null_log())
        self.nanoseconds: dict[str, int] = defaultdict(int)

    def submit(self) -> bytes:
        digest = os.urandom(32).hex()
        path = ingest.data_path(self.home, digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_ROW)
        return messages.encode(Submit(request_id=new_request_id(), items=[
            SubmitItem(request_id=new_request_id(), name="rows.jsonl", digest=digest, size_bytes=len(_ROW))]))

    def work(self, payloads: list[bytes], together: int) -> float:
        """Answer them, so many in a transaction; seconds."""
        started = time.perf_counter()
        for at in range(0, len(payloads), together):
            batch = payloads[at:at + together]
            replies = self.journal.write(
                lambda batch=batch: [self._desk.answer(messages.decode_request(payload)) for payload in batch])
            recorded = self._desk.take_recorded()
            for reply in replies:
                messages.encode(reply)
            self._desk.committed(recorded)
        return time.perf_counter() - started

    def note(self, statement: str, nanoseconds: int) -> None:
        words = statement.split()
        what = "read: is the request known, is the content" if words[0] == "SELECT" else " ".join(
            words[:3] if words[0] == "INSERT" else words[:2])
        self.nanoseconds[what.rstrip("(")] += nanoseconds


def measure(folder: Path, jobs: int, together: int) -> list[tuple[str, float]]:
    """(part, microseconds a job), the largest first, and all of it at the end."""
    inside = Inside(folder)
    inside.work([inside.submit() for _ in range(jobs)], together)  # until the log is as long as it gets
    payloads = [inside.submit() for _ in range(jobs)]
    os.sync()
    seconds = inside.work(payloads, together)
    payloads = [inside.submit() for _ in range(jobs)]
    os.sync()
    inside.journal.connection.set_profile(inside.note)
    watched = inside.work(payloads, together)
    inside.journal.connection.set_profile(None)
    inside.journal.close()
    parts = {what: spent / 1e3 / jobs for what, spent in inside.nanoseconds.items()}
    # SQLite's watch costs something itself, which is in "watched" and not in "seconds".
    parts["Python"] = 1e6 * seconds / jobs - sum(parts.values())
    small = sum(spent for what, spent in parts.items() if spent < 1.0)
    found = sorted(((what, spent) for what, spent in parts.items() if spent >= 1.0), key=lambda part: -part[1])
    return [*found, ("all else", small), ("together", 1e6 * seconds / jobs), ("(watched)", 1e6 * watched / jobs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=12_800, metavar="N", help="files (12800)")
    given = parser.parse_args()
    print(tables.machine())
    for together in (1, 64):
        folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
        try:
            parts = measure(folder, given.jobs if together > 1 else given.jobs // 4, together)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        rows = [(what, f"{spent:.1f}") for what, spent in parts]
        for line in tables.lines((f"microseconds a file, {together} in a transaction", ""), rows):
            print(line)


if __name__ == "__main__":
    main()
