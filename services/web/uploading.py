"""A file's content in and out: submitted as the body of a request, and given back as it was accepted.

What comes in goes to ``data/`` piece by piece as it comes, and is on disk before the broker is asked: as with the
command line. What is broken off leaves nothing.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, BinaryIO, cast
from urllib.parse import quote

import msgspec
from msgspec import Meta
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.web.asking import EXPORTERS, SUBMIT_SECONDS
from services.web.operations import BODY_SECONDS, Call, Query, answered, body_chunks
from services.web.problems import RequestError
from services.web.sites import Site
from trainq import ingest, orders, room, words
from trainq.config import Epochs
from trainq.errors import BusyError, UsageError
from trainq.ids import is_id, new_request_id
from trainq.jobs import Priority
from trainq.messages import JobDetail, Name, ShowJob, Submit, SubmitItem, Submitted

MAX_EXPORTS = EXPORTERS
MAX_AFTER = 100  # as the protocol has it
_CHUNK_BYTES = 256 * 1024
LOOK_BYTES = 1 << 20
_MEDIA = "application/octet-stream"
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}
Word = Annotated[str, Meta(max_length=1024)]


class SubmitQuery(Query, frozen=True, kw_only=True):
    """The options of ``trainq submit``: ``set`` is ``NAME=VALUE``, ``map`` is ``FIELD=COLUMN,...``."""

    name: Name
    priority: Annotated[str, Meta(pattern="^(high|normal|low)$")] = "normal"
    after: Annotated[tuple[Word, ...], Meta(max_length=MAX_AFTER)] = ()
    after_any: bool = False
    force: bool = False
    epochs: Epochs | None = None
    set: tuple[Word, ...] = ()
    map: Word = ""


class FileAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The file is on disk, and ``job`` trains it; a ``duplicate`` is an earlier job with the same content."""

    name: str
    job: str
    state: str
    duplicate: bool
    digest: str
    size_bytes: int


class Upload(io.RawIOBase):
    """The body of a request, for a thread that reads it as a file.

    After each :data:`LOOK_BYTES` it looks whether the home's disk has room for more: a body has no other limit.
    """

    def __init__(self, site: Site, chunks: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._site, self._chunks = site, chunks
        self._unseen_bytes = 0
        self._loop = asyncio.get_running_loop()

    def read(self, _size: int = -1) -> bytes:
        """The next piece, whatever its size; empty at the end.

        Raises:
            StorageFullError: what is kept free would be taken.
        """
        chunk = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result(2 * BODY_SECONDS)
        self._unseen_bytes += len(chunk)
        if self._unseen_bytes >= LOOK_BYTES:
            self._unseen_bytes = 0
            disk = self._site.settings.disk
            room.refuse_held(self._site.home.spool, disk.hold_gib, disk.hold_percent, "the rest of the file")
        return chunk

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""


def check_is_file(headers: Headers) -> None:
    """Refuse a body that is not the file as it is.

    Raises:
        RequestError: 415.
    """
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media_type", "the body must be the file itself",
                           mend="curl -T FILE, and not -F")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media_type", "the body must be the file as it is",
                           mend="send a .gz or .zst file under its own name, without Content-Encoding")


async def submit(call: Call) -> Response:
    """Store the body, then have it accepted: 201 with a new job, 200 with the earlier one that has the content."""
    query, headers = call.query, call.request.headers
    check_is_file(headers)
    request_id = headers.get("idempotency-key", new_request_id())
    if not is_id(request_id):
        raise UsageError("Idempotency-Key is no request id", mend="lower-case letters, digits and -; at most 64")
    wishes = _item_of(query, request_id)
    upload = cast(BinaryIO, Upload(call.site, body_chunks(call.request)))
    stored = await call.site.asker.store(lambda: ingest.store_stream(call.site.home, upload, query.name))
    item = msgspec.structs.replace(wishes, digest=stored.digest, size_bytes=stored.size_bytes)
    reply = await call.site.asker.order(
        lambda broker: broker.call(Submit(request_id=new_request_id(), items=[item]), Submitted), SUBMIT_SECONDS)
    (receipt,) = reply.receipts
    if (error := orders.receipt_error(receipt)) is not None:
        raise error
    told = FileAccepted(name=query.name, job=receipt.job, state=receipt.state, duplicate=receipt.duplicate,
                    digest=stored.digest, size_bytes=stored.size_bytes)
    return answered(told, HTTPStatus.OK if receipt.duplicate else HTTPStatus.CREATED,
                    {"location": f"/api/v1/jobs/{receipt.job}"})


def _item_of(query: SubmitQuery, request_id: str) -> SubmitItem:
    """All of it that is known before the body is read, so that a mistake in it costs no upload."""
    overrides = orders.overrides_of(query.epochs, words.column_map(query.map) if query.map else None,
                                    [words.override(wish) for wish in query.set])
    after = tuple(dict.fromkeys(words.job_id(job) for job in query.after))
    return SubmitItem(request_id=request_id, name=query.name, digest="", size_bytes=0,
                      priority=_PRIORITIES[query.priority], after=after, after_any=query.after_any, force=query.force,
                      overrides=overrides)


class _Export(StreamingResponse):
    """A file's content; ``opened`` is closed when it was sent, or its reader has gone."""

    def __init__(self, site: Site, source: BinaryIO, opened: ExitStack, headers: dict[str, str]) -> None:
        super().__init__(self._chunks(site, source), headers=headers, media_type=_MEDIA)
        self._opened = opened

    @staticmethod
    async def _chunks(site: Site, source: BinaryIO) -> AsyncIterator[bytes]:
        while chunk := await site.asker.export(lambda: source.read(_CHUNK_BYTES)):
            yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened:
            await super().__call__(scope, receive, send)


async def export(call: Call) -> Response:
    """The content of a job's file, proven before the first byte is sent."""
    job, site = words.job_id(call.path("job")), call.site
    view = (await site.asker.order(
        lambda broker: broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail))).job
    # A name comes from outside and may hold anything: only its last part counts here.
    name = quote(Path(view.name).name or f"{view.id}.jsonl")
    headers = {"content-length": str(view.size_bytes), "content-disposition": f"attachment; filename*=utf-8''{name}"}
    if call.request.method == "HEAD":
        if not ingest.is_stored(site.home, view.digest, view.size_bytes):
            raise ingest.gone_error(view.id)
        return Response(headers=headers, media_type=_MEDIA)
    with ExitStack() as opened:
        opened.enter_context(_counted(site))
        source = await site.asker.export(lambda: opened.enter_context(ingest.proven(site.home, view.digest, view.id)))
        return _Export(site, source, opened.pop_all(), headers)


@contextmanager
def _counted(site: Site) -> Iterator[None]:
    if site.exports >= MAX_EXPORTS:
        raise BusyError("files are being given out already", mend="ask again in a moment")
    site.exports += 1
    try:
        yield
    finally:
        site.exports -= 1
