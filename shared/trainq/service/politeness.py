"""Politeness: how work that nobody waits for keeps out of the way of what somebody does."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil

from trainq.clock import Clock
from trainq.config import MaintenanceSettings


def be_polite(settings: MaintenanceSettings) -> None:
    """Lower this process's priority for the processor, and for the disk where the scheduler knows an idle class."""
    os.nice(max(0, settings.niceness - os.nice(0)))
    psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


class Pace:
    """Keeps a stream of bytes at a rate, on the average since it began.

    ``pause`` waits for so many seconds, and does what must go on meanwhile.
    """

    def __init__(self, clock: Clock, mib_per_second: float, pause: Callable[[float], None]) -> None:
        self._clock = clock
        self._bytes_per_second = mib_per_second * (1 << 20)
        self._pause = pause
        self._began = clock.monotonic()
        self.size_bytes = 0

    def passed(self, size_bytes: int) -> None:
        """So many bytes were just read; return when the next may be."""
        self.size_bytes += size_bytes
        if self._bytes_per_second:
            early = self._began + self.size_bytes / self._bytes_per_second - self._clock.monotonic()
            if early > 0:
                self._pause(early)
