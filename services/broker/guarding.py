"""Guarding the disk: how much is free, when it will be full, and whether what needs room must wait.

Waiting costs nobody an attempt: what is not granted does not fail. It lets go by itself when there is room again, some
more than the limit, so that it does not come and go around it. Retention, restores and proofs go on: they make room, or
need none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from trainq import room
from trainq.config import DiskSettings
from trainq.messages import DiskView

LOOK_SECONDS = 2.0
SAMPLE_SECONDS = 60.0
# Six hours: long enough to see a job with all its checkpoints, short enough to forget yesterday.
SAMPLES = 360
# What is further away than a month is no forecast.
FARTHEST_HOURS = 720.0
_GIB = 1 << 30
# A hold ends with a tenth more than its limit, or a GiB.
RELIEF, MOST_RELIEF_BYTES = 0.1, _GIB


class DiskGuard:
    """Looks every two seconds at most. Memory only: a new life of the broker forecasts anew."""

    def __init__(self, folder: Path, settings: DiskSettings, monotonic: Callable[[], float],
                 usage: Callable[[Path], room.Usage] = room.usage) -> None:
        self._folder = folder
        self._settings = settings
        self._monotonic = monotonic
        self._usage = usage
        self._look_at = 0.0
        self._sampled_at = float("-inf")
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        self._holds = False
        self._view: DiskView | None = None

    def view(self) -> DiskView | None:
        """What there is; None while the disk cannot be asked."""
        now = self._monotonic()
        if self._view is None or now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(now)
        return self._view

    def why_held(self) -> str:
        """Why nothing that needs room is begun; empty when there is enough."""
        view = self.view()
        if view is None or view.state != "hold":
            return ""
        return (f"the disk has {view.free_bytes / 1e9:.1f} GB free, and {view.hold_below_bytes / 1e9:.1f} GB are kept "
                "([disk] hold_gib); it goes on by itself when there is room")

    def _look(self, now: float) -> None:
        try:
            found = self._usage(self._folder)
        except OSError:
            return  # what is wrong with the disk, those say who write on it
        if now - self._sampled_at >= SAMPLE_SECONDS:
            self._sampled_at = now
            self._samples.append((now, found.free_bytes))
        warn, hold = (max(int(gib * _GIB), int(found.total_bytes * percent / 100)) for gib, percent in (
            (self._settings.warn_gib, self._settings.warn_percent),
            (self._settings.hold_gib, self._settings.hold_percent)))
        self._holds = found.free_bytes < hold + (min(hold * RELIEF, MOST_RELIEF_BYTES) if self._holds else 0)
        state = "hold" if self._holds else "warn" if found.free_bytes < warn else "ok"
        self._view = DiskView(state=state, free_bytes=found.free_bytes, total_bytes=found.total_bytes,
                              warn_below_bytes=warn, hold_below_bytes=hold,
                              full_in_hours=hours_left(list(self._samples), found.free_bytes))


def hours_left(samples: list[tuple[float, int]], free_bytes: int) -> float | None:
    """When the disk will be full if it goes on like this: by the line of least squares through the samples.

    Args:
        samples: (seconds, free bytes), oldest first.
        free_bytes: now.

    Returns:
        Hours; None when it does not get less, when that is too far away, or when too little was seen.
    """
    if len(samples) < 3:
        return None
    middle = sum(at for at, _ in samples) / len(samples)
    mean = sum(free for _, free in samples) / len(samples)
    spread = sum((at - middle) ** 2 for at, _ in samples)
    per_second = sum((at - middle) * (free - mean) for at, free in samples) / spread if spread else 0.0
    if per_second >= 0:
        return None
    hours = free_bytes / -per_second / 3600
    return round(hours, 2) if hours <= FARTHEST_HOURS else None
