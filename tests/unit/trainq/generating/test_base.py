"""What generators share: options that are known, provenance, and no row twice."""

import pytest

from trainq.errors import InputError, UsageError
from trainq.generating.arithmetic import Arithmetic
from trainq.generating.base import GenerateRequest, chat, distinct, provenance, refuse_options

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


def test_what_comes_again_is_passed_by_and_keeps_its_index() -> None:
    made = distinct(Arithmetic(), WANTED, lambda index: (str(index // 2), index * 10))
    assert list(made) == [(0, 0), (2, 20), (4, 40)]


def test_who_has_nothing_new_says_how_much_there_is() -> None:
    given = []
    with pytest.raises(InputError, match=r"arithmetic has no more than 2 different rows at level 2, and 3 are asked"):
        given += distinct(Arithmetic(), WANTED, lambda index: (str(index % 2), index))
