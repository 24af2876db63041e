"""Word for word, whatever the white space."""

from __future__ import annotations

from trainq.scoring import Case
from trainq.scoring.exact import Exact


def test_white_space_is_one_space_and_letters_are_what_they_are_unless_told_otherwise() -> None:
    cases = [Case(row=row, prompt=(), reference="In  Paris\n") for row in range(3)]
    answers = ["In Paris", "in paris", "Paris"]
    assert [score.value for score in Exact({}).scores(cases, answers)] == [1.0, 0.0, 0.0]
    assert [score.value for score in Exact({"ignore_case": True}).scores(cases, answers)] == [1.0, 1.0, 0.0]
