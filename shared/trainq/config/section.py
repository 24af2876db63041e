"""What the sections of ``trainq.toml`` are."""

from __future__ import annotations

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that belong together; they never change."""
