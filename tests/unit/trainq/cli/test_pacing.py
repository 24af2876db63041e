"""Bars."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainq.cli.pacing import progress_line
from trainq.cli.rendering import columns_of
from trainq.messages import Progress


def test_a_bar_with_everything() -> None:
    progress = Progress(step=120, steps=400, loss=2.31, tokens_per_second=5234.0)
    assert progress_line("train-7 a.jsonl", progress, 72.0, 120) == (
        "train-7 a.jsonl [#######.................] 120/400  loss 2.310  5.2k tokens/s  ETA 1 m 12 s")


def test_bytes_read_are_a_percentage() -> None:
    assert progress_line("x", Progress(step=5, steps=10, unit="bytes"), None, 19) == "x [#####.....] 50 %"


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(20, 150), st.floats(0, 1e9) | st.none())
def test_it_always_fits(step: int, steps: int, width: int, left: float | None) -> None:
    line = progress_line("train-7 name.jsonl", Progress(step=step, steps=steps, loss=1.0), left, width)
    assert columns_of(line) <= width
