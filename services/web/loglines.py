"""The newest log lines of a service or of a job. They may quote what a file says, so they need the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from services.web.operations import Call, Query
from trainq import logfiles, words
from trainq.config import Home
from trainq.errors import UsageError
from trainq.logfiles import Choice, LogLine

MAX_LINES = 1000
MAX_BYTES = 1024 * 1024


class LogsQuery(Query, frozen=True, kw_only=True):
    """The newest so many lines."""

    lines: Annotated[int, Meta(ge=1, le=MAX_LINES)] = 50


class LogLines(msgspec.Struct, frozen=True, kw_only=True):
    """Lines in the order of their times, as they were written: each is an event, or has ``at`` and ``raw`` alone.

    ``left_out`` of the oldest did not fit into the answer.
    """

    lines: list[dict[str, Any]]
    left_out: int


async def of_service(call: Call) -> LogLines:
    home, name = call.site.home, call.path("service")
    return await _newest(call, lambda: logfiles.of_service(home, name))


async def of_job(call: Call) -> LogLines:
    job = words.job_id(call.path("job"))
    choice = logfiles.of_job(job)
    if choice is None:
        raise UsageError(f"{job!r} is no job id; they look like train-7")
    return await _newest(call, lambda: choice)


async def _newest(call: Call, choose: Callable[[], Choice]) -> LogLines:
    home, lines = call.site.home, call.query.lines
    with call.site.alone("a look at the logs"):
        return await call.site.asker.wait(lambda: _fitting(_read(home, choose(), lines)))


def _read(home: Home, choice: Choice, lines: int) -> list[LogLine]:
    return logfiles.newest_of(home, choice, logfiles.sizes(logfiles.logs_in(home.logs, choice.pattern)), lines)


def _fitting(lines: list[LogLine]) -> LogLines:
    kept: list[dict[str, Any]] = []
    size_bytes = 0
    for line in reversed(lines):
        size_bytes += len(line.raw.encode())
        if size_bytes > MAX_BYTES:
            break
        kept.append(line.record if line.record is not None else {"at": line.at, "raw": line.raw})
    return LogLines(lines=kept[::-1], left_out=len(lines) - len(kept))
