"""How much memory the broker has, and what it does not send any more when that is much.

ZeroMQ keeps what a peer does not read: a thousand replies for each, and nobody can ask how much that is. So the broker
looks at itself. The more memory it has (:data:`LIMITS`), the smaller are the replies that it still sends; who only asks
for more is told to ask again, and leases, receipts and the picture go on for longest. The last resort is the system's:
above :data:`CEILING_BYTES` no memory is given, the process ends, and supervisord starts it anew with nothing lost.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

_KIB, _MIB = 1 << 10, 1 << 20
# (memory, the largest reply above it), most first. A broker that nobody harms has 30 to 60 MiB.
LIMITS = ((160 * _MIB, 4 * _KIB), (128 * _MIB, 64 * _KIB))
CEILING_BYTES = 512 * _MIB
_LOOK_BYTES = 16 * _MIB
_LOOK_SECONDS = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryGuard:
    """Looks at most ten times a second."""

    def __init__(self, monotonic: Callable[[], float], resident_bytes: Callable[[], int] | None = None) -> None:
        self._monotonic = monotonic
        self._resident_bytes = resident_bytes or _resident_bytes
        self._look_at = 0.0
        self._largest: int | None = None
        self._sent_bytes = 0

    def allows(self, size_bytes: int) -> bool:
        """Whether a reply of so many bytes may be sent."""
        if size_bytes <= LIMITS[0][1]:
            return True
        now = self._monotonic()
        self._sent_bytes += size_bytes
        # Also by what was sent since: a tenth of a second is long for replies of megabytes.
        if now >= self._look_at or self._sent_bytes > _LOOK_BYTES:
            if self._limit() is not None:
                give_back()
            self._largest = self._limit()
            self._look_at, self._sent_bytes = now + _LOOK_SECONDS, 0
        return self._largest is None or size_bytes <= self._largest

    def _limit(self) -> int | None:
        resident = self._resident_bytes()
        return next((largest for above, largest in LIMITS if resident > above), None)


def _resident_bytes() -> int:
    """What this process has in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def give_back() -> None:
    """Have the C library give free memory back to the system, which it keeps otherwise (malloc_trim(3))."""
    ctypes.CDLL(None).malloc_trim(0)


def set_ceiling() -> None:
    """No more than :data:`CEILING_BYTES` of data for this process, if it may have more now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > CEILING_BYTES:
        resource.setrlimit(resource.RLIMIT_DATA, (CEILING_BYTES, hard))
