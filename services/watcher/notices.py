"""Notices: the kernel says at once that something changed in the inbox. Only a hint; the sweep is what decides.

``watchfiles`` blocks, so it has a thread, which writes to a pipe that the service's poller watches. A thread that
dies ends the process: half alive is worse than dead.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import watchfiles

from trainq.errors import StorageError


class Notices:
    """A pipe that becomes readable when something changes below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="inbox-notices", daemon=True)
        self._thread.start()

    @property
    def descriptor(self) -> int:
        return self._reader

    def drain(self) -> None:
        """Forget the notices so far.

        Raises:
            StorageError: the watching thread has died.
        """
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
        if not self._thread.is_alive():
            raise StorageError(f"watching {self._folder} has ended", mend="the process is started again")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        os.close(self._reader)
        os.close(self._writer)

    def _watch(self) -> None:
        changes = watchfiles.watch(self._folder, watch_filter=None, stop_event=self._stop, rust_timeout=1000,
                                   yield_on_timeout=False, raise_interrupt=False, debounce=200, step=50)
        for _ in changes:
            with contextlib.suppress(BlockingIOError):
                os.write(self._writer, b"!")
