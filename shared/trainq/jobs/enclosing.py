"""What a shard is made of besides its file: stored content, named in the journal so that it can be made again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from trainq.ids import DIGEST_PATTERN

MAX_SOURCES = 1000


class EnclosedRole(StrEnum):
    """What the content is for."""

    # Rows of earlier jobs; its sources are those jobs, with the rows of each.
    REPLAY = "replay"
    # The index of the guarded evaluation suites; its sources are their names.
    SUITES = "suites"


class Enclosed(msgspec.Struct, frozen=True, kw_only=True):
    """Content in ``data/`` that a shard is made with."""

    role: EnclosedRole
    digest: Annotated[str, Meta(pattern=DIGEST_PATTERN)]
    size_bytes: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    sources: Annotated[dict[str, int], Meta(max_length=MAX_SOURCES)] = {}
