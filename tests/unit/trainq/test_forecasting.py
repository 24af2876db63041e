"""When jobs start and end: spans, from what was seen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq import forecasting
from trainq.figures import Measured, WaitingJob
from trainq.forecasting import Pace, Rates
from trainq.jobs import JobKind, JobState
from trainq.messages import JobView, Progress

NOW = 1000.0
MEASURED = Measured(tokens_per_second=(100.0, 200.0), beyond_seconds=(1.0, 3.0))


def test_until_the_spread_is_known_the_worker_s_own_estimate_is_the_middle() -> None:
    pace = Pace()
    pace.note(0, 0.0)
    pace.note(10, 10.0)
    progress = Progress(step=10, steps=100, seconds_left=8.0)
    assert pace.seconds_left(progress, 10.0) == 8.0
    assert pace.span_left(progress, 10.0) == (6.0, 10.0)


def test_else_the_steps_seen_tell() -> None:
    pace, progress = Pace(), Progress(step=10, steps=100)
    assert pace.seconds_left(progress, 0.0) is None
    pace.note(0, 0.0)
    assert pace.seconds_left(progress, 0.0) is None
    pace.note(10, 20.0)
    assert pace.seconds_left(progress, 20.0) == pytest.approx(180.0)
    # Between two steps the time that has passed counts.
    assert pace.seconds_left(progress, 21.0) == pytest.approx(179.0)


def test_the_span_is_that_of_the_faster_and_the_slower_half() -> None:
    pace, now = Pace(), 0.0
    for step, seconds in enumerate((1.0, 3.0, 1.0, 3.0, 1.0, 3.0)):
        pace.note(step, now)
        now += seconds
    pace.note(6, now)
    # Three steps of one second and three of three: ten more take between ten and thirty.
    assert pace.span_left(Progress(step=6, steps=16, seconds_left=1e9), now) == (10.0, 30.0)
    assert pace.seconds_left(Progress(step=6, steps=16), now) == 20.0


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


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0.001, 100)), max_size=40), st.integers(1, 1000))
def test_the_first_number_is_the_smaller_one(moves: list[tuple[int, float]], steps: int) -> None:
    pace, now, step = Pace(), 0.0, 0
    for more, seconds in moves:
        step, now = min(steps, step + more), now + seconds
        pace.note(step, now)
        span = pace.span_left(Progress(step=step, steps=steps), now)
        assert span is None or 0 <= span[0] <= span[1] * (1 + 1e-9)


def test_rates_are_those_of_the_last_jobs_and_what_each_took_beyond() -> None:
    rates = Rates()
    assert rates.measured() is None
    rates.stepped("train-1", 100.0)
    assert rates.measured() == Measured(tokens_per_second=(100.0, 100.0))
    rates.ended("train-1", 1000, 12.0)  # ten seconds of steps
    rates.stepped("train-2", 200.0)
    rates.ended("train-2", 1000, 6.0)
    assert rates.measured() == Measured(tokens_per_second=(100.0, 200.0), beyond_seconds=(1.0, 2.0))
    for number in range(3, 13):
        rates.stepped(f"train-{number}", 400.0)
    measured = rates.measured()
    assert measured is not None
    assert measured.tokens_per_second == (400.0, 400.0)
    rates.stepped("train-12", 401.0)
    assert rates.measured() == measured, "what has hardly changed stays the same"


def test_a_next_life_goes_on_from_what_was_measured() -> None:
    assert Rates(MEASURED).measured() == MEASURED
    grown = Rates(MEASURED)
    grown.stepped("train-9", 500.0)
    assert grown.measured() == Measured(tokens_per_second=(100.0, 500.0), beyond_seconds=(1.0, 3.0))


@pytest.mark.parametrize(("before", "new", "kept"), [
    (None, (10.0, 20.0), False),
    ((1100.0, 1200.0), (1101.0, 1205.0), True), ((1100.0, 1200.0), (1100.0, 1215.0), False),
    ((1001.0, 1001.0), (1002.0, 1003.0), True), ((1100.0, 1200.0), None, False)])
def test_a_moment_moves_by_more_than_a_little_or_not_at_all(before: Any, new: Any, kept: bool) -> None:
    assert forecasting.steady(before, new, NOW) == (before if kept else new)


def job(number: int, **changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "id": f"train-{number}", "number": number, "kind": JobKind.TRAIN, "state": JobState.QUEUED, "name": "a.jsonl",
        "priority": "normal", "origin": "people", "digest": "d", "size_bytes": 1, "prepared": True, "rows": 1,
        "tokens": 1000, "attempts": 0, "failures": 0, "submitted_at": 0.0, "started_at": None, "ended_at": None,
        "retry_at": 0.0, "reason": "", "cancel_reason": None, "result": None, **changes}
    return JobView(**fields)


def line(*waiting: JobView, **changes: Any) -> list[WaitingJob]:
    fields: dict[str, Any] = {
        "now_wall": NOW, "stopped": "", "reason": "", "running_ends_at": (1010.0, 1020.0), "is_running": True,
        "measured": MEASURED, **changes}
    planned = {each.id: each.tokens for each in waiting if each.prepared}
    return list(forecasting.line(waiting, planned, **fields))


def test_each_waits_for_those_before_it() -> None:
    first, second, third = line(job(1), job(2, tokens=2000), job(3))
    assert (first.position, first.why, first.starts_at, first.ends_at) == (1, "next", (1010, 1020), (1016, 1033))
    assert (second.position, second.why, second.starts_at, second.ends_at) == (
        2, "one job goes first", (1016, 1033), (1027, 1056))
    assert (third.position, third.why, third.starts_at) == (3, "2 jobs go first", (1027, 1056))


def test_nobody_knows_what_comes_behind_what_is_not_prepared() -> None:
    first, second, third = line(job(1), job(2, prepared=False), job(3))
    assert first.ends_at == (1016, 1033)
    assert (second.why, second.starts_at, second.ends_at) == ("to be prepared", None, None)
    assert (third.starts_at, third.ends_at) == (None, None)


@pytest.mark.parametrize("unknown", [
    {"stopped": "the queue is paused: lunch"}, {"measured": None}, {"running_ends_at": None},
    {"is_running": False, "reason": "restore-3 (g000001-s00000001) goes first"}])
def test_nothing_is_said_where_nobody_knows(unknown: dict[str, Any]) -> None:
    (found,) = line(job(1), **unknown)
    assert (found.starts_at, found.ends_at) == (None, None)
    assert found.why == (unknown.get("stopped") or unknown.get("reason") or "next")


def test_with_nothing_running_the_first_one_starts_now() -> None:
    (found,) = line(job(1), is_running=False, running_ends_at=None)
    assert found.starts_at == (NOW, NOW)


def test_one_that_is_tried_again_later_may_come_in_between() -> None:
    first, second, third = line(job(1, retry_at=NOW + 60, reason="out of memory", attempts=1), job(2), job(3))
    assert (first.why, first.starts_at) == ("tried again later: out of memory", None)
    assert second.starts_at == (1010, 1033)
    assert third.starts_at == (1016, 1046)


def test_of_one_that_was_begun_before_some_may_be_done() -> None:
    (found,) = line(job(1, attempts=1))
    assert found.ends_at == (1011, 1033)


def test_one_rate_alone_is_no_certainty() -> None:
    (found,) = line(job(1), measured=Measured(tokens_per_second=(100.0, 100.0)))
    assert found.ends_at == (1018, 1033)
