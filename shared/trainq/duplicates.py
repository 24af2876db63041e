"""A set of row digests in 16 bytes a row: which rows of a file were there before.

The first 16 bytes of a digest stand for it (two different rows that share them are found by no one: 2**-128 a pair).
They lie in sorted arrays, one for each first byte, so that growing one copies only a 256th part of the whole; the
newest wait in a small ordinary set.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

_KEY_BYTES = 16
_KEY = np.dtype(f"S{_KEY_BYTES}")
MOST_WAITING = 65_536


class DigestSet:
    """Digests (at least 16 bytes each) seen so far; ``most_waiting`` of them are not yet sorted in."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._waiting: set[bytes] = set()
        self._sorted: list[NDArray[np.bytes_]] = [np.empty(0, dtype=_KEY) for _ in range(256)]

    def __contains__(self, digest: bytes) -> bool:
        key = digest[:_KEY_BYTES]
        if key in self._waiting:
            return True
        bucket = self._sorted[key[0]]
        if not len(bucket):
            return False
        # numpy drops NUL bytes at the end of an S16; among keys of one length that loses nothing.
        position = int(bucket.searchsorted(np.bytes_(key)))
        return position < len(bucket) and bytes(bucket[position]) == key.rstrip(b"\0")

    def add(self, digest: bytes) -> None:
        """Remember ``digest``. When enough are waiting they are sorted in (some milliseconds)."""
        self._waiting.add(digest[:_KEY_BYTES])
        if len(self._waiting) >= self._most_waiting:
            self._settle()

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._sorted))

    def _settle(self) -> None:
        keys = np.sort(np.frombuffer(b"".join(self._waiting), dtype=_KEY))
        firsts = np.frombuffer(keys.tobytes(), dtype=np.uint8)[::_KEY_BYTES]
        ends = np.searchsorted(firsts, np.arange(257))
        for first, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
            # A stable sort of two sorted runs is one merge (timsort).
            self._sorted[first] = np.sort(np.concatenate([self._sorted[first], keys[start:end]]), kind="stable")
        self._waiting.clear()
