"""Files that are given out: so many at once, counted from when the first byte of one is read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from starlette.requests import Request
from starlette.responses import Response

from services.web import judging, uploading
from services.web.operations import Call
from services.web.sites import Site
from services.web.uploading import MAX_EXPORTS
from trainq import ingest
from trainq.clock import SystemClock
from trainq.config import DiskSettings, Home, Settings
from trainq.errors import BusyError, DamageError, NotFoundError, StorageFullError
from trainq.logs import EventLog, null_log

CONTENT = b"a row\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """With a broker that knows one job, whose file has :data:`CONTENT`."""
    home = Home(tmp_path)
    stored = ingest.store_stream(home, BytesIO(CONTENT), "a.jsonl")
    made = Site(home, Settings(), EventLog(logging.getLogger("uploading")), SystemClock(), "token")
    view = SimpleNamespace(id="train-1", name="a.jsonl", digest=stored.digest, size_bytes=len(CONTENT))

    async def order(_question: object) -> Any:
        return SimpleNamespace(job=view)

    monkeypatch.setattr(made.asker, "order", order)
    yield made
    made.close()


def export(site: Site, method: str = "GET") -> Any:
    scope = {"type": "http", "method": method, "path": "/", "headers": [], "path_params": {"job": "train-1"}}
    return uploading.export(Call(site, Request(scope), None, None))


async def body_of(response: Response) -> bytes:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    await response({"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}, receive, send)
    return b"".join(sent)


def test_those_that_are_still_proven_count_and_keep_nobody_from_reading(
        site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let = threading.Event()
    real = ingest.proven

    @contextlib.contextmanager
    def slow(home: Home, digest: str, job: str) -> Iterator[BinaryIO]:
        let.wait(20)
        with real(home, digest, job) as stream:
            yield stream

    monkeypatch.setattr(ingest, "proven", slow)

    async def story() -> None:
        under_way = [asyncio.create_task(export(site)) for _ in range(MAX_EXPORTS)]
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await export(site)
        assert await site.asker.read(lambda: "read") == "read"
        let.set()
        responses = await asyncio.gather(*under_way)
        assert site.exports == MAX_EXPORTS
        assert await asyncio.gather(*map(body_of, responses)) == [CONTENT] * MAX_EXPORTS
        assert site.exports == 0
        assert await body_of(await export(site)) == CONTENT

    try:
        asyncio.run(story())
    finally:
        let.set()


def test_the_head_is_given_without_a_look_at_the_content(site: Site) -> None:
    async def story() -> None:
        head = await export(site, "HEAD")
        assert head.headers["content-length"] == str(len(CONTENT))
        (path,) = site.home.data.glob("??/*")
        path.write_bytes(CONTENT.upper())
        assert (await export(site, "HEAD")).headers == head.headers
        with pytest.raises(DamageError):
            await export(site)
        path.unlink()
        for method in ("HEAD", "GET"):
            with pytest.raises(NotFoundError):
                await export(site, method)
        assert site.exports == 0

    asyncio.run(story())


@pytest.mark.parametrize("take", [uploading.submit, judging.validate])
def test_a_body_without_end_leaves_what_the_disk_keeps(tmp_path: Path, take: Any) -> None:
    site = Site(Home(tmp_path), Settings(disk=DiskSettings(hold_percent=100.0)), null_log(), SystemClock(), "token")
    sent = 0

    async def receive() -> Any:
        nonlocal sent
        sent += 1
        return {"type": "http.request", "body": bytes(256 * 1024), "more_body": True}

    async def story() -> None:
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
        query = judging.ValidateQuery(name="a") if take is judging.validate else uploading.SubmitQuery(name="a")
        with pytest.raises(StorageFullError, match="are kept"):
            await take(Call(site, request, query, None))

    try:
        asyncio.run(story())
    finally:
        site.close()
    assert sent == uploading.LOOK_BYTES // (256 * 1024)
    assert not list(site.home.spool.iterdir())
