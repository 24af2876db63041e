"""System calls that fail when a test orders it: no room, read-only, broken; once or for ever. A no-op unless armed.

``TRAINQ_IO_FAULT=ENOSPC:12:once`` (or ``:ever``) in the environment makes the 12th durable operation from then on fail
with that error, or that one and all after it. ``trainq.files``, ``trainq.locks`` and, for the journal,
``trainq.journal.faulty`` say each operation here just before they do it. The environment is read by
:func:`arm_from_environment`, which service start-up calls; importing this module reads nothing.
"""

from __future__ import annotations

import _thread
import errno
import os
from collections.abc import Mapping

ENVIRONMENT_KEY = "TRAINQ_IO_FAULT"
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE")


class _Armed:
    """What is armed, and what it has met; ``number`` 0 counts and never fails.

    No dataclass: each command imports this module, and ``dataclasses`` costs it milliseconds.
    """

    def __init__(self, number: int, at: int, *, for_ever: bool) -> None:
        self.number, self.at, self.for_ever = number, at, for_ever
        self.reached = self.failed = 0


_armed: _Armed | None = None
# A checkpoint is written beside the training loop; ``threading`` would cost each command its import.
_lock = _thread.allocate_lock()


def arm(error: str, at: int, *, for_ever: bool) -> None:
    """Fail the ``at``-th operation from now, counted from 1, with ``error`` (a name out of :data:`ERRORS`).

    Raises:
        ValueError: there is no such error or no such place.
    """
    global _armed
    if error not in ERRORS or at < 1:
        raise ValueError(f"{error}:{at} is no fault; the errors are {', '.join(ERRORS)}, and places count from 1")
    _armed = _Armed(getattr(errno, error), at, for_ever=for_ever)


def count() -> None:
    """Count the operations from now on, and fail none."""
    global _armed
    _armed = _Armed(0, 0, for_ever=False)


def disarm() -> tuple[int, int]:
    """End the fault; gives how many operations there were since it was armed, and how many failed."""
    global _armed
    was, _armed = _armed, None
    return (was.reached, was.failed) if was else (0, 0)


def is_armed() -> bool:
    """Whether a fault, or a count, is on."""
    return _armed is not None


def arm_from_environment(environment: Mapping[str, str]) -> None:
    """Arm what ``TRAINQ_IO_FAULT`` says: ``ERROR:n:once`` or ``ERROR:n:ever``."""
    if entry := environment.get(ENVIRONMENT_KEY, ""):
        error, at, how = entry.split(":")
        if how not in ("once", "ever"):
            raise ValueError(f"{ENVIRONMENT_KEY}={entry}: a fault comes once or ever")
        arm(error, int(at), for_ever=how == "ever")


def reach(path: object) -> None:
    """Say that a durable operation on ``path`` comes next; raises the armed ``OSError`` if it is its turn."""
    armed = _armed
    if armed is None:
        return
    with _lock:
        armed.reached += 1
        fails = bool(armed.number) and (armed.reached == armed.at or (armed.for_ever and armed.reached > armed.at))
        armed.failed += fails
    if fails:
        raise OSError(armed.number, os.strerror(armed.number), str(path))
