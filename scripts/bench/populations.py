"""Challengers whose true gain is known, and what becomes of them by the decision that a home makes.

A suite's rows differ in difficulty, and both models meet the same ones: their results on a row are alike, which is what
a paired test lives by. What is left between two equal models is drawn for each row and model by itself.

* ``losses``: lognormal over the rows (mean 1.5 nats, the hardest a hundred times the easiest), times a factor of the
  model's own whose logarithm has the tails of t with four degrees of freedom, and one row in 200 is unlearned, by
  one nat on average.
* ``exact``: answered or not, with a chance of the row's own (mean 0.55).
* ``credits``: answered, as there, else a part of the credit.
* ``lopsided``: losses, equal on average, but the challenger wins a little on 97 rows of 100, and loses much on three.

All arrays of results are (challengers, rows) or, of one pair, (rows,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainq import promoting, significance
from trainq.promoting import Candidate, Comparison, Difference, Mode, Rules, Score, SuiteRule, Verdict

Numbers = NDArray[np.float64]

MEAN_LOSS, MEAN_CHANCE = 1.5, 0.55
# A row that is not answered has between nothing and all but one tile of eight.
_PARTS = np.arange(8) / 8


class Population(NamedTuple):
    """How such models are drawn and compared, and the margin in the suite's unit.

    ``difficulties(random, shape)`` is how difficult rows are; ``model(random, difficulty, gain)`` what a model has on
    them that is better by so much, on average over all rows that there could be; without a gain it is the champion.
    """

    name: str
    difficulties: Callable[[np.random.Generator, tuple[int, int]], Numbers]
    model: Callable[[np.random.Generator, Numbers, float | None], Numbers]
    is_loss: bool
    margin: float

    def pairs(self, random: np.random.Generator, challengers: int, rows: int, gain: float) -> tuple[Numbers, Numbers]:
        """Of pairs of models, each on rows of its own, what champion and challenger have."""
        difficulty = self.difficulties(random, (challengers, rows))
        return self.model(random, difficulty, None), self.model(random, difficulty, gain)

    def compare(self, champion: Numbers, challenger: Numbers, noise: float = 0.0) -> Difference:
        """By the test that the suite's kind has."""
        compare = significance.compare_losses if self.is_loss else significance.compare_scores
        return compare(champion, challenger, noise=noise)

    def rows_needed(self, seed: int, pilot_rows: int, *, noise: float = 0.0) -> int:
        """As an operator would plan: from one comparison on so many rows; never fewer than what is compared at all."""
        champion, challenger = self.pairs(np.random.default_rng(seed), 1, pilot_rows, 0.0)
        seen = self.compare(champion[0], challenger[0])
        needed = significance.rows_needed(deviation=seen.deviation_high, margin=self.margin, noise=noise,
                                          bounded=not self.is_loss)
        return max(needed, Rules(suites=()).least_rows)


def _difficulties(random: np.random.Generator, shape: tuple[int, int]) -> Numbers:
    return random.lognormal(np.log(MEAN_LOSS) - 0.7 ** 2 / 2, 0.7, shape)


def _losses(random: np.random.Generator, difficulty: Numbers, gain: float | None) -> Numbers:
    factor = np.exp(0.05 * np.clip(random.standard_t(4, difficulty.shape), -10, 10))
    unlearned = (random.random(difficulty.shape) < 1 / 200) * random.exponential(1.0, difficulty.shape)
    # What is learned is learned in proportion to the loss.
    return difficulty * (factor - (gain or 0.0) / MEAN_LOSS) + unlearned


def _chances(random: np.random.Generator, shape: tuple[int, int]) -> Numbers:
    return random.beta(2.2, 1.8, shape)


def _exact(random: np.random.Generator, difficulty: Numbers, gain: float | None) -> Numbers:
    better = difficulty + (gain or 0.0) * (1 - difficulty) / (1 - MEAN_CHANCE)
    return (random.random(difficulty.shape) < better).astype(np.float64)


