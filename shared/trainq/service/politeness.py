"""Politeness: how work that nobody waits for keeps out of the way of what somebody does."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil

from trainq.clock import Clock
from trainq.config import MaintenanceSettings
from trainq.messages import Progress
from trainq.service.peer import Peer
from trainq.service.work import HeldTask


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


def paced(peer: Peer, held: HeldTask, total_bytes: int = 0) -> Callable[[int], None]:
    """What a task calls after each piece that it has read: it keeps the rate and the lease, and shows the progress.

    ``total_bytes`` is how much is to be read, for the progress; 0 if nobody knows. What is returned raises
    :class:`~trainq.service.work.InterruptedWorkError` when the task must end.
    """
    clock, settings = peer.process.clock, peer.process.settings.maintenance

    def beat() -> None:
        held.keep_or_raise(Progress(step=pace.size_bytes, steps=total_bytes, unit="bytes"))

    def pause(seconds: float) -> None:
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            peer.wait(left)
            beat()

    pace = Pace(clock, settings.mib_per_second, pause)

    def on_chunk(size_bytes: int) -> None:
        pace.passed(size_bytes)
        beat()

    return on_chunk
