"""``scripts/bench/queue``: the real broker beside the floor server, in turn, by the same client, in one run.

A job of the broker is a submit with everything that it means: two jobs, settings frozen, duplicate looked for, events
chained, tables folded, on disk before the reply. The floor (:mod:`bench.floor`) does none of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq

from bench import tables
from trainq import files, ingest, messages
from trainq.config import Home
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import Complete, Leased, PrepareResult, Submit, SubmitItem, Submitted, TakeLease

OUTSTANDING, BATCH = 64, 64
_ROW = b'{"text": "one row"}\n'
# Of one file, on every file system.
MAX_LINKS = 30_000
# What is asked for: the ratio to the floor, or a number of jobs a second.
GOALS = {"one at a time": "0.80", "64 outstanding": "0.50", "batches of 64": "50000 /s",
         "lease + complete (floor: one at a time)": "0.60", "trainq submit, processes a second": "0.67"}
_PREPARED = PrepareResult(shard="s", shard_digest="0" * 64, rows=1, tokens=1, report={})


class Client:
    """A DEALER that sends and receives whole payloads; the same for both servers."""

    def __init__(self, path: Path) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"ipc://{path}")

    def send(self, payload: bytes) -> None:
        self._socket.send_multipart((b"", payload))

    def receive(self) -> bytes:
        if not self._socket.poll(60_000):
            raise TimeoutError("no reply within a minute")
        return self._socket.recv_multipart()[-1]

    def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return self.receive()

    def close(self) -> None:
        self._context.destroy(linger=0)


class Servers:
    """Both of them, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "h")
        for made in self.home.folders():
            files.make_directory(made)
        self.floor_socket = folder / "floor.sock"
        self.start_broker()
        self._floor_process = subprocess.Popen(
            [sys.executable, "-m", "bench.floor", str(self.floor_socket), str(folder / "floor.log")])
        self._names = self._stored_names()
        self.broker, self.floor = Client(self.home.request_socket), Client(self.floor_socket)

    @property
    def broker_pid(self) -> int:
        return self._broker_process.pid

    def start_broker(self) -> None:
        self._broker_process = subprocess.Popen([sys.executable, "-m", "services.broker"],
                                                env={**os.environ, "TRAINQ_HOME": str(self.home.root)})

    def kill_broker(self) -> None:
        self._broker_process.kill()
        self._broker_process.wait()

    def end(self) -> None:
        for client in (self.broker, self.floor):
            client.close()
        self.kill_broker()
        self._floor_process.kill()
        self._floor_process.wait()

    def submit(self, items: int = 1) -> bytes:
        """A submit of so many files that were never submitted before, encoded."""
        return messages.encode(Submit(request_id=new_request_id(), items=[
            SubmitItem(request_id=new_request_id(), name="rows.jsonl", digest=next(self._names), size_bytes=len(_ROW))
            for _ in range(items)]))

    def _stored_names(self) -> Iterator[str]:
        """Digests under which ``data/`` has a file. Only the names differ: the broker looks at no more."""
        while True:
            one = self.home.data / "one"
            one.unlink(missing_ok=True)
            one.write_bytes(_ROW)
            for _ in range(MAX_LINKS):
                digest = os.urandom(32).hex()
                path = ingest.data_path(self.home, digest)
                path.parent.mkdir(exist_ok=True)
                path.hardlink_to(one)
                yield digest


def one_at_a_time(client: Client, payloads: list[bytes]) -> None:
    for payload in payloads:
        client.ask(payload)


def outstanding(client: Client, payloads: list[bytes]) -> None:
    waiting = 0
    for payload in payloads:
        if waiting == OUTSTANDING:
            client.receive()
            waiting -= 1
        client.send(payload)
        waiting += 1
    for _ in range(waiting):
        client.receive()


def rate(jobs: int, work: Callable[[], None]) -> float:
    # What made the files is not paid for by the first who syncs.
    os.sync()
    started = time.perf_counter()
    work()
    return jobs / (time.perf_counter() - started)


def lease_and_complete(client: Client, jobs: int) -> None:
    """Each turn is one request: the completion that brings the next lease."""
    take = TakeLease(request_id=new_request_id(), worker="bench", session="one", kinds=(JobKind.PREPARE,))
    reply = messages.decode_reply(client.ask(messages.encode(take))).reply
    for _ in range(jobs):
        assert isinstance(reply, Leased), reply
        assert reply.lease is not None
        reply = messages.decode_reply(client.ask(messages.encode(Complete(
            request_id=new_request_id(), job=reply.lease.job, token=reply.lease.token, result=_PREPARED, worker="bench",
            session="one", next_kinds=(JobKind.PREPARE,))))).reply


def cli_seconds(servers: Servers, folder: Path, number: int) -> tuple[float, float]:
    """Whole processes: ``trainq submit`` of a new file, and the least that asks the floor server once."""
    source = folder / f"cli-{number}.jsonl"
    source.write_text(f'{{"text": "row {number}"}}\n')
    os.sync()
    # As in an installation, the modules are compiled, whatever this shell says about bytecode.
    environment = {**os.environ, "TRAINQ_HOME": str(servers.home.root), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    asks = ("import sys, zmq, msgpack\ns = zmq.Context().socket(zmq.REQ)\ns.connect('ipc://' + sys.argv[1])\n"
            "s.send(msgpack.packb({'name': 'x'}))\ns.recv()\n")
    seconds = []
    for words in (["-m", "trainq.cli", "submit", str(source)], ["-c", asks, str(servers.floor_socket)]):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


def measure(folder: Path, rounds: int, jobs: int) -> Iterator[tuple[str, float, float]]:
    servers = Servers(folder)
    try:
        assert isinstance(messages.decode_reply(servers.broker.ask(servers.submit())).reply, Submitted)
        cli_seconds(servers, folder, rounds)  # compiles
        for number in range(rounds):
            for name, count, batch, way in (("one at a time", jobs // 3, 1, one_at_a_time),
                                            ("64 outstanding", jobs, 1, outstanding),
                                            ("batches of 64", 4 * jobs, BATCH, outstanding)):
                payloads = [servers.submit(batch) for _ in range(count // batch)]
                done = len(payloads) * batch
                yield (name, rate(done, lambda p=payloads, way=way: way(servers.broker, p)),
                       rate(done, lambda p=payloads, way=way: way(servers.floor, p)))
            payloads = [servers.submit() for _ in range(jobs // 3)]
            yield ("lease + complete (floor: one at a time)",
                   rate(jobs // 3, lambda: lease_and_complete(servers.broker, jobs // 3)),
                   rate(len(payloads), lambda p=payloads: one_at_a_time(servers.floor, p)))
            ours, floor = cli_seconds(servers, folder, number)
            yield "trainq submit, processes a second", 1 / ours, 1 / floor
    finally:
        servers.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often (3)")
    parser.add_argument("--jobs", type=int, default=3000, metavar="N", help="jobs of a round (3000)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    found: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, ours, floor in measure(folder, given.rounds, given.jobs):
            found.setdefault(name, []).append((ours, floor))
            print(f"  {ours:10.0f} /s  {floor:10.0f} /s  {name}", file=sys.stderr)
    print(tables.machine())
    rows = []
    for name, pairs in found.items():
        ours, floor = (sorted(values)[len(values) // 2] for values in zip(*pairs, strict=True))
        rows.append((name, str(len(pairs)), f"{ours:.0f}", f"{floor:.0f}", f"{ours / floor:.2f}", GOALS[name]))
    for line in tables.lines(("per second, median", "rounds", "trainq", "floor", "ratio", "goal"), rows):
        print(line)


if __name__ == "__main__":
    main()
