"""Identifiers: how they are made and what they may look like.

A request id is made by the client, once for each thing that it wants done, and repeated unchanged with every retry.
A session names one life of one process, so that a restarted worker is told from a slow one.
"""

from __future__ import annotations

import os
import re
import time

# \Z, because $ would let a line feed at the end pass.
ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}\Z"
DIGEST_PATTERN = r"^[0-9a-f]{64}\Z"

_ID = re.compile(ID_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


def new_request_id() -> str:
    """A fresh, unguessable request id: a UUID of version 7 (RFC 9562), 48 bits of milliseconds and 74 random ones.

    The broker keeps ids for ever; those of about one time lie beside each other there, which costs it a tenth of the
    pages that random ones do.
    """
    milliseconds = (time.time_ns() // 1_000_000) & (1 << 48) - 1
    rest = int.from_bytes(os.urandom(10), "big") & ~(0xF << 76 | 0b11 << 62) | 0x7 << 76 | 0b10 << 62
    return f"{milliseconds << 80 | rest:032x}"


def new_session_id() -> str:
    """A fresh name for one life of one process."""
    return os.urandom(16).hex()


def is_id(text: str) -> bool:
    """Whether ``text`` may stand where a job, request or session id is expected."""
    return _ID.match(text) is not None


def is_digest(text: str) -> bool:
    """Whether ``text`` is a BLAKE3 digest as trainq writes it: 64 lower-case hexadecimal digits."""
    return _DIGEST.match(text) is not None
