"""Chance that is the same on every machine and in every version of Python, for whoever must repeat it from a seed.

:mod:`random` promises that for ``random()`` alone, and ``hash()`` for nothing. Here a draw is 8 bytes of the stream
that BLAKE3 makes out of the words which name it (its extendable output), and what is made of them is written below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from blake3 import blake3

Thing = TypeVar("Thing")

_SPAN = 2**64
_BLOCK_BYTES = 1024


class Draws:
    """One stream of draws. The same words give the same stream; streams of other words have nothing to do with it."""

    def __init__(self, *words: str | int) -> None:
        # A word's length stands before it: ("a", "b") and ("ab",) are two streams.
        self._source = blake3(b"".join(b"%d:%b" % (len(word), word) for word in (str(one).encode() for one in words)))
        self._block = b""
        self._at = self._taken = 0

    def below(self, end: int) -> int:
        """A whole number from 0 to ``end - 1``, each as likely as the other.

        Raises:
            ValueError: there is none, or ``end`` is above 2**64.
        """
        if not 0 < end <= _SPAN:
            raise ValueError(f"there is no draw below {end}")
        while True:
            number = self._next()
            # The last, incomplete run of numbers would make the small ones likelier: it is drawn again.
            if number < _SPAN - _SPAN % end:
                return number % end

    def between(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def pick(self, things: Sequence[Thing]) -> Thing:
        """One of them."""
        return things[self.below(len(things))]

    def shuffled(self, things: Iterable[Thing]) -> list[Thing]:
        """All of them, in an order by chance (Fisher and Yates, as Durstenfeld has it)."""
        found = list(things)
        return self.sample(found, len(found))

    def sample(self, things: Sequence[Thing], count: int) -> list[Thing]:
        """So many different places of ``things``, or all of them if there are fewer, in an order by chance."""
        left = list(things)
        count = min(count, len(left))
        for place in range(count):
            other = place + self.below(len(left) - place)
            left[place], left[other] = left[other], left[place]
        return left[:count]

    def _next(self) -> int:
        if self._at == len(self._block):
            self._block = self._source.digest(length=_BLOCK_BYTES, seek=self._taken)
            self._taken += _BLOCK_BYTES
            self._at = 0
        self._at += 8
        return int.from_bytes(self._block[self._at - 8:self._at], "big")
