"""``scripts/bench/status``: the price and the speed of being watched, in a real installation that trains.

A committed event is a pin that is set or taken away: it changes nothing in the work. It counts as seen by who listens
to the broker's events when the event has come, and by who follows the status when a change with its number has come.
The clock starts when the broker decided it (the event's ``at``), so that the commit's fsync is in it; "beyond the
commit" starts when the reply came, which is sent once it is on disk.

Then a long job trains in windows with 200 subscribers of both sockets and without them, alternating; half of them never
read. In both, events go on. The training process has a processor to itself there: what it loses, it loses by waiting,
and not to the programs of 200 watchers that run on the same machine. Last, processor time of the watched processes, at
rest and while training.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import msgspec
import psutil
import zmq

from bench import tables
from trainq import deltas
from trainq.chaos.installation import Installation, wait_until
from trainq.chaos.processes import FORK_SERVER, TRAINING
from trainq.client import BrokerClient
from trainq.deltas import Delta
from trainq.ids import new_request_id
from trainq.jobs import Store
from trainq.messages import Done, EventView, GetOverview, Overview, Pin, Unpin

PATIENCE_SECONDS = 120.0
WATCHERS = 200
# Of the load in the windows; a person or a program that does so much is hard to imagine.
EVENTS_PER_SECOND = 20.0
SETTINGS = """[train]
epochs = 1000
threads = 1
batch_rows = 2
checkpoint_seconds = 60
"""
WATCHED = ("broker", "status", "web")
_CROWD = """
import sys, time, zmq
context = zmq.Context()
context.set(zmq.MAX_SOCKETS, 4096)
reading = zmq.Poller()
kept = []
for number in range(int(sys.argv[3])):
    one = context.socket(zmq.SUB)
    one.setsockopt(zmq.SUBSCRIBE, b"")
    stuck = number % 2 == 0
    if stuck:
        one.setsockopt(zmq.RCVHWM, 1)
    for path in sys.argv[1:3]:
        one.connect("ipc://" + path)
    kept.append(one)
    if not stuck:
        reading.register(one, zmq.POLLIN)
print("ready", flush=True)
while True:
    for one, _ in reading.poll(1000):
        while one.poll(0):
            one.recv_multipart()
"""


class Bench:
    """An installation that trains a long job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.installation = Installation(folder, SETTINGS)
        self.home = self.installation.home

    def start(self) -> None:
        self.installation.start()
        wait_until(lambda: self._overview() is not None, "the broker answers", PATIENCE_SECONDS)

    def train(self) -> None:
        rows = self.folder / "rows.jsonl"
        rows.write_text("".join(f'{{"text": "row {number} {"word " * 5}"}}\n' for number in range(2000)))
        done = self.installation.run("-m", "trainq.cli", "submit", str(rows), seconds=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: self.lines() > 20, "it trains", PATIENCE_SECONDS)

    def _overview(self) -> Overview | None:
        with BrokerClient(self.home) as client, contextlib.suppress(Exception):
            return client.call(GetOverview(request_id=new_request_id()), Overview, timeout_seconds=5.0)
        return None

    def lines(self) -> int:
        """How many steps are done."""
        path = self.home.metrics / "train-1.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def head(self) -> str:
        overview = self._overview()
        assert overview is not None
        return overview.checkpoint

    def pids(self) -> dict[str, int]:
        return {seen.role: seen.pid for seen in self.installation.processes() if seen.role in WATCHED}


def pins(client: BrokerClient, name: str) -> Iterator[int]:
    """Commit an event with each turn; its number."""
    for turn in itertools.count():
        ask = (Pin(request_id=new_request_id(), store=Store.CHECKPOINTS, name=name, reason="bench") if turn % 2 == 0
               else Unpin(request_id=new_request_id(), store=Store.CHECKPOINTS, name=name))
        yield client.call(ask, Done, timeout_seconds=PATIENCE_SECONDS).seq


class Ears:
    """Notes when each event was seen on either socket, in a thread of its own."""

    def __init__(self, bench: Bench) -> None:
        self._home = bench.home
        self.events: dict[int, tuple[float, float]] = {}
        self.changes: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Ears:
        self._thread.start()
        time.sleep(1.0)  # a SUB socket has no way to say that it is subscribed
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        context = zmq.Context()
        sockets = {}
        for path, topic in ((self._home.event_socket, b"event."), (self._home.status_socket, deltas.DELTA_TOPIC)):
            one = context.socket(zmq.SUB)
            one.setsockopt(zmq.SUBSCRIBE, topic)
            one.connect(f"ipc://{path}")
            sockets[one] = topic
        poller = zmq.Poller()
        for one in sockets:
            poller.register(one, zmq.POLLIN)
        while not self._over.is_set():
            for one, _ in poller.poll(100):
                topic, payload = one.recv_multipart()
                now = time.time()
                if sockets[one] == b"event.":
                    event = msgspec.msgpack.decode(payload, type=EventView)
                    self.events[event.seq] = (event.at, now)
                else:
                    changed = msgspec.msgpack.decode(payload, type=Delta).changed
                    if "seq" in changed:
                        self.changes[changed["seq"]] = now
        context.destroy(linger=0)


