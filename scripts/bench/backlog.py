"""``scripts/bench/backlog``: a broker that has many jobs, until it answers after kill -9, and its memory.

No job but some thousand is prepared, which is the longest way for who asks what goes next. "ready" is from the
spawn of the process to its first answer (the whole picture, asked in a loop since before the spawn); "imports" is a
process that imports what the broker imports and ends, in turn with it. Memory is what Linux says of the broker that has
answered (VmRSS) and of its worst moment since (VmHWM), after submits, leases and pages of the list.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench import tables
from bench.queueing import Servers, lease_and_complete, one_at_a_time, outstanding, rate
from trainq import messages
from trainq.ids import new_request_id
from trainq.messages import GetOverview, JobList, ListJobs

GOAL_MILLISECONDS, GOAL_MEBIBYTES = 150, 80
ITEMS = 1000
ASKED = 1000


def fill(servers: Servers, jobs: int) -> float:
    """Submit so many, a thousand at once; jobs a second."""
    started = time.perf_counter()
    for _ in range(jobs // ITEMS):
        outstanding(servers.broker, [servers.submit(ITEMS)])
    return jobs / (time.perf_counter() - started)


def memory(pid: int) -> tuple[float, float]:
    """(VmRSS, VmHWM) in MiB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def importing() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import services.broker.app, trainq.service"], check=True)
    return time.perf_counter() - started


def ready_after_kill(servers: Servers) -> float:
    """Seconds from the spawn of a successor to its first answer."""
    servers.kill_broker()
    started = time.perf_counter()
    servers.start_broker()
    servers.broker.ask(messages.encode(GetOverview(request_id=new_request_id())))
    return time.perf_counter() - started


def ask_around(servers: Servers) -> None:
    """What could make a broker grow: submits, leases, and pages of the list."""
    one_at_a_time(servers.broker, [servers.submit() for _ in range(ASKED)])
    lease_and_complete(servers.broker, ASKED)
    before = None
    for _ in range(50):
        listed = messages.decode_reply(servers.broker.ask(messages.encode(
            ListJobs(request_id=new_request_id(), limit=1000, before_number=before)))).reply
        assert isinstance(listed, JobList)
        before = listed.jobs[-1].number


def overviews(servers: Servers, count: int) -> None:
    for _ in range(count):
        servers.broker.ask(messages.encode(GetOverview(request_id=new_request_id())))


def measure(jobs: int, rounds: int) -> list[str]:
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    servers = Servers(folder)
    try:
        filled = fill(servers, jobs)
        ready, imports = [], []
        answers = rate(ASKED // 10, lambda: overviews(servers, ASKED // 10))
        for _ in range(rounds):
            lease_and_complete(servers.broker, ASKED)
            imports.append(1000 * importing())
            ready.append(1000 * ready_after_kill(servers))
        resident, _ = memory(servers.broker_pid)
        ask_around(servers)
        _, worst = memory(servers.broker_pid)
        payloads = [servers.submit() for _ in range(ASKED)]
        singles = rate(ASKED, lambda: one_at_a_time(servers.broker, payloads))
        on_disk = sum(path.stat().st_size for path in servers.home.root.glob("journal.db*"))
        return [f"{jobs}", f"{filled:.0f}", f"{median(ready):.0f}", f"{median(imports):.0f}",
                f"{median(ready) - median(imports):.0f}", f"{resident:.0f}", f"{worst:.0f}", f"{singles:.0f}",
                f"{1000 / answers:.1f}", f"{on_disk / jobs:.0f}"]
    finally:
        servers.end()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[100_000, 1_000_000], metavar="N", help="100000 1000000")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="kills (5)")
    given = parser.parse_args()
    print(tables.machine())
    rows = [measure(jobs, given.rounds) for jobs in given.jobs]
    header = ("jobs", "submits/s, 1000 at once", "ready, ms", "imports, ms", f"beyond (goal {GOAL_MILLISECONDS})",
              "MiB", f"MiB at worst (goal {GOAL_MEBIBYTES})", "submits/s, singly", "overview, ms",
              "bytes a job")
    for line in tables.lines(header, rows):
        print(line)


if __name__ == "__main__":
    main()
