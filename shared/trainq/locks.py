"""Locks between processes: one holds a file's lock, and who comes second is told who does."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from trainq import diskfaults, files
from trainq.errors import AlreadyRunningError


class Lock(NamedTuple):
    """A held ``flock``; it is let go when the process ends, however it ends."""

    path: Path
    descriptor: int

    def show_life(self) -> None:
        """Set the file's time to now, as a sign of life. A disk that does not take it is no reason to end."""
        with contextlib.suppress(OSError):
            os.utime(self.descriptor)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two inodes of one name."""
        os.close(self.descriptor)


def acquire_lock(path: Path, role: str) -> Lock:
    """Take the exclusive lock ``path`` for ``role`` without waiting.

    Raises:
        AlreadyRunningError: another living process holds it; carries its pid.
    """
    with files.reported(f"locking {path}"):
        diskfaults.reach(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE_FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise AlreadyRunningError(role, int(holder) if holder.isdigit() else 0, str(path)) from None
        # The lock is held already; the pid is for people, and a full disk must not keep a service from starting.
        with contextlib.suppress(OSError):
            diskfaults.reach(path)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return Lock(path, descriptor)
