"""The generator ``command``: any program that prints rows, one a line, in any format of :mod:`trainq.samples`.

The program finds what is wanted in its environment: ``TRAINQ_COUNT``, ``TRAINQ_LEVEL``, ``TRAINQ_SEED``. It must print
exactly so many rows, none of them twice, and end with exit code 0 within its time. It has nothing to read; what it
writes to standard error goes where this process's does. Whatever it has started ends with it (:mod:`trainq.keeper`),
and it ends with whoever asked for the rows. They come out one by one: a line, and a digest of each row, is all that is
held.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import orjson

from trainq import files, keeper
from trainq.errors import InputError, UsageError
from trainq.generating.base import GenerateRequest, provenance, refuse_options
from trainq.jsonl import MAX_LINE_BYTES, Line
from trainq.samples import BadRow, RowJudge, row_digest

DATASET = "command"
DEFAULT_LIMIT_SECONDS = 300.0
MAX_LIMIT_SECONDS = 86_400.0

_PIECE_BYTES = 1 << 16
_DIGEST_BYTES = 16
# By which what a killed keeper has left is known.
_MARK = "TRAINQ_GENERATOR"


class Command:
    """Options: ``argv``, the program and its arguments; ``limit_seconds``, how long it may run."""

    name = "command"
    version = "1"
    levels = 10

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        """See :class:`trainq.generating.base.Generator`.

        ``metadata`` is the row's own with what says where it comes from put over it; its ``dataset`` stays.

        Raises:
            UsageError: the options are not those of a program.
            InputError: what the program has done wrong, with the line of its output.
        """
        argv, limit_seconds = _options(self, request)
        judge, seen = RowJudge({}), dict[bytes, int]()
        for line in _lines(argv, limit_seconds, request):
            if len(seen) == request.count:
                _fail(argv, "it prints more rows than TRAINQ_COUNT asks for", line=line.number,
                      mend=f"print {request.count}")
            verdict = judge.judge(line)
            if isinstance(verdict, BadRow):
                raise InputError(verdict.reason, file=argv[0], line=verdict.line, column=verdict.column,
                                 field=verdict.field, mend=verdict.mend)
            digest = row_digest(verdict)[:_DIGEST_BYTES]
            if (before := seen.setdefault(digest, line.number)) != line.number:
                _fail(argv, f"the row is that of line {before} again", line=line.number, mend="print each row once")
            row = orjson.loads(line.content)
            own = row.get("metadata") or {}
            if not isinstance(own, dict):
                _fail(argv, "it is no object", line=line.number, field="metadata", mend="make it one, or leave it out")
            dataset = own.get("dataset")
            if not (isinstance(dataset, str) and dataset):
                dataset = DATASET
            yield {**row, "metadata": {**own, **provenance(self, request, len(seen) - 1, dataset), "program": argv[0]}}
        if len(seen) < request.count:
            _fail(argv, f"it has printed {len(seen)} rows, and TRAINQ_COUNT asks for {request.count}",
                  mend="print as many rows as asked for")


def _options(generator: Command, request: GenerateRequest) -> tuple[list[str], float]:
    refuse_options(generator, request, ("argv", "limit_seconds"))
    argv = request.options.get("argv")
    if not (isinstance(argv, list) and argv and all(isinstance(word, str) and "\0" not in word for word in argv)
            and argv[0]):
        raise UsageError("the option argv of the generator command is no program",
                         mend='give a list of words: ["python", "rows.py"]')
    limit = request.options.get("limit_seconds", DEFAULT_LIMIT_SECONDS)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= MAX_LIMIT_SECONDS:
        raise UsageError("the option limit_seconds of the generator command is no time",
                         mend=f"give seconds, up to {MAX_LIMIT_SECONDS:.0f}")
    return argv, float(limit)


def _lines(argv: list[str], limit_seconds: float, request: GenerateRequest) -> Iterator[Line]:
    """The lines that the program prints, but blank ones; raises for how it ended once they are all out."""
    until = time.monotonic() + limit_seconds
    with _running(argv, request) as (kept, output, reader):
        number, rest = 0, b""
        while piece := _read(argv, output, until, limit_seconds):
            *ended, rest = (rest + piece).split(b"\n") if b"\n" in piece else (rest + piece,)
            for content in ended:
                number += 1
                if content.strip():
                    yield Line(number, content, len(content))
            if len(rest) > MAX_LINE_BYTES:
                _fail(argv, f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB", line=number + 1,
                      mend="split the row")
        kept.wait()
        _look_at_end(argv, keeper.ending(reader.detach()))
        if rest.strip():
            yield Line(number + 1, rest, len(rest))


def _read(argv: list[str], output: int, until: float, limit_seconds: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0 or not select.select([output], [], [], left)[0]:
        _fail(argv, f"it has not ended within {limit_seconds:g} seconds",
              mend="ask for fewer rows, or raise limit_seconds")
    return os.read(output, _PIECE_BYTES)


class _Reader:
    """The descriptor that the keeper says the end on: closed, unless somebody has taken it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def detach(self) -> int:
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self.detach())


@contextlib.contextmanager
def _running(argv: list[str], request: GenerateRequest) -> Iterator[tuple[subprocess.Popen[bytes], int, _Reader]]:
    """The kept program, the descriptor to read its output from, and that of its end; nothing is left of it after."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, "TRAINQ_COUNT": str(request.count), "TRAINQ_LEVEL": str(request.level),
                   "TRAINQ_SEED": str(request.seed), _MARK: mark}
    output, writer = os.pipe()
    try:
        with files.reported(f"starting {argv[0]}"):
            kept, ending = keeper.start(argv, environment, writer)
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(writer)
    reader = _Reader(ending)
    try:
        yield kept, output, reader
    finally:
        if kept.poll() is None:
            kept.send_signal(signal.SIGUSR1)  # kills: what it would still say counts no more
            kept.wait()
        keeper.kill_left(kept, f"{_MARK}={mark}")  # nothing, unless the keeper was killed, or could not end it
        os.close(output)
        reader.close()


def _look_at_end(argv: list[str], ended: int | OSError | None) -> None:
    match ended:
        case 0:
            return
        case OSError():
            _fail(argv, f"it cannot be run: {ended.strerror}", mend="begin argv with a program, by path or name")
        case int() if ended > 0:
            _fail(argv, f"it has ended with exit code {ended}", mend="what it has said of it is in the log")
        case int():
            _fail(argv, f"it was ended by signal {-ended}", mend="give it more memory, or look who has ended it")
        case None:
            _fail(argv, "nobody knows how it has ended: its keeper was killed", mend="ask again")


def _fail(argv: list[str], reason: str, *, line: int = 0, field: str = "", mend: str = "") -> NoReturn:
    raise InputError(reason, file=argv[0], line=line, field=field, mend=mend)
