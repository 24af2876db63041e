"""The child's side of :class:`trainq.service.child.Child`: asked once on stdin, it answers once on stdout.

It ends with whoever has asked. The answer is an object of its own, or ``{"error": ..., "code": ...}``. Nothing else
gets into it: what libraries and plug-ins print goes to stderr, which is the parent's log.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from trainq import crashpoints, diskfaults, files, liveness
from trainq.errors import InputError, TrainqError


class Request(Protocol):
    """What is asked. ``parent`` is the pid of whoever asks: the child ends with it (0: with nobody)."""

    @property
    def parent(self) -> int: ...


Asked = TypeVar("Asked", bound=Request)


def serve(asked: type[Asked], do: Callable[[Asked], object], *, process: str, doing: str,
          adopts_orphans: bool = False, mistake: type[TrainqError] = InputError) -> int:
    """Read the request, do it, answer; gives the exit code. For the rest of its life this process prints to stderr.

    Args:
        asked: what the request must be.
        do: does it; gives the answer.
        process: as crash points call it.
        doing: what it does, for the words of an error of the disk.
        adopts_orphans: it starts programs under a keeper, and ends what they leave should that be killed.
        mistake: the error that a request is which cannot be read.
    """
    # Not flushed before: what a library has printed while it was imported would stand in the answer, too. From here on
    # whatever is printed, by Python, by C or by what is started, goes to the log, also what is flushed at the exit.
    answers = os.dup(1)
    os.dup2(2, 1)
    code, answer = _answered(asked, do, process, doing, adopts_orphans, mistake)
    with os.fdopen(answers, "wb") as stream:
        stream.write(msgspec.json.encode(answer) + b"\n")
    return code


def _answered(asked: type[Asked], do: Callable[[Asked], object], process: str, doing: str, adopts_orphans: bool,
              mistake: type[TrainqError]) -> tuple[int, object]:
    """The exit code, and the answer."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=asked)
    except msgspec.MsgspecError as error:
        return _failed(mistake(f"not a request: {error}"))
    if request.parent:
        liveness.die_with_parent(signal.SIGKILL, request.parent)
        if adopts_orphans:
            liveness.adopt_orphans()
    crashpoints.arm_from_environment(os.environ, process)
    diskfaults.arm_from_environment(os.environ)
    try:
        return 0, do(request)
    except TrainqError as error:
        return _failed(error)
    except OSError as error:
        return _failed(files.storage_error(error, doing))


def _failed(error: TrainqError) -> tuple[int, object]:
    return error.exit_code, {"error": str(error), "code": error.code}
