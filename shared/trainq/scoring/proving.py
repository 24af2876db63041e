"""A scorer proves itself on the rows that it is to score, before it scores a single answer of a model.

What it must do:

- give every reference the whole score;
- give references of *other* rows, no answer at all, and what only looks right (:meth:`trainq.scoring.Scorer.lure`), no
  more than luck. The references are dealt anew so that no row
  gets its own back, nor, while that is possible, one that says the same (:meth:`trainq.scoring.Scorer.said`). Of two
  answers, yes and no, the more frequent one comes back to some rows nevertheless: those are right, and are left out of
  what is judged. The rest must stay, on the mean, below the scorer's own ``chance``: for the scorers of trainq that is
  0; a ``command`` says it. Because luck has its ups, the bound is not the chance itself but what a binomial of it stays
  under but once in a thousand times; scores between 0 and 1 spread less than that.

So neither a scorer that finds everything wrong nor one that finds everything right comes through, nor rows that cannot
tell the two: all references the same, or so few that luck alone might do it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from trainq.errors import InputError
from trainq.scoring.base import Case, Scorer

_ONCE_IN = 1e-3
# A scorer that is right by luck so often that half of all wrong answers pass tells nothing apart.
MOST_CHANCE = 0.5


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a scorer has shown: of ``n`` rows it gave all references 1, and ``judged`` references of others ``shuffled``
    on the mean, which was to be at most ``bound``."""

    n: int
    judged: int
    shuffled: float
    bound: float
    seed: int


def prove(scorer: Scorer, cases: Sequence[Case], seed: int) -> Proof:
    """Have the scorer prove itself on these rows.

    Args:
        scorer: which.
        cases: all rows of a suite.
        seed: with which the references are dealt.

    Raises:
        InputError: it could not; nothing that it gives may be believed. Or these rows can prove nothing.
    """
    references = [case.reference for case in cases]
    for case, score in zip(cases, scorer.scores(cases, references), strict=True):
        if score.value != 1.0:
            raise InputError(f"the scorer {scorer.name} gives the reference of row {case.row} {score.value:g} in place "
                             "of 1: what it gives answers would mean nothing", field="scorer",
                             mend="correct the row's answer, or the scorer")
    said = [scorer.said(reference) for reference in references]
    if len(set(said)) < 2:
        raise InputError(f"all {len(cases)} references say the same, so that nothing can prove that the scorer "
                         f"{scorer.name} tells right from wrong", field="scorer",
                         mend="add rows with another answer")
    dealt = deal(said, seed)
    other = [at for at, source in enumerate(dealt) if said[source] != said[at]]
    bound = _most_by_luck(scorer.chance, len(other))
    if bound >= 1.0:
        raise InputError(f"with a chance of {scorer.chance:g}, luck alone may find all {len(other)} answers right that "
                         f"are wrong, so that these rows prove nothing of the scorer {scorer.name}", field="scorer",
                         mend="add rows")
    judged = [cases[at] for at in other]
    shuffled = _mean(scorer, judged, [references[dealt[at]] for at in other])
    if shuffled > bound:
        raise InputError(f"the scorer {scorer.name} gives {len(other)} answers that belong to other rows "
                         f"{shuffled:.3g} on the mean, where luck gives at most {bound:.3g}: it does not tell right "
                         "from wrong", field="scorer",
                         mend="correct the scorer, or take out rows that have several right answers")
    blank = _mean(scorer, judged, [""] * len(judged))
    if blank > bound:
        raise InputError(f"the scorer {scorer.name} gives {blank:.3g} on the mean where nothing is answered at all; "
                         f"luck gives at most {bound:.3g}", field="scorer", mend="correct the scorer")
    _tempt(scorer, cases)
    return Proof(n=len(cases), judged=len(judged), shuffled=shuffled, bound=bound, seed=seed)


def deal(said: Sequence[str], seed: int) -> list[int]:
    """For each row the row whose reference it is given: never its own, and as seldom as can be one that says the same.

    The rows are shuffled, those that say the same put side by side, and all moved on by the size of the largest such
    group: so a row comes to another group, unless its own is more than half of all.
    """
    order = list(range(len(said)))
    dice = random.Random(seed)
    dice.shuffle(order)
    sizes = Counter(said)
    groups = {text: rank for rank, text in enumerate(dict.fromkeys(said[row] for row in order))}
    order.sort(key=lambda row: groups[said[row]])
    step = max(sizes.values())
    dealt = [0] * len(said)
    for at, row in enumerate(order):
        dealt[row] = order[(at + step) % len(order)]
    return dealt


def _tempt(scorer: Scorer, cases: Sequence[Case]) -> None:
    lures = [scorer.lure(case) for case in cases]
    tempted = [at for at, lure in enumerate(lures) if lure]
    if not tempted:
        return
    bound = _most_by_luck(scorer.chance, len(tempted))
    taken = _mean(scorer, [cases[at] for at in tempted], [lures[at] for at in tempted])
    if taken > bound:
        raise InputError(f"the scorer {scorer.name} gives {len(tempted)} answers that are wrong and only look right "
                         f"{taken:.3g} on the mean; luck gives at most {bound:.3g}", field="scorer",
                         mend="correct the scorer")


def _mean(scorer: Scorer, cases: Sequence[Case], answers: Sequence[str]) -> float:
    scores = scorer.scores(cases, answers)
    return math.fsum(score.value for score in scores) / len(scores)


def _most_by_luck(chance: float, rows: int) -> float:
    """The share of ``rows`` that a binomial of ``chance`` exceeds once in a thousand times."""
    if chance <= 0:
        return 0.0
    below = 0.0
    for right in range(rows + 1):
        # Logarithms, because the binomial coefficients of thousands of rows are no floats.
        below += math.exp(math.lgamma(rows + 1) - math.lgamma(right + 1) - math.lgamma(rows - right + 1)
                          + right * math.log(chance) + (rows - right) * math.log1p(-chance))
        if below >= 1 - _ONCE_IN:
            return right / rows
    return 1.0
