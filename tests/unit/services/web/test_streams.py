"""Where a stream begins."""

from __future__ import annotations

import pytest

from services.web.streams import place_in
from trainq.errors import UsageError


@pytest.mark.parametrize(("last", "after", "place"), [
    (None, None, None), ("", 3, 3), (None, 0, 0), ("7", 3, 7), ("0", None, 0), (str(2**63 - 1), None, 2**63 - 1)])
def test_the_last_event_that_was_seen_wins(last: str | None, after: int | None, place: int | None) -> None:
    assert place_in(last, after) == place


@pytest.mark.parametrize("last", ["x", "-1", "1.0", "\u0667", "1 ", str(2**63), "9" * 5000])
def test_what_is_no_number_of_an_event(last: str) -> None:
    with pytest.raises(UsageError):
        place_in(last, None)
