"""SYLLO answers are checked against the puzzle that was asked."""

from __future__ import annotations

import json

import msgspec

from trainq import scoring
from trainq.samples import Message
from trainq.scoring import Case
from trainq.scoring.puzzles import Syllo, puzzle_of
from trainq.syllo import checking, puzzles, texts


def test_only_a_solved_puzzle_counts_and_half_a_one_has_credit_beside_it() -> None:
    made = [puzzles.make(1, 7, index) for index in range(2)]
    cases = [Case(row=row, prompt=(Message("user", "hello"), Message("assistant", "hello"),
                                   Message("user", texts.question(puzzle))), reference=texts.answer(puzzle))
             for row, puzzle in enumerate(made)]
    own, other = cases[0].reference, cases[1].reference
    half = json.loads(own)
    half["solutions"][0]["answer"] = "SOMETHING"
    right, wrong, partly, nothing = Syllo({}).scores([cases[0]] * 4, [own, other, json.dumps(half), ""])
    assert (right.value, right.credit) == (1.0, 1.0)
    assert (wrong.value, nothing.value, nothing.credit) == (0.0, 0.0, 0.0)
    assert partly.value == 0.0
    assert partly.credit is not None
    assert 0 < partly.credit < 1


def an_older_case(row: int = 0) -> Case:
    """Of a puzzle of before this project: no clue of it is in the list."""
    made = puzzles.make(1, 7, row)
    words = [msgspec.structs.replace(word, clue=f"a clue of its own, {word.clue}") for word in made.words]
    made = msgspec.structs.replace(made, words=tuple(words))
    return Case(row=row, prompt=(Message("user", texts.question(made)),), reference=texts.answer(made))


def test_legal_tiles_and_wrong_words_are_no_answer_where_the_list_does_not_know_the_clues() -> None:
    scorer, case = Syllo({}), an_older_case()
    lure = scorer.lure(case)
    # All that the question alone tells of it is right.
    assert checking.check(puzzle_of(case.prompt), lure).exact
    assert [score.value for score in scorer.scores([case, case], [case.reference, lure])] == [1.0, 0.0]
    assert scoring.prove(scorer, [case, an_older_case(1)], seed=0).n == 2


def test_the_puzzle_is_what_the_user_said_last() -> None:
    assert puzzle_of([Message("user", "a"), Message("assistant", "b"), Message("user", "c")]) == "c"
    assert puzzle_of([Message("system", "a")]) == ""
