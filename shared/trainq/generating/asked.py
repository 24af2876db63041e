"""How a process that writes a generated file is asked, and answers: once on stdin, once on stdout.

It ends with whoever has asked. The answer is an object of its own, or ``{"error": ..., "code": ...}``. Both that of the
generators (``trainq.generating.child``) and that of self-play (``trainq.ml.selfplaying``) are such a process.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trainq import oneshot


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What it is asked.

    ``path``: of the file; its folder is there. ``suites``: a folder of evaluation suites; rows that stand in one are
    not written, so that a file may have fewer than ``count`` (empty: none). ``parent``: the pid of whoever asks: the
    process ends with it. ``idle``: it works only while a processor has nothing else to do (SCHED_IDLE, sched(7)), and
    so does whatever it starts, where the kernel lets it.
    """

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


Asked = TypeVar("Asked", bound=Request)


def serve(asked: type[Asked], write: Callable[[Asked], Written]) -> int:
    """Read the request, do it, answer; gives the exit code."""
    def written(request: Asked) -> Written:
        if request.idle:
            _be_idle()
        return write(request)

    return oneshot.serve(asked, written, process="generation", doing="generating rows", adopts_orphans=True)


def _be_idle() -> None:
    """Let all threads work only while a processor has nothing else to do.

    Where that is refused (a sandbox may do so) it is told on stderr and the work goes on at the niceness of whoever has
    asked: the rows are the same, and the file that is missing costs more than the politeness.
    """
    try:
        # Libraries may have begun threads while they were imported; those that come inherit it.
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # that thread has ended meanwhile
                os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        sys.stderr.write(f"this process works at its usual priority: SCHED_IDLE is refused ({error})\n")
