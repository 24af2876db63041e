"""Whatever is set, a rate is above 0 and at most the learning rate; a job rises, stays, and falls."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trainq.config import TrainSettings
from trainq.ml import schedules
from trainq.ml.schedules import Moment

FRACTIONS = st.floats(0, 1)
SETTINGS = st.builds(
    TrainSettings, learning_rate=st.floats(1e-12, 1), schedule=st.sampled_from(("constant", "cosine", "linear", "wsd")),
    warmup_steps=st.integers(0, 1_000_000), rewarm_steps=st.integers(0, 1_000_000), min_rate_fraction=FRACTIONS,
    decay_fraction=FRACTIONS)
# A rounding of the last place is no rise.
ULP = 1 + 1e-12


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    steps = draw(st.integers(1, 10**9))
    at = draw(st.integers(0, steps - 1))
    since = draw(st.integers(0, 10**9))
    return Moment(step=since + at + draw(st.integers(0, 10**9)), job_step=at, steps_planned=steps,
                  optimizer_since=since)


@given(SETTINGS, moments())
def test_it_is_above_nothing_and_within_the_learning_rate(settings: TrainSettings, moment: Moment) -> None:
    rate = schedules.learning_rate(settings, moment)
    assert 0 < rate <= settings.learning_rate
    assert rate == schedules.learning_rate(settings, moment)


@given(SETTINGS, st.integers(1, 300), st.integers(0, 500))
def test_a_job_rises_and_then_falls(settings: TrainSettings, steps: int, begins: int) -> None:
    rates = [schedules.learning_rate(settings, Moment(step=begins + at, job_step=at, steps_planned=steps))
             for at in range(steps)]
    top = rates.index(max(rates))
    assert all(after >= before / ULP for before, after in itertools.pairwise(rates[:top + 1]))
    assert all(after <= before * ULP for before, after in itertools.pairwise(rates[top:]))


@given(SETTINGS, st.integers(1, 10**6))
def test_a_warm_line_reaches_the_rate_in_each_job(settings: TrainSettings, steps: int) -> None:
    """Unless its decay begins before it has."""
    at = min(settings.rewarm_steps, steps // 2)
    moment = Moment(step=10**9, job_step=at, steps_planned=steps)
    if settings.schedule != "wsd" or round(settings.decay_fraction * steps) < steps - at:
        assert schedules.learning_rate(settings, moment) == settings.learning_rate
