"""Quiet hours: which moments lie in them, and when they end."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.config.quiet import parse, quiet_until

BERLIN = ZoneInfo("Europe/Berlin")


def at(hour: int, minute: int = 0, day: int = 10) -> datetime:
    return datetime(2026, 6, day, hour, minute, tzinfo=BERLIN)


@pytest.mark.parametrize(("ranges", "now", "until"), [
    (["22:00-07:00"], at(23), at(7, day=11)),
    (["22:00-07:00"], at(6, 59), at(7)),
    (["22:00-07:00"], at(7), None),
    (["22:00-07:00"], at(21, 59), None),
    (["22:00-07:00"], at(22), at(7, day=11)),
    (["09:00-12:00", "12:00-13:30"], at(10), at(13, 30)),
    (["12:00-13:30", "09:00-12:00"], at(10), at(13, 30)),
    (["09:00-12:00", "13:00-14:00"], at(10), at(12)),
    ([], at(10), None),
])
def test_what_lies_in_them(ranges: list[str], now: datetime, until: datetime | None) -> None:
    assert quiet_until([parse(text) for text in ranges], now) == until


def test_the_clock_decides_also_when_an_hour_is_missing() -> None:
    night = datetime(2026, 3, 29, 1, 30, tzinfo=BERLIN)  # at 2:00 it becomes 3:00
    until = quiet_until([parse("01:00-04:00")], night)
    assert until is not None
    assert until.timestamp() - night.timestamp() == 90 * 60


@pytest.mark.parametrize("text", ["", "22-7", "22:00", "24:00-01:00", "22:60-01:00", "07:00-07:00", "22:00-07:00 "])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="no range of hours"):
        parse(text)


@given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda pair: pair[0] != pair[1]), max_size=4),
       st.integers(0, 23), st.integers(0, 59))
def test_it_ends_in_the_future_where_no_range_goes_on(ranges: list[tuple[int, int]], hour: int, minute: int) -> None:
    hours = [parse(f"{begin:02}:00-{end:02}:00") for begin, end in ranges]
    until = quiet_until(hours, at(hour, minute))
    if until is not None:
        assert until > at(hour, minute)
        covered = {begin_hour for begin, end in ranges
                   for begin_hour in [(begin + offset) % 24 for offset in range((end - begin) % 24)]}
        assert len(covered) == 24 or until.hour not in covered
