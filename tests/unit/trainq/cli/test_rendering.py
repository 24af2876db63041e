"""Words, numbers and tables."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.cli import rendering
from trainq.cli.console import printable
from trainq.cli.rendering import Column, columns_of, cut, duration, facts, moment, table


@pytest.mark.parametrize(("seconds", "words"), [
    (-1, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.4, "59 s"), (59.6, "1 m 0 s"),
    (72, "1 m 12 s"), (3599, "59 m 59 s"), (3600, "1 h 0 m"), (7500, "2 h 5 m"), (86_399, "23 h 59 m"),
    (86_400, "1 d 0 h"), (273_600, "3 d 4 h")])
def test_spans_have_their_two_greatest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("size_bytes", "words"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3_565_158, "3.4 MiB"), (5 * 2**50, "5120.0 TiB")])
def test_sizes(size_bytes: int, words: str) -> None:
    assert rendering.size(size_bytes) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0"), (949.6, "950"), (12_345, "12.3k"), (4_500_000, "4.5M")])
def test_counts(number: float, words: str) -> None:
    assert rendering.count(number) == words


def test_moments_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert moment(0.5) == "1970-01-01 02:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert moment(None) == ""


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("数据", 4), ("e\u0301", 1), ("\uff57", 2), ("❤\ufe0f", 1)])
def test_letters_take_the_columns_that_they_take(text: str, columns: int) -> None:
    assert columns_of(text) == columns


def test_cutting_keeps_whole_letters() -> None:
    assert cut("数据数据", 8) == "数据数据"
    assert cut("数据数据", 7) == "数据数…"
    assert cut("数据数据", 6) == "数据…"


COLUMNS = [Column("job"), Column("name", flexible=True), Column("n", right=True), Column("", flexible=True)]


def test_a_table_lines_up_and_leaves_empty_columns_out() -> None:
    assert table(COLUMNS, [["train-1", "a.jsonl", "5", ""], ["train-12", "数据", "1000", ""]], None) == [
        "job       name        n",
        "train-1   a.jsonl     5",
        "train-12  数据     1000"]


def test_narrow_terminals_cost_the_flexible_cells() -> None:
    lines = table(COLUMNS, [["train-1", "a-very-long-name.jsonl", "5", "and a long reason for it"]], 40)
    assert lines[1] == "train-1  a-very-long-…  5  and a long r…"


def test_colour_takes_no_room() -> None:
    columns = [Column("state", paint=lambda cell: f"<{cell}>"), Column("name")]
    assert table(columns, [["ok", "x"]], None) == ["state  name", "<ok   >  x"]


@given(st.lists(st.tuples(st.text(), st.text(), st.integers().map(str), st.text()), max_size=5), st.integers(4, 200))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str, str]], width: int) -> None:
    lines = table(COLUMNS, rows, width)
    assert len(lines) == 1 + len(rows)
    assert all(columns_of(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_facts_leave_out_what_is_not_there() -> None:
    assert facts([("job", "train-1"), ("reason", ""), ("submitted", "no\nw")]) == [
        "job        train-1", r"submitted  no\nw"]


def test_spare_columns_are_left_out_from_the_last_one() -> None:
    columns = [Column("job"), Column("name", flexible=True), Column("priority", spare=True),
               Column("submitted", spare=True), Column("", flexible=True)]
    row = ["train-1", "a-long-name.jsonl", "normal", "2026-07-30 14:05:09", "because"]
    assert "2026" in table(columns, [row], 60)[1]
    assert table(columns, [row], 41)[1] == "train-1  a-long-name.…  normal    because"
    assert table(columns, [row], 30)[1] == "train-1  a-long-name…  because"


def test_long_facts_go_on_under_their_beginning() -> None:
    pairs = [("job", "train-1"), ("reason", "because of many words and averyveryverylongone"), ("empty", "")]
    assert facts(pairs, 30) == ["job     train-1", "reason  because of many words", "        and",
                                "        averyveryverylongone"]
    assert facts(pairs, 16)[:3] == ["job", "train-1", "reason"]


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=60)), max_size=4), st.integers(4, 90))
def test_no_fact_is_wider_than_the_terminal_and_none_is_lost(pairs: list[tuple[str, str]], width: int) -> None:
    lines = facts(pairs, width)
    assert all(columns_of(line) <= width for line in lines)
    if all(name.isascii() for name, _ in pairs):
        for _, value in pairs:
            assert "".join(printable(value).split()) in "".join("".join(lines).split())
