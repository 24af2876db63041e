"""``python -m bench.floor SOCKET FILE``: what a durable queue cannot be faster than. No state, no order, no check.

Drain, unpack, append msgpack with a CRC, one fdatasync for all of them, reply.
"""

from __future__ import annotations

import os
import sys
import zlib

import msgpack
import zmq


def main(socket_path: str, journal: str) -> None:
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(f"ipc://{socket_path}")
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        router.poll()
        batch = []
        while len(batch) < 1024:
            try:
                batch.append(router.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                break
        records = []
        for *_, payload in batch:
            record = msgpack.packb(msgpack.unpackb(payload))
            records.append(record + zlib.crc32(record).to_bytes(4, "little"))
        os.write(descriptor, b"".join(records))
        os.fdatasync(descriptor)
        for *route, payload in batch:
            router.send_multipart([*route, payload[:64]])


if __name__ == "__main__":
    main(*sys.argv[1:])
