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


def test_the_lower_bound_is_that_of_the_t_distribution() -> None:
    # Ten values with mean 1 and standard deviation 0.1: 1 - 1.833 * 0.1 / sqrt(10).
    values = [1 - 0.1 * 0.9 ** 0.5, 1 + 0.1 * 0.9 ** 0.5] * 5
    assert tables.mean_and_lower(values) == ["1.000", "0.942"]
    assert tables.mean_and_lower([0.5, 0.5]) == ["0.500", "0.500"]
    assert tables.mean_and_lower([0.5]) == ["0.500", "-"]
