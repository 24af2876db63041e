"""The generator of sums: each answer is right, each step too, and the levels get harder."""

import re
from fractions import Fraction
from typing import Any

import pytest
from blake3 import blake3

from trainq.errors import InputError
from trainq.generating import producing
from trainq.generating.arithmetic import LEVELS, Arithmetic, is_worked_out
from trainq.generating.base import FIRST_FIXED_SEED, GenerateRequest


def rows(count: int, level: int, seed: int = 3) -> list[dict[str, Any]]:
    return list(Arithmetic().rows(GenerateRequest(count=count, level=level, seed=seed)))


def computed(expression: str) -> Fraction:
    """What Python makes of it, without any rounding."""
    assert re.fullmatch(r"[0-9+*/() -]+", expression)
    result = eval(re.sub(r"(\d+)", r"Fraction(\1)", expression), {"Fraction": Fraction})
    return Fraction(result)


@pytest.mark.parametrize("level", range(1, 11))
def test_every_answer_and_every_step_is_right(level: int) -> None:
    for row in rows(40, level):
        question, answer = (message["content"] for message in row["messages"])
        expression = re.fullmatch(r"Calculate (.*)\. Write each step on a line of its own, and end with #### and the "
                                  r"result\.", question)
        assert expression is not None
        *steps, last = answer.split("\n")
        assert last == f"#### {row['metadata']['answer']}"
        assert computed(expression[1]) == int(row["metadata"]["answer"]) >= 0
        assert len(steps) == len(re.findall(r"[+*/-]", expression[1]))
        for step in steps:
            left, result = step.split(" = ")
            assert computed(left) == int(result) >= 0  # a whole number: no remainder
        assert steps[-1].endswith(f"= {row['metadata']['answer']}")


def test_the_levels_get_longer_and_use_all_signs() -> None:
    assert Arithmetic().levels == len(LEVELS) == 10
    questions = ["".join(row["messages"][0]["content"] for row in rows(40, level)) for level in range(1, 11)]
    assert len(questions[0]) < len(questions[5]) < len(questions[9])
    assert set("+-*/()") <= set(questions[9])
    assert "(" in questions[6]
    assert "(" not in questions[5]


def test_no_row_comes_twice_and_two_seeds_give_mostly_others() -> None:
    one, other = ({row["messages"][0]["content"] for row in rows(1000, 1, seed)} for seed in (1, 2))
    assert len(one) == len(other) == 1000
    assert len(one & other) < 350
    asked = {row["messages"][0]["content"] for row in rows(200, 1, FIRST_FIXED_SEED)}
    assert not asked & (one | other)
    assert len({row["messages"][0]["content"] for row in rows(300, 9, 1)}
               & {row["messages"][0]["content"] for row in rows(300, 9, 2)}) < 3


def test_a_level_that_has_fewer_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainq.generating.arithmetic.LEVELS", (lambda draws: draws.below(50),))
    with pytest.raises(InputError, match=r"arithmetic has no more than \d+ different rows at level 1"):
        rows(60, 1)


def test_the_bytes_are_the_same_on_every_machine_as_long_as_the_version_is() -> None:
    assert Arithmetic.version == "1"
    wanted = (GenerateRequest(count=5, level=level, seed=42) for level in range(1, 11))
    assert blake3(b"".join(row.line for one in wanted for row in producing.rows(Arithmetic(), one))
                  ).hexdigest() == "553989ba1592c1c223e492cb26af17ade3d3c92856b1530f19c49abdeb5e919c"


def test_every_reference_is_worked_out() -> None:
    for level in range(1, 11):
        for row in Arithmetic().rows(GenerateRequest(count=30, level=level, seed=2)):
            question, answer = (message["content"] for message in row["messages"])
            assert is_worked_out(question, answer), (question, answer)


@pytest.mark.parametrize(("answer", "is_right"), [
    ("4 * 3 = 12\n2 + 12 = 14\n#### 14", True), ("  4 * 3 = 12\n12 + 2 = 14  \n#### 14\n", True),
    # Done in another order, the steps are true; the result tells.
    ("2 + 4 = 6\n6 * 3 = 18\n#### 18", True),
    ("#### 14", False), ("14", False), ("", False), ("2 + = = 14", False), ("4 * 3 = 12\n#### 14", False),
    ("4 * 3 = 13\n2 + 13 = 15\n#### 15", False), ("4 * 3 = 12\n2 + 12 = 14\n#### 15", False),
    ("4 * 3 = 12\n2 + 12 = 14\n14", False), ("7 + 7 = 14\n#### 14", False), ("4 * 3 = 12\n4 + 12 = 16\n#### 16", False),
    ("4 - 3 = 1\n2 + 1 = 3\n#### 3", False), ("4 * 3 = 12\n2 + 12 = 14\n14 + 0 = 14\n#### 14", False),
])
def test_an_answer_that_is_right_by_luck_is_not_worked_out(answer: str, is_right: bool) -> None:
    question = "Calculate 2 + 4 * 3. Write each step on a line of its own, and end with #### and the result."
    assert is_worked_out(question, answer) is is_right
    assert not is_worked_out("What is 2 + 4 * 3?", answer)
