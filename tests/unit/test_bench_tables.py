"""The tables of the benchmarks."""

from __future__ import annotations

from scripts.bench import tables


def test_a_table_is_markdown_with_numbers_to_the_right() -> None:
    assert tables.lines(("seconds", "median"), [("a long name", "1.0"), ("b", "12.25")]) == [
        "| seconds     | median |",
        "|-------------|-------:|",
        "| a long name |    1.0 |",
        "| b           |  12.25 |"]


def test_the_spread_is_rounds_smallest_median_largest() -> None:
    assert tables.spread([3.0, 1.0, 2.5]) == ["3", "1.000", "2.500", "3.000"]