def latencies(bench: Bench, events: int) -> dict[str, list[float]]:
    """Milliseconds."""
    replied: dict[int, float] = {}
    dice = random.Random(7)
    with Ears(bench) as ears, BrokerClient(bench.home) as client:
        for seq in itertools.islice(pins(client, bench.head()), events):
            replied[seq] = time.time()
            time.sleep(dice.uniform(0.0, 0.3))
        time.sleep(2.0)
    found: dict[str, list[float]] = {"event, beyond the commit": [], "event, with its commit": [],
                                     "status change, with its commit": []}
    for seq, at_reply in replied.items():
        at, seen = ears.events[seq]
        found["event, beyond the commit"].append(1000 * max(0.0, seen - at_reply))
        found["event, with its commit"].append(1000 * (seen - at))
        shown = min((when for number, when in ears.changes.items() if number >= seq), default=float("inf"))
        found["status change, with its commit"].append(1000 * (shown - at))
    return found


@contextlib.contextmanager
def crowd(bench: Bench) -> Iterator[None]:
    """All the subscribers, in a process of their own."""
    process = subprocess.Popen([sys.executable, "-c", _CROWD, str(bench.home.event_socket),
                                str(bench.home.status_socket), str(WATCHERS)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()


def set_apart(bench: Bench) -> None:
    """Give the training process, and those forked after it, one processor, and everything else the others.

    Where there is one processor, they share it.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [first])
    seen = bench.installation.processes()
    assert TRAINING in [each.role for each in seen]
    for each in seen:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            for thread in psutil.Process(each.pid).threads():
                os.sched_setaffinity(thread.id, [first] if each.role in (TRAINING, FORK_SERVER) else others or [first])


def window(bench: Bench, seconds: float) -> float:
    """Steps a second, while events go on."""
    with BrokerClient(bench.home) as client:
        turns = pins(client, bench.head())
        began, before = time.perf_counter(), bench.lines()
        while time.perf_counter() - began < seconds:
            next(turns)
            time.sleep(1 / EVENTS_PER_SECOND)
        return (bench.lines() - before) / (time.perf_counter() - began)


def memory(bench: Bench) -> dict[str, float]:
    """MiB by process."""
    return {role: psutil.Process(pid).memory_info().rss / (1 << 20) for role, pid in bench.pids().items()}


def processor(bench: Bench, seconds: float) -> dict[str, float]:
    """Percent of one core by process, over so many seconds."""
    def spent() -> dict[str, float]:
        times = {role: psutil.Process(pid).cpu_times() for role, pid in bench.pids().items()}
        return {role: each.user + each.system for role, each in times.items()}

    before = spent()
    time.sleep(seconds)
    return {role: 100 * (after - before[role]) / seconds for role, after in spent().items()}


def _p(values: list[float], share: float) -> str:
    return f"{sorted(values)[min(len(values) - 1, int(share * len(values)))]:.1f}"


def report(bench: Bench, events: int, seconds: float, rounds: int, say: Callable[[str], None]) -> None:
    bench.start()
    time.sleep(10.0)  # what starts, has started
    rest = processor(bench, seconds)
    bench.train()
    busy = processor(bench, seconds)
    say("latencies")
    found = latencies(bench, events)
    rates: dict[str, list[float]] = {"nobody listens": [], f"{WATCHERS} subscribers": []}
    sizes = [memory(bench)]
    set_apart(bench)
    for number in range(rounds):
        say(f"window {number + 1} of {rounds}")
        rates["nobody listens"].append(window(bench, seconds))
        with crowd(bench):
            rates[f"{WATCHERS} subscribers"].append(window(bench, seconds))
            sizes.append(memory(bench))
    print(tables.machine())
    rows = [(name, str(len(values)), _p(values, 0.5), _p(values, 0.99), _p(values, 1.0),
             "10" if "beyond" in name else "") for name, values in found.items()]
    for line in tables.lines(("milliseconds until seen, while training", "events", "p50", "p99", "most", "goal"), rows):
        print(line)
    print()
    for line in tables.lines(("optimizer steps a second", "windows", "least", "median", "most"),
                             [(name, *tables.spread(values, 2)) for name, values in rates.items()]):
        print(line)
    print()
    costs = [(role, f"{rest[role]:.2f}", f"{busy[role]:.2f}", f"{sizes[0][role]:.0f}",
              f"{max(each[role] for each in sizes[1:]):.0f}") for role in rest]
    costs += [("together", f"{sum(rest.values()):.2f}", f"{sum(busy.values()):.2f}", "", ""),
              ("goal", "2", "5", "", "")]
    for line in tables.lines(("% of a core", "at rest", "while training", "MiB", "MiB, most under subscribers"), costs):
        print(line)
    ratio = median(rates[f"{WATCHERS} subscribers"]) / median(rates["nobody listens"])
    print(f"\nsteps under subscribers: {ratio:.3f} of those without")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--events", type=int, default=400, metavar="N", help="how many are timed (400)")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="length of a window (30)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="windows of each kind (3)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder))
        try:
            report(bench, given.events, given.seconds, given.rounds, lambda text: print(f"  {text}", file=sys.stderr))
        finally:
            bench.installation.end()


if __name__ == "__main__":
    main()
