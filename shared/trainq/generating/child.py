"""The process that writes a generated file: asked once on stdin, it answers once on stdout, and ends with its parent.

``python -m trainq.generating.child`` reads one JSON object (:class:`Request`) and writes one, :class:`Written` or
``{"error": ..., "code": ...}``. The file gets its name when all of its rows were made, judged and are on the disk, and
never otherwise; one that has the name already is replaced as a whole, which makes asking again harmless.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from trainq import crashpoints, diskfaults, files, leaks, liveness
from trainq.errors import InputError, TrainqError
from trainq.generating import producing, registry
from trainq.generating.base import GenerateRequest


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked.

    ``path``: of the file; its folder is there. ``suites``: a folder of evaluation suites; rows that stand in one are
    not written, so that a file may have fewer than ``count`` (empty: none). ``parent``: the pid of whoever asks: the
    child ends with it. ``idle``: it works only while a processor has nothing else to do (SCHED_IDLE, sched(7)), and so
    does whatever it starts.
    """

    generator: str
    count: int
    level: int
    seed: int
    path: str
    options: dict[str, Any] = {}
    suites: str = ""
    parent: int = 0
    idle: bool = False


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. ``left_out`` rows stand in an evaluation suite."""

    rows: int
    left_out: int
    size_bytes: int
    generator_version: str


def write(request: Request) -> Written:
    """Make the rows and publish the file.

    Raises:
        NotFoundError: there is no such generator.
        UsageError: the request makes no sense.
        InputError: the generator cannot do it, or one of its rows is bad.
        StorageError, StorageFullError: the disk.
    """
    generator = registry.find(request.generator)
    wanted = GenerateRequest(count=request.count, level=request.level, seed=request.seed, options=request.options)
    producing.refuse(generator, wanted)
    guarded = leaks.read_suites(Path(request.suites)) if request.suites else None
    size_bytes = rows = left_out = 0
    with files.publish_file(Path(request.path)) as stream:
        for row in producing.rows(generator, wanted):
            if guarded is not None and guarded.find(row.sample) is not None:
                left_out += 1
                continue
            stream.write(row.line)
            rows += 1
            size_bytes += len(row.line)
        if not rows:
            raise InputError(f"all of the {left_out} rows stand in an evaluation suite",
                             mend="another level has more rows to give")
    return Written(rows=rows, left_out=left_out, size_bytes=size_bytes, generator_version=generator.version)


def main() -> int:
    """Entry point of the child; gives the exit code."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    except msgspec.MsgspecError as error:
        return _failed(InputError(f"not a request: {error}"))
    if request.parent:
        liveness.die_with_parent(signal.SIGKILL, request.parent)
    if request.idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    crashpoints.arm_from_environment(os.environ, "generation")
    diskfaults.arm_from_environment(os.environ)
    try:
        written = write(request)
    except TrainqError as error:
        return _failed(error)
    except OSError as error:
        return _failed(files.storage_error(error, "generating rows"))
    _say(msgspec.json.encode(written))
    return 0


def _failed(error: TrainqError) -> int:
    _say(msgspec.json.encode({"error": str(error), "code": error.code}))
    return error.exit_code


def _say(content: bytes) -> None:
    os.write(1, content + b"\n")


if __name__ == "__main__":
    sys.exit(main())
