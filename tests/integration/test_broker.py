"""The broker as a process by itself: one of it serves a home, and it answers whatever comes."""

from __future__ import annotations

import subprocess
import sys

import msgpack
import zmq

from tests.places import ROOT, Place


def test_a_second_copy_is_refused_with_the_first_ones_pid(broker: Place) -> None:
    second = subprocess.run([sys.executable, "-m", "services.broker"], env=broker.environment, cwd=ROOT,
                            capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode == 75
    assert str(broker.pid("broker")) in second.stderr


def test_a_plain_client_gets_an_answer_to_garbage(broker: Place) -> None:
    context = zmq.Context()
    client = context.socket(zmq.REQ)
    client.connect(f"ipc://{broker.home.request_socket}")
    try:
        for garbage in (b"", b"\xc1", msgpack.packb({"v": 1, "type": "Nothing", "request_id": "x"}), b"\x91" * 5000):
            client.send(garbage)
            assert client.poll(5000)
            assert msgpack.unpackb(client.recv())["reply"]["code"] == "protocol"
    finally:
        context.destroy(linger=0)
