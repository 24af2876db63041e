"""How sure a number is: intervals, the paired test of two models, and how many rows it takes.

Rows are what varies: a suite's score is the plain mean over its rows, each row counting once, and so is what is tested.
Of losses that is the mean of the rows' losses (nats a trained token), not weighted by their tokens: rows are what was
drawn, a suite with a few long ones would else be decided by these alone (the effective number of rows,
``sum(t)^2 / sum(t^2)``, can be a tenth of n), and the number that is shown would not be the number that is tested.

One method for means and for paired differences: Student's t, and t corrected for skewness by Hall's cubic
transformation [1], of the two always the one that claims less. Losses have heavy tails, and a challenger may win a
little on most rows and lose much on a few: there t alone is wrong five times as often as it says (n = 100, lognormal);
and the correction alone is wrong twice as often where the tails are heavy but even. Bounded scores get two rows more,
one won and one lost, before anything is computed, as Bonett and Price do with paired proportions [2]: without them no
difference at all on 100 rows would have an interval without width. What levels are left is enumerated and simulated in
the tests. Resampling (BCa) would be of the same order of accuracy, and need a seed and thousands of passes: nothing
here is random, the same rows have the same numbers for ever.

Pure but for the time that scipy takes to be imported; no control process imports this.

[1] P. Hall, "On the removal of skewness by transformation", J. R. Statist. Soc. B 54 (1992) 221-228.
[2] D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", J. Educ. Behav. Statist. 37 (2012) 479-488.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from trainq.promoting import Difference

# What the numbers of a journal were made by: another method gets another name.
METHOD = "paired, Student's t and Hall's transformation, the weaker claim"
METHOD_OF_SCORES = f"{METHOD}; with one row won and one lost"

# So sure is a deviation that is planned with not smaller than the true one.
DEVIATION_CONFIDENCE = 0.95
# The chance that is planned with; promised is 0.80. That the gain that is seen is taken as normal, and that the weaker
# of two claims counts, costs some hundredths.
PLANNED_POWER = 0.85
# No plan says more rows than this: nobody has them.
MOST_ROWS = 10 ** 9

Numbers = NDArray[np.float64]


class Interval(NamedTuple):
    """Two-sided: the share of ``1 - confidence`` outside is split evenly."""

    low: float
    high: float


class _Sample(NamedTuple):
    """Of ``n`` numbers: their mean, standard deviation (n - 1) and skewness (moments)."""

    n: int
    mean: float
    deviation: float
    skewness: float


def score_interval(mean: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a mean of ``n`` scores between 0 and 1.

    For scores of 0 and 1 it is that of a proportion. For partial credit it is too wide rather than too narrow: no
    numbers between 0 and 1 with this mean vary more than those two do (their variance is at most ``m (1 - m)``; Bhatia
    and Davis, Amer. Math. Monthly 107 (2000) 353-357). E. B. Wilson, J. Am. Statist. Assoc. 22 (1927) 209-212; R. G.
    Newcombe, Statist. Med. 17 (1998) 857-872, whose examples are in the tests, finds it better than the usual ones.

    Raises:
        ValueError: no row, or a mean that is no share.
    """
    if n < 1 or not 0.0 <= mean <= 1.0:
        raise ValueError(f"a mean of {mean} over {n} rows is no share")
    z = float(special.ndtri((1 + confidence) / 2))
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    # At both ends of what a share can be, the last digit would be beyond them.
    return Interval(min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The interval of a mean of unbounded numbers, the losses of a suite's rows (n), by the module's method.

    Raises:
        ValueError: fewer than two, or one is no finite number.
    """
    return _interval(_sample(_finite(values)), confidence)


def measured_noise(means: Sequence[float]) -> float:
    """The largest difference between repeated scorings of the same model on the same suite (their means).

    What a test over rows cannot see: another batch, another kernel, another seed moves all rows at once.

    Raises:
        ValueError: fewer than two scorings, or one is no finite number.
    """
    if len(means) < 2 or not all(map(math.isfinite, means)):
        raise ValueError(f"noise takes two finite scorings at least, not {list(means)}")
    return max(means) - min(means)


def compare_losses(champion: ArrayLike, challenger: ArrayLike, *, noise: float = 0.0, margin: float = 0.0,
                   alpha: float = 0.01, confidence: float = 0.95) -> Difference:
    """The challenger's gain in loss, row by row (nats a trained token; shapes (n,), the same rows in the same order).

    See :func:`_compare`.
    """
    before, after = _pair(champion, challenger)
    return _compare(before - after, noise=noise, margin=margin, alpha=alpha, confidence=confidence, bounded=False)


def compare_scores(champion: ArrayLike, challenger: ArrayLike, *, noise: float = 0.0, margin: float = 0.0,
                   alpha: float = 0.01, confidence: float = 0.95) -> Difference:
    """The challenger's gain in scores between 0 and 1, row by row: 0 and 1, or partial credit (shapes (n,)).

    See :func:`_compare`.

    Raises:
        ValueError: as there, or a score is not between 0 and 1.
    """
    before, after = _pair(champion, challenger)
    if min(before.min(), after.min()) < 0.0 or max(before.max(), after.max()) > 1.0:
        raise ValueError("scores lie between 0 and 1")
    return _compare(after - before, noise=noise, margin=margin, alpha=alpha, confidence=confidence, bounded=True)


def power(n: int, *, deviation: float, effect: float, margin: float, noise: float = 0.0, alpha: float = 0.01,
          bounded: bool = False) -> float:
    """The chance that a challenger that is better by ``effect`` passes both criteria on ``n`` rows.

    Both are one: the gain that is seen must reach the margin, and the noise plus ``t`` standard errors. How it is
    distributed is taken as normal around the effect. The sample size of the paired t test, with the second criterion
    (S. Roychoudhury et al., "Beyond p-values: a phase II dual-criterion design", Clin. Trials 15 (2018) 452-461).

    Args:
        n: rows, two at least.
        deviation: of the rows' gains, in the suite's unit.
        effect: the true gain, in the suite's unit.
        margin: what must be seen at least.
        noise: what is not taken for a gain.
        alpha: of this suite; with several deciding ones, divide by how many they are (the worst that Holm takes).
        bounded: scores, which are tested with two rows more.
    """
    extra = 2 if bounded else 0
    spread = math.sqrt((n * deviation ** 2 + extra) / (n + extra))
    quantile = float(special.stdtrit(n + extra - 1, 1 - alpha))
    significant = (noise + quantile * spread / math.sqrt(n + extra)) * (n + extra) / n
    short = max(margin, significant) - effect
    if deviation == 0.0:
        return 1.0 if short <= 0.0 else 0.0
    return float(special.ndtr(-short * math.sqrt(n) / deviation))


def rows_needed(*, deviation: float, margin: float, noise: float = 0.0, alpha: float = 0.01,
                wanted: float = PLANNED_POWER, bounded: bool = False) -> int:
    """On how many rows a challenger that is better by twice the margin is promoted with a chance of 0.80 at least.

    Args:
        deviation: of the rows' gains: ``deviation_high`` of an earlier :class:`Difference`. With its ``deviation`` half
            of all plans would be too small; R. H. Browne, Statist. Med. 14 (1995) 1933-1940.
        margin: above 0; that of the rule. What counts is the larger one of it and the noise.
        noise: as measured.
        alpha: as in :func:`power`.
        wanted: what :func:`power` must come to.
        bounded: scores.

    Returns:
        :data:`MOST_ROWS` where it takes as many or more.

    Raises:
        ValueError: there is no margin, or the deviation is no finite number.
    """
    margin = max(margin, noise)
    if not margin > 0.0 or not math.isfinite(deviation):
        raise ValueError(f"a margin of {margin} and a deviation of {deviation} plan nothing")

    def is_enough(n: int) -> bool:
        return power(n, deviation=deviation, effect=2 * margin, margin=margin, noise=noise, alpha=alpha,
                     bounded=bounded) >= wanted

    high = 2
    while not is_enough(high):
        high *= 2
        if high > MOST_ROWS:
            return MOST_ROWS
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _compare(gains: Numbers, *, noise: float, margin: float, alpha: float, confidence: float,
             bounded: bool) -> Difference:
    """Both one-sided tests and the two-sided interval of the mean gain (n,).

    What is tested is that the gain (or the fall) is no larger than the noise, not that it is no larger than the margin:
    chance and noise are what a p value must exclude, and whether a gain is worth it is a question of its size. A test
    against the margin would take four times the rows to find a challenger at twice of it. Margin and alpha are here
    only to say how many rows that takes.

    Raises:
        ValueError: fewer than two rows, not as many of both, or one that is no finite number; a negative noise.
    """
    if not noise >= 0.0:
        raise ValueError(f"{noise} is no noise")
    tested = _sample(np.append(gains, (1.0, -1.0)) if bounded else gains)
    deviation, high = float(gains.std(ddof=1)), _deviation_high(gains)
    interval = _interval(tested, confidence)
    if bounded:
        interval = Interval(max(-1.0, interval.low), min(1.0, interval.high))
    needed = 0
    if max(margin, noise) > 0.0 and deviation > 0.0:
        needed = rows_needed(deviation=high, margin=margin, noise=noise, alpha=alpha, bounded=bounded)
    fallen = tested._replace(mean=-tested.mean, skewness=-tested.skewness)
    return Difference(n=len(gains), mean=float(gains.mean()), deviation=deviation, deviation_high=high,
                      low=interval.low, high=interval.high, confidence=confidence, noise=noise,
                      p_better=_above(tested, noise), p_worse=_above(fallen, noise),
                      method=METHOD_OF_SCORES if bounded else METHOD, rows_needed=needed)


def _deviation_high(gains: Numbers) -> float:
    """The upper limit of their standard deviation at 95 %, one-sided; of fewer than ten rows the estimate.

    The limit by chi-square believes in normal tails, and is far too small for losses. Where the tails are those of t
    with five degrees of freedom, this one is above the true deviation in 87 of 100 cases (300 rows). D. G. Bonett,
    "Approximate confidence interval for standard deviation of nonnormal distributions", Comput. Statist. Data Anal. 50
    (2006) 775-782.
    """
    n, deviation = len(gains), float(gains.std(ddof=1))
    z = float(special.ndtri(DEVIATION_CONFIDENCE))
    if n < 10 or deviation == 0.0:
        return deviation
    ordered = np.sort(gains)
    cut = int(n / (2 * math.sqrt(n - 4)))
    middle = ordered[cut:n - cut].mean()
    kurtosis = float(n * ((gains - middle) ** 4).sum() / ((gains - gains.mean()) ** 2).sum() ** 2)
    small = n / (n - z)
    error = small * math.sqrt(max(0.0, kurtosis - (n - 3) / n) / (n - 1))
    return deviation * math.sqrt(small * math.exp(z * error))


def _above(sample: _Sample, floor: float) -> float:
    """The p value of "the mean is no larger than ``floor``"."""
    if sample.deviation == 0.0:
        # Each row says the same: the sign test.
        return 0.5 ** sample.n if sample.mean > floor else 1.0
    raw = (sample.mean - floor) / sample.deviation
    weaker = math.sqrt(sample.n) * min(raw, _without_skewness(raw, sample))
    return float(special.stdtr(sample.n - 1, -weaker))


def _without_skewness(raw: float, sample: _Sample) -> float:
    """Hall's cubic of a studentised mean, ``raw = (mean - mu) / deviation``; it increases with it."""
    skewness = sample.skewness
    return raw + skewness * raw ** 2 / 3 + skewness ** 2 * raw ** 3 / 27 + skewness / (6 * sample.n)


def _interval(sample: _Sample, confidence: float) -> Interval:
    """All means that neither test refuses at ``(1 - confidence) / 2``."""
    reach = float(special.stdtrit(sample.n - 1, (1 + confidence) / 2)) / math.sqrt(sample.n)
    most, least = (max(reach, _with_skewness(reach, sample)), min(-reach, _with_skewness(-reach, sample)))
    return Interval(sample.mean - most * sample.deviation, sample.mean - least * sample.deviation)


def _with_skewness(wanted: float, sample: _Sample) -> float:
    """The inverse of :func:`_without_skewness`."""
    skewness = sample.skewness
    inner = wanted - skewness / (6 * sample.n)
    # The root loses all its digits where there is hardly any skewness, and then the cubic is the identity.
    return inner if abs(skewness) < 1e-6 else 3 / skewness * (float(np.cbrt(1 + skewness * inner)) - 1)


def _sample(values: Numbers) -> _Sample:
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    # What is left of rounding where all are alike is no deviation.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        return _Sample(len(values), mean, 0.0, 0.0)
    skewness = float(((values - mean) ** 3).mean() / values.std() ** 3)
    return _Sample(len(values), mean, deviation, skewness)


def _pair(champion: ArrayLike, challenger: ArrayLike) -> tuple[Numbers, Numbers]:
    before, after = _finite(champion), _finite(challenger)
    if before.shape != after.shape:
        raise ValueError(f"{len(before)} rows cannot be paired with {len(after)}")
    return before, after


def _finite(values: ArrayLike) -> Numbers:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"it takes a row of two numbers at least, not the shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a number is not finite")
    return array
