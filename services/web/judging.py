"""What would become of a file, as ``trainq validate`` says it of the body of a request.

The command itself judges it, in a process of its own: what a file costs of time and memory is none of this process's.
The body lies in the home meanwhile, in a file without a name, which goes with whoever has it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import BinaryIO, cast

import msgspec
from starlette.requests import ClientDisconnect, Request

from services.web import children
from services.web.children import Wrong
from services.web.operations import Call, Query, body_chunks
from services.web.problems import RequestError
from services.web.uploading import Upload, Word, check_is_file
from trainq import files, ingest, words
from trainq.config import Home
from trainq.errors import InputError, TrainqError
from trainq.messages import Name
from trainq.quality import Verdict as Quality
from trainq.reports import DataReport

LIMIT_SECONDS = 600.0
_CHUNK_BYTES = 1 << 20
# Ends with the thread that started it, which is the server's: with this process, that is, however it ends. The words
# of the command come in JSON: arguments of a process could not have all characters.
_CHILD = """
import json, signal, sys
from trainq.liveness import die_with_parent
die_with_parent(signal.SIGKILL, int(sys.argv[1]))
from trainq.cli import main
sys.exit(main(json.load(sys.stdin.buffer)))
"""


class ValidateQuery(Query, frozen=True, kw_only=True):
    """``name`` is what the file is called in the answer; ``map`` is ``FIELD=COLUMN,...``."""

    name: Name
    map: Word = ""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the file would be accepted, else the ``reason``; and what each of its rows would be."""

    file: str
    accepted: bool
    reason: str
    report: DataReport
    quality: Quality | None = None


class _Verdict(msgspec.Struct, frozen=True):
    reason: str = ""
    report: DataReport | None = None
    quality: Quality | None = None
    error: Wrong | None = None


class _Said(msgspec.Struct, frozen=True):
    """What the command writes: the verdict of the one file, or what went wrong."""

    files: list[_Verdict] = []
    error: Wrong | None = None


async def validate(call: Call) -> Judged:
    """Judge the body. 413: it takes too long."""
    query: ValidateQuery = call.query
    check_is_file(call.request.headers)
    options: list[str] = []
    if query.map:
        words.column_map(query.map)  # a mistake in it costs no upload
        options = [f"--map={query.map}"]
    with call.site.alone("a look at a file"), contextlib.ExitStack() as opened:
        upload = cast(BinaryIO, Upload(call.site, body_chunks(call.request)))
        kept = await call.site.asker.store(lambda: _kept(upload, opened, _nameless(call.site.home)))
        if not kept.tell():
            raise ingest.empty_error(query.name)
        said = await _ask(call.request, kept.fileno(), options)
    return _judged(query.name, said)


@contextlib.contextmanager
def _nameless(home: Home) -> Iterator[BinaryIO]:
    files.make_directory(home.spool)
    with tempfile.TemporaryFile(dir=home.spool) as made:
        yield cast(BinaryIO, made)


def _kept(upload: BinaryIO, opened: contextlib.ExitStack,
          place: contextlib.AbstractContextManager[BinaryIO]) -> BinaryIO:
    """The body, in a file that is open as long as ``opened``."""
    try:
        kept = opened.enter_context(place)
        shutil.copyfileobj(upload, kept, _CHUNK_BYTES)
        kept.flush()
    except OSError as error:
        raise files.storage_error(error, "keeping the file while it is judged") from error
    return kept


async def _ask(request: Request, descriptor: int, options: list[str]) -> bytes:
    """What the command says of the file; it is ended when the client has gone, or its time is over.

    Raises:
        RequestError: 413.
        ClientDisconnect: the client has gone.
    """
    command = msgspec.json.encode(["validate", "--json", *options, f"/dev/fd/{descriptor}"])
    async with _child(descriptor) as child, asyncio.TaskGroup() as tasks:
        said, gone = tasks.create_task(child.communicate(command)), tasks.create_task(_gone(request))
        done, _ = await asyncio.wait((said, gone), timeout=LIMIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        said.cancel()
        gone.cancel()
        if said in done:
            return said.result()[0]
    if gone in done:
        raise ClientDisconnect
    raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large",
                       f"it cannot be judged within {LIMIT_SECONDS:g} s",
                       mend="on this machine: trainq validate FILE, which has no limit")


async def _gone(request: Request) -> None:
    """Until the client is; the whole body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextlib.asynccontextmanager
async def _child(descriptor: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, which has this descriptor; killed when the block is left."""
    child = await asyncio.create_subprocess_exec(
        *children.command(_CHILD, str(os.getpid())), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, pass_fds=(descriptor,), env=children.environment())
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _judged(name: str, content: bytes) -> Judged:
    """The command's answer about a file with this name.

    Raises:
        TrainqError: what it says, with its code; or that it says nothing.
    """
    try:
        said = msgspec.json.decode(content, type=_Said)
    except msgspec.MsgspecError:
        raise TrainqError("the process that judges the file has ended without an answer",
                          mend="on this machine: trainq validate FILE") from None
    verdict = said.files[0] if said.files else _Verdict()
    if verdict.error is not None:
        raise InputError(verdict.error.message, file=name, mend=verdict.error.mend)
    if said.error is not None or verdict.report is None:
        wrong = said.error or Wrong(TrainqError.code, "the process that judges the file says nothing of it", "")
        raise wrong.error()
    return Judged(file=name, accepted=not verdict.reason, reason=verdict.reason, report=verdict.report,
                  quality=verdict.quality)
