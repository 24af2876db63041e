"""What large answers take of the memory, and who gets one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.responses import Response

from services.web.sending import LARGE_BYTES, MAX_BYTES, Sending
from trainq.errors import BusyError

HALF = MAX_BYTES // 2
Sent = list[dict[str, Any]]


async def nothing() -> dict[str, Any]:
    raise AssertionError("nobody asks for what a client sends")


def sending(site: Sending, size_bytes: int,
            to: Callable[[Any], Coroutine[Any, Any, None]]) -> Coroutine[Any, Any, None]:
    return site.send(Response(b"x" * size_bytes, 200, {"name": "value"}), {"type": "http"}, nothing, to)


class Client:
    """One that reads when it is let."""

    def __init__(self) -> None:
        self.sent: Sent = []
        self.reads = asyncio.Event()

    async def take(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            await self.reads.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


@pytest.mark.parametrize("size_bytes", [0, 1, LARGE_BYTES, LARGE_BYTES + 1, HALF, MAX_BYTES + 1])
def test_an_answer_is_sent_whole(size_bytes: int) -> None:
    async def story() -> None:
        client = Client()
        client.reads.set()
        await sending(Sending(), size_bytes, client.take)
        assert client.body == b"x" * size_bytes
        start, *bodies = client.sent
        assert start["status"] == 200
        assert (b"content-length", b"%d" % size_bytes) in start["headers"]
        assert [each.get("more_body", False) for each in bodies] == [True] * (len(bodies) - 1) + [False]

    asyncio.run(story())


def test_those_who_read_nothing_hold_so_much_and_then_others_are_refused_until_one_is_gone() -> None:
    async def story() -> None:
        site, clients = Sending(), [Client() for _ in range(3)]
        first, second = (asyncio.create_task(sending(site, HALF, client.take)) for client in clients[:2])
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await sending(site, LARGE_BYTES + 1, clients[2].take)
        assert clients[2].sent == []
        # A small one always comes through.
        small = Client()
        small.reads.set()
        await sending(site, LARGE_BYTES, small.take)
        clients[0].reads.set()
        await first
        clients[2].reads.set()
        await sending(site, HALF, clients[2].take)
        assert len(clients[2].body) == HALF
        # One whose connection goes counts no more, either.
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        with site.counted(MAX_BYTES):
            pass
        site.check(MAX_BYTES)

    asyncio.run(story())


def test_one_that_is_larger_than_all_may_be_is_sent_alone() -> None:
    site = Sending()
    site.check(2 * MAX_BYTES)
    with site.counted(2 * MAX_BYTES):
        with pytest.raises(BusyError):
            site.check(LARGE_BYTES + 1)
        site.check(LARGE_BYTES)
