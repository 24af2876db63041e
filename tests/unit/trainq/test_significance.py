"""Intervals, the paired test, and how many rows it takes: against published numbers, enumeration and simulation.

The simulations go through the real decision (``trainq.promoting``) with fixed seeds; ``scripts/bench/promotions``
runs the larger ones.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from scripts.bench import populations
from scripts.bench.populations import CREDITS, EXACT, LOSSES, Population
from trainq import significance

LOSS_ROWS = arrays.arrays(np.float64, st.integers(2, 40), elements=st.floats(-50, 50, width=32))


@pytest.mark.parametrize(("right", "n", "low", "high"), [
    # Newcombe 1998, table I, method 3.
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_is_the_published_one(right: int, n: int, low: float, high: float) -> None:
    assert significance.score_interval(right / n, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    mirrored = significance.score_interval(1 - right / n, n)
    assert mirrored == (pytest.approx(1 - high, abs=5e-5), pytest.approx(1 - low, abs=5e-5))


@given(st.floats(0, 1), st.integers(1, 5000), st.sampled_from((0.8, 0.95, 0.99)))
def test_wilson_holds_its_mean_and_stays_a_share(mean: float, n: int, confidence: float) -> None:
    low, high = significance.score_interval(mean, n, confidence)
    assert 0 <= low <= mean <= high <= 1


@pytest.mark.parametrize(("mean", "n"), [(0.5, 0), (1.1, 10), (-0.1, 10), (math.nan, 10)])
def test_what_is_no_share_has_no_interval(mean: float, n: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        significance.score_interval(mean, n)


def test_without_skewness_it_is_student_s_t() -> None:
    # Mean 0, deviation sqrt(2.5), 5 rows: t(4, 0.975) = 2.776.
    interval = significance.mean_interval([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert interval == (pytest.approx(-1.963, abs=1e-3), pytest.approx(1.963, abs=1e-3))
    seen = significance.compare_losses([3.0, 4.0, 5.0, 6.0, 7.0], [2.5, 2.0, 2.5, 3.0, 3.5])
    # Gains 0.5, 2, 2.5, 3, 3.5: mean 2.3, deviation 1.1511, t = 4.468; one-sided p of t(4) is 0.00554, and skewed
    # downwards it claims less than that.
    assert 0.00554 < seen.p_better < 0.03
    assert (seen.n, seen.mean, seen.deviation) == (5, pytest.approx(2.3), pytest.approx(1.1511, abs=1e-4))


@given(LOSS_ROWS, st.floats(0, 3))
@settings(max_examples=30)
def test_interval_and_test_say_the_same(gains: np.ndarray, noise: float) -> None:
    seen = significance.compare_losses(gains, np.zeros_like(gains), noise=noise, confidence=0.98)
    assert seen.low <= seen.mean + 1e-9 * (1 + abs(seen.mean))
    assert seen.mean <= seen.high + 1e-9 * (1 + abs(seen.mean))
    if seen.deviation > 1e-6 and min(abs(seen.low - noise), abs(seen.high + noise)) > 1e-6:
        assert (seen.p_better < 0.01) == (seen.low > noise)
        assert (seen.p_worse < 0.01) == (seen.high < -noise)
    turned = significance.compare_losses(np.zeros_like(gains), gains, noise=noise, confidence=0.98)
    assert (turned.p_worse, turned.p_better) == (pytest.approx(seen.p_better), pytest.approx(seen.p_worse))
    assert (turned.low, turned.high) == (pytest.approx(-seen.high), pytest.approx(-seen.low))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=60), st.floats(0, 0.2))
@settings(max_examples=30)
def test_scores_have_an_interval_with_width_and_more_noise_is_less_sure(pairs: list[tuple[float, float]],
                                                                        noise: float) -> None:
    before, after = zip(*pairs, strict=True)
    seen = significance.compare_scores(before, after)
    assert -1 <= seen.low < seen.high <= 1
    assert significance.compare_scores(before, after, noise=noise).p_better >= seen.p_better - 1e-12
    assert 0 <= seen.p_better <= 1


def test_the_same_answers_on_a_hundred_rows_do_not_prove_that_there_is_no_difference() -> None:
    seen = significance.compare_scores([1.0] * 90 + [0.0] * 10, [1.0] * 90 + [0.0] * 10)
    assert (seen.mean, seen.low, seen.high) == (0.0, pytest.approx(-0.0275, abs=1e-3), pytest.approx(0.0275, abs=1e-3))
    assert seen.p_better == pytest.approx(0.5)


def test_rows_that_all_say_the_same_are_a_sign_test() -> None:
    seen = significance.compare_losses([2.0] * 8, [1.5] * 8)
    assert (seen.p_better, seen.p_worse, seen.low, seen.high) == (0.5 ** 8, 1.0, 0.5, 0.5)
    assert significance.compare_losses([2.0] * 8, [2.0] * 8).p_better == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        significance.compare_losses([1.0, 2.0], [1.0, 2.0, 3.0])
    for bad in ([1.0, math.nan], [1.0, math.inf], [1.0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match=r"finite|two numbers"):
            significance.compare_losses(bad, bad)
    with pytest.raises(ValueError, match="between 0 and 1"):
        significance.compare_scores([0.5, 1.5], [0.5, 0.5])
    for noise in (-0.1, math.nan):
        with pytest.raises(ValueError, match="no noise"):
            significance.compare_losses([1.0, 2.0], [1.0, 2.0], noise=noise)


def test_noise_is_the_largest_difference_between_scorings() -> None:
    assert significance.measured_noise([0.52, 0.50, 0.53]) == pytest.approx(0.03)
    assert significance.measured_noise([0.5, 0.5]) == 0.0
    for means in ([0.5], [], [0.5, math.nan]):
        with pytest.raises(ValueError, match="two finite scorings"):
            significance.measured_noise(means)


def test_with_0_and_1_the_level_is_kept_by_enumeration() -> None:
    # Of m rows that the models answer differently an equal challenger wins b with the binomial distribution: the
    # chance of what the test rejects. The exact test (McNemar's) is at most 0.01 by its making; this one is close.
    def level(n: int, different: int) -> float:
        rejected = 0.0
        # What is rejected with b won is with more, too.
        for won in range(different, -1, -1):
            before = [0.0] * won + [1.0] * (different - won) + [0.0] * (n - different)
            after = [1.0] * won + [0.0] * (different - won) + [0.0] * (n - different)
            if significance.compare_scores(before, after).p_better >= 0.01:
                break
            rejected += float(special.binom(different, won)) / 2 ** different
        return rejected

    for n, different, most in ((100, 6, 0.0), (100, 8, 0.004), (100, 30, 0.0125), (1000, 20, 0.0125),
                               (300, 80, 0.0125)):
        assert level(n, different) <= most


def test_a_few_large_losses_are_not_taken_for_a_gain() -> None:
    # Wins a little on most rows, loses a nat on three of 100, equal on average: t alone is wrong in 5 of 100.
    false = populations.promoted(populations.LOPSIDED, seed=7, challengers=400, rows=500, gain=0.0)
    assert false <= 12


def test_the_limit_of_a_deviation_is_above_the_true_one_mostly() -> None:
    random, zeros = np.random.default_rng(3), np.zeros(300)
    for gains, true, least in ((random.normal(size=(200, 300)), 1.0, 185),
                               (random.standard_t(5, (200, 300)), math.sqrt(5 / 3), 165)):
        assert sum(significance.compare_losses(row, zeros).deviation_high > true for row in gains) >= least


def test_the_plan_is_that_of_the_paired_t_test() -> None:
    # Without a margin to speak of and with many rows: ((2.326 + 0.842) * 1 / 0.1) ** 2 = 1003.6.
    assert significance.power(1004, deviation=1.0, effect=0.1, margin=0.0) == pytest.approx(0.80, abs=0.003)
    # At twice the margin half of the effect is to be seen at least; that is the smaller of the two hurdles then.
    needed = significance.rows_needed(deviation=1.0, margin=0.05, wanted=0.80)
    assert needed == pytest.approx(1004, abs=5)
    assert significance.rows_needed(deviation=1.0, margin=0.05) > needed
    # A noise as large as the margin is a test against the margin: four times the rows.
    assert significance.rows_needed(deviation=1.0, margin=0.05, noise=0.05, wanted=0.80) == pytest.approx(4015, abs=8)
    # Two rows more for scores.
    assert needed < significance.rows_needed(deviation=1.0, margin=0.05, wanted=0.80, bounded=True) < needed + 60
    assert significance.rows_needed(deviation=0.0, margin=0.05) == 2


@given(st.floats(0.01, 2), st.floats(0.01, 1), st.floats(0, 1), st.booleans())
@settings(max_examples=40)
def test_the_plan_is_the_smallest_one_that_holds(deviation: float, margin: float, noise: float, bounded: bool) -> None:
    n = significance.rows_needed(deviation=deviation, margin=margin, noise=noise, bounded=bounded)

    def chance(rows: int) -> float:
        real = max(margin, noise)
        return significance.power(rows, deviation=deviation, effect=2 * real, margin=real, noise=noise, bounded=bounded)

    assert chance(n) >= significance.PLANNED_POWER
    assert n == 2 or chance(n - 1) < significance.PLANNED_POWER


@pytest.mark.parametrize(("deviation", "margin"), [(1.0, 0.0), (math.nan, 0.1), (math.inf, 0.1), (1.0, math.nan)])
def test_nothing_is_planned_without_a_margin(deviation: float, margin: float) -> None:
    with pytest.raises(ValueError, match="plan nothing"):
        significance.rows_needed(deviation=deviation, margin=margin)


def test_a_comparison_says_how_many_rows_it_takes() -> None:
    random = np.random.default_rng(1)
    before = random.normal(2.0, 0.5, 200)
    seen = significance.compare_losses(before, before + random.normal(0.0, 0.1, 200), margin=0.01, alpha=0.005)
    assert seen.rows_needed == significance.rows_needed(deviation=seen.deviation_high, margin=0.01, alpha=0.005)
    assert significance.compare_losses(before, before).rows_needed == 0


@pytest.mark.parametrize("population", [LOSSES, EXACT, CREDITS], ids=lambda population: population.name)
def test_of_400_equal_challengers_12_are_promoted_at_most_and_of_those_twice_the_margin_better_320(
        population: Population) -> None:
    rows = population.rows_needed(1, 1000)
    assert populations.promoted(population, seed=2, challengers=400, rows=rows, gain=0.0) <= 12
    assert populations.promoted(population, seed=3, challengers=400, rows=rows, gain=2 * population.margin) >= 320


def test_a_noise_that_moves_all_rows_is_not_promoted() -> None:
    noise = LOSSES.margin / 2
    assert populations.promoted(LOSSES, seed=4, challengers=400, rows=400, gain=0.0, noise=noise, shifted=noise) <= 12


def test_of_50_equal_challengers_in_a_row_hardly_one_is_promoted() -> None:
    moves = [populations.moves_in_a_row(EXACT, seed=seed, challengers=50, rows=200) for seed in range(5)]
    assert sum(moves) <= 5
