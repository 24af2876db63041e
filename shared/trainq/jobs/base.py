"""What every event is."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A fact. Its wire and journal name is the class name."""


class JobEvent(Event, frozen=True, kw_only=True):
    """A fact about one job."""

    job: str
