"""Time as an argument: wall time for people, monotonic time for every decision."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Deciding modules never see it; they get ``now`` as a number."""

    def wall(self) -> float:
        """Seconds since 1970 (UTC). May jump; only shown, never used to decide."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
