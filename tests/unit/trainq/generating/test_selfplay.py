"""Self-play as people ask for it: its options."""

from __future__ import annotations

import pytest

from trainq.config import GeneratorSettings
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


@pytest.mark.parametrize(("moved", "level"), [({}, 3), ({"sums": 5}, 3), ({"arithmetic": 7}, 7), ({"own": 9}, 3)])
def test_its_level_is_that_of_the_generator_whose_puzzles_it_asks(moved: dict[str, int], level: int) -> None:
    own = GeneratorSettings(use="selfplay", level=2)
    sums, arithmetic = GeneratorSettings(use="arithmetic", level=4), GeneratorSettings(level=3)
    assert selfplay.level_of("own", {"own": own, "sums": sums, "arithmetic": arithmetic}, moved) == level


@pytest.mark.parametrize(("moved", "level"), [({}, 4), ({"sums": 5}, 5), ({"more": 6}, 4)])
def test_under_other_names_the_first_counts(moved: dict[str, int], level: int) -> None:
    generators = {"own": GeneratorSettings(use="selfplay", level=2),
                  "sums": GeneratorSettings(use="arithmetic", level=4),
                  "more": GeneratorSettings(use="arithmetic", level=8)}
    assert selfplay.level_of("own", generators, moved) == level


def test_where_nobody_has_configured_that_one_its_own_level_is_the_first() -> None:
    assert selfplay.level_of("selfplay", {"selfplay": GeneratorSettings(level=2)}, {}) == 2
    assert selfplay.level_of("selfplay", {}, {"arithmetic": 6}) == 6
    assert [selfplay.level_of("sums", {"sums": GeneratorSettings(level=2)}, moved) for moved in ({}, {"sums": 5})] == [
        2, 5]
