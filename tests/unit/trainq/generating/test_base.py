"""What generators share: options that are known, provenance, and no row twice."""

import pytest

from trainq.errors import InputError, UsageError
from trainq.generating.arithmetic import Arithmetic
from trainq.generating.base import FIRST_FIXED_SEED, GenerateRequest, chat, distinct, provenance, refuse_options

WANTED = GenerateRequest(count=3, level=2, seed=7)


def test_provenance_says_how_a_row_is_made_again() -> None:
    assert provenance(Arithmetic(), WANTED, 4, "sums") == {
        "dataset": "sums", "generator": "arithmetic", "generator_version": "1", "level": 2, "seed": 7,
        "sample_index": 4}


def test_a_chat_is_a_question_and_its_answer() -> None:
    assert chat("a?", "b") == [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]


def test_an_option_that_nobody_knows_is_refused() -> None:
    refuse_options(Arithmetic(), GenerateRequest(count=1, level=1, seed=1, options={"pace": 1}), ("pace",))
    with pytest.raises(UsageError, match=r"no option 'pcae' \(known are: pace\)"):
        refuse_options(Arithmetic(), GenerateRequest(count=1, level=1, seed=1, options={"pcae": 1}), ("pace",))
    with pytest.raises(UsageError, match=r"it has none: leave it out"):
        refuse_options(Arithmetic(), GenerateRequest(count=1, level=1, seed=1, options={"pace": 1}))


def test_what_comes_again_is_passed_by_and_the_rest_keeps_its_index() -> None:
    made = list(distinct(Arithmetic(), WANTED, lambda index: (f"{index // 2}", index * 10)))
    assert len({index // 2 for index, _ in made}) == len(made) == 3
    assert all(index % 2 == 0 and thing == index * 10 for index, thing in made)


def test_what_is_measured_with_is_never_trained() -> None:
    """However few there are: a quarter is for the fixed seeds, and the rest for the others."""
    def everything(seed: int) -> set[str]:
        given = set()
        with pytest.raises(InputError):
            given.update(key for _, key in distinct(
                Arithmetic(), GenerateRequest(count=2000, level=1, seed=seed), lambda at: (f"{at % 1000}",) * 2))
        return given

    trained, fixed = everything(FIRST_FIXED_SEED - 1), everything(FIRST_FIXED_SEED)
    assert trained | fixed == {str(number) for number in range(1000)}
    assert not trained & fixed
    assert 200 < len(fixed) < 300
    assert everything(0) == trained


def test_who_has_nothing_new_says_how_much_there_is() -> None:
    given = []
    with pytest.raises(InputError, match=r"arithmetic has no more than 2 different rows at level 2, and 3 are asked"):
        given += distinct(Arithmetic(), WANTED, lambda index: (("c", "d")[index % 2], index))
    assert given == [(0, 0), (1, 1)]
