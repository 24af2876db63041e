"""Rights that hold for root, too: tests run as it, and it may read whatever it likes."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

# capabilities(7), capget(2): two words of 32 capabilities, each of effective, permitted and inheritable ones.
_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


@contextlib.contextmanager
def as_they_are() -> Iterator[None]:
    """In the block this thread may read and enter what a file's mode says, and no more. Its children may everything."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()

    def call(function: str) -> None:
        if getattr(libc, function)(header, sets):
            raise OSError(ctypes.get_errno(), function)

    call("capget")
    before = sets[0]
    sets[0] = before & ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    call("capset")
    try:
        yield
    finally:
        sets[0] = before
        call("capset")
