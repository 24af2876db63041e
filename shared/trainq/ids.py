"""Identifiers: how they are made and what they may look like.

A request id is made by the client, once for each thing that it wants done, and repeated unchanged with every retry.
A session names one life of one process, so that a restarted worker is told from a slow one.
"""

from __future__ import annotations

import re
import uuid

# \Z, because $ would let a line feed at the end pass.
ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}\Z"
DIGEST_PATTERN = r"^[0-9a-f]{64}\Z"

_ID = re.compile(ID_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


def new_request_id() -> str:
    """A fresh, unguessable request id (122 random bits, RFC 4122 version 4)."""
    return uuid.uuid4().hex


def new_session_id() -> str:
    """A fresh name for one life of one process."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether ``text`` may stand where a job, request or session id is expected."""
    return _ID.match(text) is not None


def is_digest(text: str) -> bool:
    """Whether ``text`` is a BLAKE3 digest as trainq writes it: 64 lower-case hexadecimal digits."""
    return _DIGEST.match(text) is not None
