"""The rate of each step, by hand; and that it is continuous where it should be."""

from __future__ import annotations

import itertools
import math

import pytest

from trainq.config import TrainSettings
from trainq.ml import schedules
from trainq.ml.schedules import Moment

LONG_AGO = 1000  # so many steps of the line before the job: its warm-up is over


def settings(**changes: object) -> TrainSettings:
    return TrainSettings(**{"learning_rate": 1.0, "warmup_steps": 0, **changes})  # type: ignore[arg-type]


def job(steps: int, wanted: TrainSettings, *, begins: int = LONG_AGO, since: int = 0) -> list[float]:
    """The rates of one job of so many steps that begins at that global step."""
    return [schedules.learning_rate(wanted, Moment(
        step=begins + at, job_step=at, steps_planned=steps, optimizer_since=since)) for at in range(steps)]


@pytest.mark.parametrize(("warmup_steps", "step", "rate"), [
    (10, 0, 0.001), (10, 4, 0.005), (10, 9, 0.01), (10, 10, 0.01), (10, 10**9, 0.01), (0, 0, 0.01), (1, 0, 0.01)])
def test_constant_rises_with_the_line_and_stays(warmup_steps: int, step: int, rate: float) -> None:
    wanted = TrainSettings(learning_rate=0.01, warmup_steps=warmup_steps)
    assert schedules.learning_rate(wanted, Moment(step=step, job_step=0, steps_planned=1)) == pytest.approx(rate)


@pytest.mark.parametrize("step", [0, 1, 7, 19, 20, 21, 12_345])
def test_the_default_is_what_was_always_done_to_the_bit(step: int) -> None:
    wanted = TrainSettings()
    before = wanted.learning_rate * min(1.0, (step + 1) / max(1, wanted.warmup_steps))
    assert schedules.learning_rate(wanted, Moment(step=step, job_step=step % 7, steps_planned=9)) == before


def test_a_fresh_optimizer_warms_up_again() -> None:
    wanted = settings(warmup_steps=4)
    assert job(6, wanted, begins=500, since=500) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert job(6, wanted, begins=500, since=498) == [0.75, 1, 1, 1, 1, 1]
    assert job(6, wanted, begins=500) == [1] * 6


def test_linear_falls_towards_the_fraction_over_the_job() -> None:
    assert job(4, settings(schedule="linear", min_rate_fraction=0.2)) == pytest.approx([1, 0.8, 0.6, 0.4])
    # What the step after the last would have is the fraction, so no step has the rate 0.
    assert job(4, settings(schedule="linear", min_rate_fraction=0)) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_cosine_falls_along_half_a_cosine() -> None:
    rates = job(4, settings(schedule="cosine", min_rate_fraction=0.2))
    assert rates == pytest.approx([0.2 + 0.8 * (1 + math.cos(math.pi * at / 4)) / 2 for at in range(4)])
    assert job(1, settings(schedule="cosine")) == [1]


def test_cosine_is_above_nothing_in_the_longest_job() -> None:
    wanted = settings(schedule="cosine", min_rate_fraction=0)
    last = Moment(step=10**12, job_step=10**9 - 1, steps_planned=10**9)
    assert 0 < schedules.learning_rate(wanted, last) < 1e-15


def test_wsd_is_stable_and_decays_in_the_last_part() -> None:
    rates = job(20, settings(schedule="wsd", min_rate_fraction=0.1, decay_fraction=0.15))
    assert rates[:17] == [1] * 17
    assert rates[17:] == pytest.approx([0.1 + 0.9 * (1 - math.sqrt(part / 4)) for part in (1, 2, 3)])
    # A job too short for one whole step of it has none.
    assert job(3, settings(schedule="wsd", decay_fraction=0.1)) == [1] * 3
    assert job(20, settings(schedule="wsd", decay_fraction=0)) == [1] * 20


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "wsd"])
def test_a_rewarmed_job_begins_where_the_one_before_has_left_off(schedule: str) -> None:
    wanted = settings(schedule=schedule, rewarm_steps=5, min_rate_fraction=0.2, decay_fraction=0.5)
    rates = job(200, wanted)
    assert rates[:5] == pytest.approx([0.36, 0.52, 0.68, 0.84, 1])
    assert rates[5] == 1
    if schedule != "constant":
        assert rates[-1] == pytest.approx(0.2, abs=0.01)
    together = rates + job(200, wanted)
    ups = [after - before for before, after in itertools.pairwise(together)]
    assert max(ups) < 0.17  # no step of the rate is larger than one of the re-warming


def test_a_short_job_rewarms_for_half_of_its_steps_at_most() -> None:
    wanted = settings(schedule="linear", rewarm_steps=100, min_rate_fraction=0)
    assert job(1, wanted) == [1]
    assert job(2, wanted) == [1, 1]
    assert job(4, wanted) == [0.5, 1, 1, 0.5]


def test_the_first_job_of_a_line_is_bound_by_both() -> None:
    wanted = settings(warmup_steps=8, schedule="linear", min_rate_fraction=0)
    assert job(8, wanted, begins=0) == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
