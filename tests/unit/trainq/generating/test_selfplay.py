"""Self-play as people ask for it: its options."""

from __future__ import annotations

import pytest

from trainq.errors import UsageError
from trainq.generating import selfplay
from trainq.generating.selfplay import Options


def test_options_are_read_and_wrong_ones_named() -> None:
    assert selfplay.read_options({"from": "syllo", "least_rows": 3}) == Options(source="syllo", least_rows=3)
    assert [selfplay.source_of(given) for given in ({}, {"from": "syllo"}, {"from": 1})] == [
        "arithmetic", "syllo", "arithmetic"]
    for given in ({"source": "syllo"}, {"batch_rows": 0}, {"from": 1}):
        with pytest.raises(UsageError, match=r"an option of the generator selfplay is wrong.*known are: from, max_new"):
            selfplay.read_options(given)
    with pytest.raises(UsageError, match="is to ask 3 times, and would be answered the same"):
        selfplay.read_options({"samples": 3})
    assert selfplay.read_options({"samples": 3, "temperature": 1}).temperature == 1.0
