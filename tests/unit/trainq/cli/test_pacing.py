"""Speed and bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.cli.pacing import Pace, progress_line
from trainq.cli.rendering import columns_of
from trainq.messages import Progress


def test_the_worker_s_own_estimate_goes_first() -> None:
    pace = Pace()
    pace.note(0, 0.0)
    pace.note(10, 10.0)
    assert pace.seconds_left(Progress(step=10, steps=100, seconds_left=7.0), 10.0) == 7.0


def test_else_the_steps_seen_tell() -> None:
    pace, progress = Pace(), Progress(step=10, steps=100)
    assert pace.seconds_left(progress, 0.0) is None
    pace.note(0, 0.0)
    assert pace.seconds_left(progress, 0.0) is None
    pace.note(10, 20.0)
    assert pace.seconds_left(progress, 20.0) == pytest.approx(180.0)
    # Between two steps the time that has passed counts.
    assert pace.seconds_left(progress, 21.0) == pytest.approx(179.0)


def test_a_change_of_speed_is_followed() -> None:
    pace = Pace()
    for step in range(100):
        pace.note(step, float(step))
    for step in range(30):
        pace.note(100 + step, 100 + 10.0 * step)
    left = pace.seconds_left(Progress(step=129, steps=139), 390.0)
    assert left == pytest.approx(100.0)


def test_a_new_attempt_starts_anew() -> None:
    pace = Pace()
    pace.note(50, 0.0)
    pace.note(60, 10.0)
    pace.note(0, 20.0)
    assert pace.seconds_left(Progress(step=0, steps=100), 20.0) is None


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