def _credits(random: np.random.Generator, difficulty: Numbers, gain: float | None) -> Numbers:
    # An answer is worth what it has more than the part that it would have had else.
    exact = _exact(random, difficulty, (gain or 0.0) / (1 - float(_PARTS.mean())))
    return np.maximum(exact, random.choice(_PARTS, difficulty.shape))


def _lopsided(random: np.random.Generator, difficulty: Numbers, gain: float | None) -> Numbers:
    if gain is None:
        return difficulty
    lost = (random.random(difficulty.shape) < 0.03) * random.exponential(1.0, difficulty.shape)
    return difficulty - random.exponential(0.03, difficulty.shape) + lost - gain


LOSSES = Population("losses", _difficulties, _losses, is_loss=True, margin=0.02)
EXACT = Population("exact", _chances, _exact, is_loss=False, margin=0.05)
CREDITS = Population("credits", _chances, _credits, is_loss=False, margin=0.03)
LOPSIDED = Population("lopsided", _difficulties, _lopsided, is_loss=True, margin=0.02)


def decided(population: Population, champion: Numbers, challenger: Numbers, *, noise: float = 0.0,
            shifted: float = 0.0) -> Verdict:
    """What a home with this one deciding suite decides. ``shifted``: so much of the gain is the scoring's own."""
    one = comparison(population, "suite", champion, challenger, noise=noise, shifted=shifted)
    return judged([one], [SuiteRule(suite="suite", deciding=True, margin=population.margin)])


def judged(comparisons: list[Comparison], rules: list[SuiteRule]) -> Verdict:
    """The real decision, in the mode that asks nobody."""
    return promoting.decide(Candidate(checkpoint="challenger", weights_digest="b"),
                            Candidate(checkpoint="champion", weights_digest="a"), comparisons,
                            Rules(suites=tuple(rules), mode=Mode.AUTO))


def comparison(population: Population, suite: str, champion: Numbers, challenger: Numbers, *, noise: float = 0.0,
               shifted: float = 0.0) -> Comparison:
    """As the evaluation makes it."""
    if shifted:
        challenger = challenger + (-shifted if population.is_loss else shifted)
    seen = population.compare(champion, challenger, noise)
    return Comparison(suite=suite, kind="loss" if population.is_loss else "score",
                      champion=_score(population, champion), challenger=_score(population, challenger),
                      difference=seen)


def _score(population: Population, values: Numbers) -> Score:
    mean = float(values.mean())
    low, high = (significance.mean_interval(values) if population.is_loss
                 else significance.score_interval(mean, len(values)))
    return Score(evaluation_key="key", suite_digest="suite", rows_digest="rows", n=len(values), mean=mean, low=low,
                 high=high, confidence=0.95)


def promoted(population: Population, *, seed: int, challengers: int, rows: int, gain: float, noise: float = 0.0,
             shifted: float = 0.0, batch: int = 400) -> int:
    """How many of so many challengers with this true gain are promoted, each on rows of its own."""
    random, count = np.random.default_rng(seed), 0
    for start in range(0, challengers, batch):
        pairs = population.pairs(random, min(batch, challengers - start), rows, gain)
        count += sum(decided(population, *pair, noise=noise, shifted=shifted).action is promoting.Action.PROMOTE
                     for pair in zip(*pairs, strict=True))
    return count


def moves_in_a_row(population: Population, *, seed: int, challengers: int, rows: int) -> int:
    """How often the champion moves when so many equal challengers come one after the other, on the same fixed rows.

    Whoever is promoted is the one that the next ones meet.
    """
    random, moves = np.random.default_rng(seed), 0
    difficulty = population.difficulties(random, (1, rows))
    champion = population.model(random, difficulty, 0.0)[0]
    for _ in range(challengers):
        challenger = population.model(random, difficulty, 0.0)[0]
        if decided(population, champion, challenger).action is promoting.Action.PROMOTE:
            champion, moves = challenger, moves + 1
    return moves
