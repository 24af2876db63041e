"""Quiet hours: the times of the day at which nothing is trained. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import NamedTuple

_RANGE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class QuietHours(NamedTuple):
    """From ``begin`` to ``end`` each day; over midnight where the end is not after the beginning."""

    begin: time
    end: time


def parse(text: str) -> QuietHours:
    """``22:00-07:30`` as times of the day.

    Raises:
        ValueError: it is no such range, or an empty one.
    """
    found = _RANGE.fullmatch(text)
    if found is None or found[1] + found[2] == found[3] + found[4]:
        raise ValueError(f"{text[:50]!r} is no range of hours")
    return QuietHours(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))


def quiet_until(hours: Sequence[QuietHours], now: datetime) -> datetime | None:
    """When the quiet hours end in which ``now`` (with its time zone) lies; None if it lies in none.

    Ranges that touch or overlap are one.
    """
    until = now
    # Each range can lengthen it once, and one that follows may come earlier in the list.
    for _ in range(len(hours) + 1):
        later = max((_end(each, until) or until for each in hours), default=until)
        if later <= until:
            break
        until = later
    return until if until > now else None


def _end(hours: QuietHours, moment: datetime) -> datetime | None:
    """When the range ends in which ``moment`` lies: its own clock time, whatever the hour counts on that day."""
    at = moment.time()
    over_midnight = hours.end <= hours.begin
    inside = (at >= hours.begin or at < hours.end) if over_midnight else hours.begin <= at < hours.end
    if not inside:
        return None
    day = moment.date() + timedelta(days=1) if over_midnight and at >= hours.begin else moment.date()
    return datetime.combine(day, hours.end, tzinfo=moment.tzinfo)
