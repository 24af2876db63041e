"""A scorer that cannot tell right from wrong is refused, and so are rows that cannot show it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.errors import InputError
from trainq.scoring import Case, Score, prove
from trainq.scoring.exact import Exact
from trainq.scoring.final_number import FinalNumber
from trainq.scoring.proving import deal


def cases(*references: str) -> list[Case]:
    return [Case(row=row, prompt=(), reference=reference) for row, reference in enumerate(references)]


class Fixed(Exact):
    """Gives wrong answers ``wrong``, and right ones ``right``."""

    def __init__(self, right: float, wrong: float, chance: float = 0.0, blank: float | None = None) -> None:
        super().__init__({})
        self._right, self._wrong, self._blank = right, wrong, wrong if blank is None else blank
        self.chance = chance

    def scores(self, asked: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        return [Score(self._right if score.value else self._wrong if answer else self._blank)
                for score, answer in zip(super().scores(asked, answers), answers, strict=True)]


def test_a_scorer_that_tells_right_from_wrong_proves_it() -> None:
    proof = prove(FinalNumber({}), cases("#### 1", "so 2", "3", "4.0"), seed=3)
    assert (proof.n, proof.judged, proof.shuffled, proof.bound, proof.seed) == (4, 4, 0.0, 0.0, 3)


@pytest.mark.parametrize(("scorer", "words"), [
    (Fixed(0.0, 0.0), "gives the reference of row 0 0 in place of 1"),
    (Fixed(0.99, 0.0), "the reference of row 0 0.99"),
    (Fixed(1.0, 1.0), "does not tell right from wrong"),
    (Fixed(1.0, 0.1), "on the mean, where luck gives at most 0:"),
    (Fixed(1.0, 0.0, blank=1.0), "where nothing is answered at all"),
    (Fixed(1.0, 0.6, chance=0.3), "luck gives at most 0.5"),
])
def test_one_that_does_not_is_refused(scorer: Fixed, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prove(scorer, cases(*map(str, range(50))), seed=0)


def test_a_reference_without_what_the_scorer_looks_for_is_named() -> None:
    with pytest.raises(InputError, match="the reference of row 1 0 in place of 1"):
        prove(FinalNumber({}), cases("1", "none", "3"), seed=0)


def test_luck_that_is_admitted_has_its_ups() -> None:
    proof = prove(Fixed(1.0, 0.45, chance=0.3), cases(*map(str, range(50))), seed=0)
    # scipy.stats.binom.ppf(0.999, 50, 0.3) is 25.
    assert (proof.shuffled, proof.bound) == (pytest.approx(0.45), 0.5)


def test_rows_so_few_that_luck_might_do_it_prove_nothing() -> None:
    with pytest.raises(InputError, match="luck alone may find all 2 answers right"):
        prove(Fixed(1.0, 0.0, chance=0.25), cases("yes", "no"), seed=0)
    assert prove(Fixed(1.0, 0.0, chance=0.25), cases(*map(str, range(9))), seed=0).bound < 1.0


def test_rows_that_all_say_the_same_prove_nothing() -> None:
    for references in (("5",), ("5", "5.0", "#### 5")):
        with pytest.raises(InputError, match="say the same"):
            prove(FinalNumber({}), cases(*references), seed=0)


def test_of_yes_and_no_those_count_that_got_the_other() -> None:
    proof = prove(Exact({}), cases(*["yes"] * 8, *["no"] * 2), seed=1)
    assert (proof.judged, proof.shuffled) == (4, 0.0)


def test_one_that_takes_what_only_looks_right_is_refused() -> None:
    class Tempted(Exact):
        def lure(self, case: Case) -> str:
            return f"{case.reference}!" if case.row else ""

        def said(self, reference: str) -> str:
            return reference.rstrip("!")

    with pytest.raises(InputError, match="gives 3 answers that are wrong and only look right 1 on the mean"):
        prove(Tempted({}), cases("a", "b", "c", "d"), seed=0)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.integers(0, 5))
def test_nobody_is_dealt_their_own_and_the_same_only_where_it_cannot_be_helped(said: list[str], seed: int) -> None:
    dealt = deal(said, seed)
    assert sorted(dealt) == list(range(len(said)))
    most = max(said.count(text) for text in said)
    if most < len(said):
        assert all(source != row for row, source in enumerate(dealt))
    assert sum(said[source] == said[row] for row, source in enumerate(dealt)) == max(0, 2 * most - len(said))
    assert dealt == deal(said, seed)
