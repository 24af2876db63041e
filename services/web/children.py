"""Children that run the library: how they are started, and what went wrong in one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

import trainq
from trainq.errors import TrainqError


class Wrong(msgspec.Struct, frozen=True):
    """What a child says of an error."""

    code: str
    message: str
    mend: str

    def error(self) -> TrainqError:
        """The error, with its code."""
        error = TrainqError(self.message, mend=self.mend)
        error.code = self.code
        return error


def command(code: str, *arguments: str) -> list[str]:
    """Python with this code. -P: a file in the current folder must not stand in for a module."""
    return [sys.executable, "-P", "-c", code, *arguments]


def environment() -> dict[str, str]:
    """That of this process; the library is found."""
    library = str(Path(trainq.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH", ""))))}
