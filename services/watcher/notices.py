"""Notices: the kernel says at once that something changed in a folder. Only a hint; the sweep is what decides.

``watchfiles`` blocks, so it has a thread, which writes to a pipe that the service's poller watches. Watching fails
now and then (a file name that is not UTF-8, too few inotify watches, a folder that is replaced): that is logged, and
watching begins again after a pause. Without notices files are taken a sweep later, no worse.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import watchfiles

from trainq.logs import EventLog

_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 60.0


class Notices:
    """A pipe that becomes readable when something changes below ``folders``."""

    def __init__(self, folders: tuple[Path, ...], log: EventLog) -> None:
        self._folders = folders
        self._log = log
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = threading.Event()
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._thread = threading.Thread(target=self._watch_on, name="inbox-notices", daemon=True)
        self._thread.start()

    @property
    def descriptor(self) -> int:
        return self._reader

    def drain(self) -> None:
        """Forget the notices so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        if not self._thread.is_alive():  # else it may still write: the numbers must not be given to other files
            os.close(self._reader)
            os.close(self._writer)

    def _watch_on(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            # BaseException: a panic in watchfiles' Rust is one, and must not end the notices either.
            except BaseException as error:
                self._log.warning("watching_failed", error=str(error), again_in_seconds=self._pause_seconds)
            self._notify()  # what the failure swallowed, the sweep finds
            self._stop.wait(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _MAX_PAUSE_SECONDS)

    def _watch(self) -> None:
        for _ in watchfiles.watch(*self._folders, watch_filter=None, stop_event=self._stop, rust_timeout=1000,
                                  yield_on_timeout=False, raise_interrupt=False, debounce=200, step=50):
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._notify()

    def _notify(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")
