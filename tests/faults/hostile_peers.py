"""Attacks on the broker's sockets, by peers that may do what they like: ``python -m tests.faults.hostile_peers``.

Each attack runs against one real broker while a good client asks for the whole picture and submits a file now and then.
Afterwards the broker must be the same process, its queue whole and its memory and log bounded. One JSON object on
stdout: by attack the good client's slowest answer (seconds), the broker's memory (MiB) and what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zmq

from trainq import config, files, ingest, messages
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.ids import new_request_id
from trainq.messages import GetOverview, ListJobs, Overview, Replay, Submit, SubmitItem, Submitted, TakeLease

MAX_RESIDENT_MIB = 200
MAX_LOG_BYTES = 256 * 1024
PATIENCE_SECONDS = 60.0
JOBS = 3000


class Attacker:
    """A DEALER that sends whatever it is told to, in frames of its own."""

    def __init__(self, home: Home, identity: bytes = b"", *, linger_milliseconds: int = 0,
                 deaf: bool = False) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, linger_milliseconds)
        # A broker that has the processor for itself only now and then reads on after a while.
        self.socket.setsockopt(zmq.SNDTIMEO, int(PATIENCE_SECONDS * 1000))
        if deaf:
            # Else ZeroMQ reads for it, a thousand messages.
            self.socket.setsockopt(zmq.RCVHWM, 1)
            self.socket.setsockopt(zmq.RCVBUF, 4096)
        if identity:
            self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.connect(f"ipc://{home.request_socket}")

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart((b"", *frames))

    def settle(self) -> None:
        """Until the broker has read all that was sent before: an answer to a good request comes last."""
        wanted = new_request_id()
        self.send(messages.encode(GetOverview(request_id=wanted)))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.socket.poll(1000):
                reply = messages.decode_reply(self.socket.recv_multipart()[-1])
                if reply.request_id == wanted:
                    return
            else:
                self.send(messages.encode(GetOverview(request_id=wanted)))
        raise TimeoutError("the broker does not get through what it was sent")

    def close(self) -> None:
        self._context.destroy(linger=0)

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Field:
    """A broker with a queue, and a good client that never rests."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "h")
        for made in self.home.folders():
            files.make_directory(made)
        source = folder / "rows.jsonl"
        source.write_text('{"text": "a"}\n')
        self.stored = ingest.store_file(self.home, source)
        self.random = random.Random(7)
        self.restart()
        self.slowest = 0.0
        self.submitted = 0
        self._enough = threading.Event()
        self._good = threading.Thread(target=self._be_good)
        self._faults: list[str] = []
        with BrokerClient(self.home) as client:
            for _ in range(3):
                client.call(self.submit(JOBS // 3), Submitted, timeout_seconds=PATIENCE_SECONDS)
        self.submitted = JOBS
        self._good.start()

    def restart(self) -> None:
        self.broker = subprocess.Popen([sys.executable, "-m", "services.broker"], cwd=config.project_root(),
                                       env={**os.environ, "TRAINQ_HOME": str(self.home.root)})

    def submit(self, items: int = 1) -> Submit:
        return Submit(request_id=new_request_id(), items=[
            SubmitItem(request_id=new_request_id(), name="rows.jsonl", digest=self.stored.digest,
                       size_bytes=self.stored.size_bytes, force=True) for _ in range(items)])

    def _be_good(self) -> None:
        with BrokerClient(self.home) as client:
            while not self._enough.is_set():
                for request, expect in ((GetOverview(request_id=new_request_id()), Overview),
                                        (self.submit(), Submitted)):
                    started = time.monotonic()
                    try:
                        client.call(request, expect, timeout_seconds=PATIENCE_SECONDS)
                    except Exception as error:
                        self._faults.append(f"the good client: {type(error).__name__}: {error}")
                        return
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    self.submitted += isinstance(request, Submit)
                self._enough.wait(0.02)

    def memory_mib(self, field: str = "VmRSS") -> float:
        for line in Path(f"/proc/{self.broker.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return 0.0

    def wait_until_idle(self) -> None:
        """Until the broker has got through what it was sent: for half a second it does not work much."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        worked = self._worked_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.5)
            before, worked = worked, self._worked_seconds()
            if worked - before < 0.2:
                return
        raise TimeoutError("the broker does not get through what it was sent")

    def _worked_seconds(self) -> float:
        fields = Path(f"/proc/{self.broker.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.home.logs.glob("broker.log*"))

    def run(self, attack: Callable[[Field], None]) -> dict[str, Any]:
        """One attack: what it did to the broker and to the good client."""
        self.slowest, log_before = 0.0, self.log_bytes()
        Path(f"/proc/{self.broker.pid}/clear_refs").write_text("5")  # VmHWM begins anew
        wrong: list[str] = []
        try:
            attack(self)
            with Attacker(self.home) as last:
                last.settle()
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
        if self.broker.poll() is not None:
            return {"wrong": [*wrong, f"the broker has ended with {self.broker.returncode}"]}
        worst, log = self.memory_mib("VmHWM"), self.log_bytes() - log_before
        wrong += self._faults
        if worst > MAX_RESIDENT_MIB:
            wrong.append(f"{worst:.0f} MiB")
        if log > MAX_LOG_BYTES:
            wrong.append(f"{log} bytes of log")
        return {"slowest": round(self.slowest, 3), "mib": round(worst), "log_bytes": log, "wrong": wrong}

    def close(self) -> list[str]:
        """What is wrong with the queue at the end."""
        self._enough.set()
        self._good.join()
        wrong = []
        with BrokerClient(self.home) as client:
            counts = client.call(GetOverview(request_id=new_request_id()), Overview).counts
            queued = counts.get("train", {}).get("queued", 0)
            if queued != self.submitted:
                wrong.append(f"{self.submitted} files were acknowledged, and {queued} are queued")
        self.broker.terminate()
        self.broker.wait(timeout=60)
        return wrong


def random_bytes(field: Field) -> None:
    with Attacker(field.home) as attacker:
        for _ in range(5000):
            attacker.send(field.random.randbytes(field.random.randrange(400)))
        attacker.settle()


def truncations_and_flips(field: Field) -> None:
    """Cut at every length, and every single bit wrong; of a flipped submit a valid other one could come."""
    whole = messages.encode(field.submit(2))
    asked = messages.encode(ListJobs(request_id=new_request_id(), limit=3))
    with Attacker(field.home) as attacker:
        for length in range(len(whole)):
            attacker.send(whole[:length])
        for bit in range(8 * len(asked)):
            flipped = bytearray(asked)
            flipped[bit // 8] ^= 1 << bit % 8
            attacker.send(bytes(flipped))
        attacker.settle()


def oversized(field: Field) -> None:
    """Just under the frame's limit, which is read and refused; and over it, for which the connection is dropped."""
    for _ in range(20):
        with Attacker(field.home) as attacker:
            for _ in range(20):
                attacker.send(b"\xc1" * (4 << 20))
            attacker.settle()
        with Attacker(field.home, linger_milliseconds=1000) as attacker:
            attacker.send(b"\x00" * (5 << 20))


def frames(field: Field) -> None:
    good = messages.encode(GetOverview(request_id=new_request_id()))
    with Attacker(field.home) as attacker:
        attacker.socket.send_multipart([b"x"] * 20_000)
        attacker.socket.send_multipart([good] * 20_000)
        for _ in range(2000):
            attacker.socket.send_multipart([b""])
            attacker.socket.send_multipart([b"", b"", b"", b"", good])
            attacker.socket.send_multipart([b"no delimiter"])
        attacker.settle()


def versions(field: Field) -> None:
    valid = msgpack.unpackb(messages.encode(GetOverview(request_id="r1")))
    with Attacker(field.home) as attacker:
        for changes in ({"v": 0}, {"v": 2}, {"v": 99}, {"v": "1"}, {"type": "Unheard"}, {"type": 5}, {"request_id": 7}):
            attacker.send(msgpack.packb({**valid, **changes}))
            if not attacker.socket.poll(10_000):
                raise AssertionError(f"{changes} has no answer")
            reply = messages.decode_reply(attacker.socket.recv_multipart()[-1]).reply
            assert isinstance(reply, messages.Refused), reply
            assert reply.code == "protocol", reply
        attacker.send(msgpack.packb({**valid, "new_field": [1, 2]}))
        assert isinstance(messages.decode_reply(attacker.socket.recv_multipart()[-1]).reply, Overview)


def repetitions(field: Field) -> None:
    """The same submit a thousand times is one job; the same id for something else is refused."""
    submit = field.submit()
    payload = messages.encode(submit)
    other = messages.encode(Submit(request_id=submit.request_id, items=[SubmitItem(
        request_id=submit.items[0].request_id, name="other", digest=field.stored.digest, force=True,
        size_bytes=field.stored.size_bytes)]))
    jobs = set()
    with Attacker(field.home) as attacker:
        for _ in range(1000):
            attacker.send(payload)
        for _ in range(1000):
            jobs.add(messages.decode_reply(attacker.socket.recv_multipart()[-1]).reply.receipts[0].job)
        attacker.send(other)
        reply = messages.decode_reply(attacker.socket.recv_multipart()[-1]).reply
    field.submitted += 1
    assert len(jobs) == 1, jobs
    assert reply.receipts[0].error_code == "request_reused", reply


def stolen_identities(field: Field) -> None:
    """Two under one name, which take the connection from each other: to whom an answer goes is theirs to sort out."""
    for _ in range(50):
        with Attacker(field.home, b"the-same") as first, Attacker(field.home, b"the-same") as second:
            for attacker in (first, second, first, second):
                attacker.send(messages.encode(GetOverview(request_id=new_request_id())))


def never_reading(field: Field) -> None:
    """A hundred who ask for the largest pages, and read none."""
    asked = [messages.encode(ListJobs(request_id=new_request_id(), limit=1000)),
             messages.encode(Replay(request_id=new_request_id(), after_seq=0, limit=1000)),
             messages.encode(GetOverview(request_id=new_request_id()))]
    attackers = [Attacker(field.home, deaf=True) for _ in range(100)]
    try:
        for number in range(60):
            for attacker in attackers:
                attacker.send(asked[number % 3])
        field.wait_until_idle()
    finally:
        for attacker in attackers:
            attacker.close()


def dropped_connections(field: Field) -> None:
    for _ in range(300):
        with Attacker(field.home, linger_milliseconds=100) as attacker:
            attacker.send(messages.encode(ListJobs(request_id=new_request_id(), limit=1000)))


def bombs(field: Field) -> None:
    """Nesting without end, and headers that claim what never comes."""
    head = msgpack.packb({"type": "Complete", "request_id": "r", "job": "train-1", "token": 1, "worker": "w",
                          "session": "s"})
    result = msgpack.packb("result") + b"\x83" + msgpack.packb("type") + msgpack.packb("RejectResult") + msgpack.packb(
        "reason") + msgpack.packb("r") + msgpack.packb("report") + b"\x81" + msgpack.packb("x")
    claimed = bytes([head[0] + 1]) + head[1:] + result
    with Attacker(field.home) as attacker:
        for _ in range(300):
            for bomb in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                         b"\xdb\xff\xff\xff\xff", b"\x91" * 100_000, b"\x81\xa1x" * 50_000):
                attacker.send(claimed + bomb)
                attacker.send(bomb)
        attacker.settle()


def deaf_subscribers(field: Field) -> None:
    """Who subscribes to everything and reads nothing, while much happens."""
    context = zmq.Context()
    subscribers = []
    for _ in range(20):
        subscriber = context.socket(zmq.SUB)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        subscriber.setsockopt(zmq.RCVHWM, 1)
        subscriber.connect(f"ipc://{field.home.event_socket}")
        subscribers.append(subscriber)
    try:
        with BrokerClient(field.home) as client:
            for _ in range(10):
                client.call(field.submit(1000), Submitted, timeout_seconds=PATIENCE_SECONDS)
                field.submitted += 1000
    finally:
        context.destroy(linger=0)


def fenced_off(field: Field) -> None:
    """Requests about leases that nobody has, of workers that nobody knows."""
    with Attacker(field.home) as attacker:
        for number in range(2000):
            attacker.send(messages.encode(messages.Fail(request_id=new_request_id(), job=f"train-{number}", token=1,
                                                        reason="x" * 4000)))
            attacker.send(messages.encode(TakeLease(request_id=new_request_id(), worker="w", session="s",
                                                    kinds=(messages.work.JobKind.TRAIN,))))
        attacker.settle()


ATTACKS = (random_bytes, truncations_and_flips, oversized, frames, versions, repetitions, stolen_identities,
           never_reading, dropped_connections, bombs, deaf_subscribers, fenced_off)


def endless_message(folder: Path) -> dict[str, Any]:
    """A message that never ends: ZeroMQ keeps its frames until the last one. The broker may end, and loses nothing."""
    field = Field(folder)
    frame = b"\x03" + struct.pack(">Q", 4 << 20) + bytes(4 << 20)
    sent = 0
    try:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(2.0)
            raw.connect(str(field.home.request_socket))
            # ZMTP 3.0 (rfc.zeromq.org/spec/23) by hand: libzmq keeps an unfinished message at its sender's side.
            raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\x00") + bytes(32))
            ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
            raw.sendall(b"\x04" + bytes([len(ready)]) + ready)
            with contextlib.suppress(OSError):  # the broker takes no more, or has ended
                while sent < 1000:
                    raw.sendall(frame)
                    sent += 1
            how, mib = field.broker.poll(), field.memory_mib("VmHWM")
        if how is not None:
            field.restart()
        return {"mib_sent": 4 * sent, "mib": round(mib), "ended_with": how, "wrong": field.close()}
    finally:
        field.broker.kill()


def campaign(folder: Path, attacks: tuple[Callable[[Field], None], ...] = ATTACKS) -> dict[str, Any]:
    """Every attack in turn against one broker; its end is under ``end``."""
    field = Field(folder)
    try:
        found = {attack.__name__: field.run(attack) for attack in attacks}
        found["end"] = {"wrong": field.close()}
        return found
    finally:
        field.broker.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as made:
        chosen = tuple(attack for attack in ATTACKS if len(sys.argv) == 1 or attack.__name__ in sys.argv[1:])
        print(json.dumps(campaign(Path(made), chosen), indent=1))
