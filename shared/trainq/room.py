"""Room on the disk: how much there is, and a clear refusal before something large is begun that cannot fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from trainq.errors import StorageFullError

_MIB, _GIB = 1 << 20, 1 << 30


class Usage(NamedTuple):
    """Of a disk: all of it, and what an ordinary user may still write (statvfs(3): f_bavail)."""

    total_bytes: int
    free_bytes: int


def usage(folder: Path) -> Usage:
    """Of the disk that ``folder`` lies on."""
    found = os.statvfs(folder)
    return Usage(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write on the disk of ``folder``."""
    return usage(folder).free_bytes


def refuse_held(folder: Path, hold_gib: float, hold_percent: float, what: str) -> None:
    """Raise if the disk of ``folder`` has less free than what is kept (``[disk]``): what comes in must not take that.

    Raises:
        StorageFullError: says what there is, and what is kept.
    """
    found = usage(folder)
    kept = max(hold_gib * _GIB, found.total_bytes * hold_percent / 100)
    if found.free_bytes < kept:
        raise StorageFullError(f"no room for {what}: the disk has {found.free_bytes / _GIB:.1f} GiB free, and "
                               f"{kept / _GIB:.1f} GiB are kept ([disk] hold_gib)",
                               mend="free some space: trainq retention apply")


def refuse_without(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise if the disk of ``folder`` has no room for what is to be written.

    Raises:
        StorageFullError: says what is needed and what there is.
    """
    free = free_bytes(folder)
    if free < needed_bytes:
        raise StorageFullError(f"no room left for {what}: it needs {needed_bytes / _MIB:.1f} MiB, and the disk has "
                               f"{free / _MIB:.1f} MiB", mend="free some space; trainq goes on by itself")
