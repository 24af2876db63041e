"""The web service under clients that ask for much and read nothing: what it takes of the machine."""

from __future__ import annotations

import contextlib
import socket
import time

import psutil
import pytest

from installations import wait_for
from places import Worker, place_with_broker
from services.web import uploading
from trainq.jobs import JobKind
from webs import Web, rows, submit

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
CLIENTS = 100
# Pages of the broker's end at 2 MiB, and in JSON this byte has six.
REPORT = {"read": 3, "x": ["\x01" * 100] * 800}
LARGEST = "/api/v1/events?limit=250"


def stuck(web: Web, path: str, stack: contextlib.ExitStack, head: str = "") -> socket.socket:
    """A client that asks, and reads nothing."""
    link = stack.enter_context(socket.socket())
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(20)
    link.connect(("127.0.0.1", web.port))
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n{head}\r\n".encode())
    return link


@pytest.mark.parametrize("path", [LARGEST, "/api/v1/events/stream?after=0"])
def test_those_who_read_nothing_of_the_largest_answer_take_a_bounded_part_of_the_memory(path: str) -> None:
    with place_with_broker() as place, contextlib.ExitStack() as stack:
        web = Web(place)
        worker = Worker(place.home)
        stack.callback(worker.client.close)
        for number in range(24):
            submit(web, rows(number), name=f"{number}.jsonl")
        for _ in range(24):
            worker.complete(worker.lease(JobKind.PREPARE), REPORT)
        largest = web.get(LARGEST)
        assert len(largest.body) > 8 * MIB
        process = psutil.Process(place.pid("web"))
        rest = most = process.memory_info().rss
        for _ in range(CLIENTS):
            stuck(web, path, stack)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            most = max(most, process.memory_info().rss)
            assert web.get("/health").status == 200
        assert most - rest < 100 * MIB, (rest // MIB, most // MIB)
        if path == LARGEST:
            refused = wait_for(lambda: (told := web.get(path)).status == 503 and told, "it is refused")
            assert refused.document["code"] == "busy"
            assert refused.headers["retry-after"]
        # What has no size of its own, and an order, are answered all the same.
        assert web.get("/daemon/status").status == 200
        assert web.post("/api/v1/pause").status == 200
        assert wait_for(lambda: web.get("/api/v1/jobs?limit=5").status == 200, "it is read")
        stack.close()
        wait_for(lambda: web.get(LARGEST).body == largest.body or web.get(LARGEST).status == 200, "there is room again")


def test_files_are_given_out_to_so_many_and_who_reads_nothing_keeps_nobody_from_reading() -> None:
    with place_with_broker() as place, contextlib.ExitStack() as stack:
        web = Web(place)
        content = b"".join(rows(number) for number in range(400_000))
        job = submit(web, content).document["job"]
        path = f"/api/v1/jobs/{job}/export"
        token = f"Authorization: Bearer {web.token}\r\n"
        held = [stuck(web, path, stack, token) for _ in range(uploading.MAX_EXPORTS)]
        assert {link.recv(12) for link in held} == {b"HTTP/1.1 200"}
        refused = web.ask("GET", path)
        assert (refused.status, refused.document["code"]) == (503, "busy")
        head = web.ask("HEAD", path)
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(content)), b"")
        assert web.get(f"/api/v1/jobs/{job}/metrics").status == 404  # read in a thread
        held.pop().close()
        assert wait_for(lambda: (told := web.ask("GET", path)).status == 200 and told, "there is room").body == content
