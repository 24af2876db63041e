"""The number that an answer ends in, in all the ways that people and models write one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import orjson
import pytest

from trainq.errors import InputError
from trainq.scoring import Case
from trainq.scoring.final_number import FinalNumber, final_number, is_right, only_number

GSM8K = Path(__file__).resolve().parents[5] / "shared" / "data" / "gsm8k" / "test.jsonl"


@pytest.mark.parametrize(("text", "number"), [
    ("She has 9 * 2 = $<<9*2=18>>18 left.\n#### 18", 18), ("#### 1,080", 1080), ("#### $70,000.00", 70_000),
    ("#### -5", -5), ("####-5", -5), ("#### \u22125 degrees", -5), ("#### -$5", -5), ("#### $-5", -5),
    ("#### 18\n#### 20", 18), ("#### The answer\nit is 7", 7), ("#### 1\nand then 2", 1),
    ("it is 18.", 18), ("18.0%", 18), ("**18**", 18), ("\\boxed{18}", 18), ("x=-3", -3), ("10-5", 5), ("from (3)-1", 1),
    (".5", Fraction(1, 2)), ("-.5", Fraction(-1, 2)), ("3/4", Fraction(3, 4)), ("12/2=6", 6), ("1,2", 2),
    ("12,345,678.9", Fraction("12345678.9")), ("4 of H2O", 4), ("+7", 7), ("1.5.", Fraction(3, 2)),
    ("", None), ("none", None), ("H2O", None), ("5/0", None), ("9" * 5000, None),
])
def test_the_number_of_a_text(text: str, number: int | Fraction | None) -> None:
    assert final_number(text) == number


def test_the_same_number_written_otherwise_is_right_and_no_number_is_never() -> None:
    assert is_right("so $1,000.00", "#### 1000")
    assert not is_right("about 1000 or 1001", "#### 1000")
    assert not is_right("none", "none")
    assert (only_number(" -1,000 "), only_number("4 apples"), only_number("Paris")) == (-1000, None, None)


def test_the_scorer_has_no_options() -> None:
    case = Case(row=0, prompt=(), reference="#### 4")
    assert [score.value for score in FinalNumber({}).scores([case, case], ["4", "5"])] == [1.0, 0.0]
    with pytest.raises(InputError, match=r"options\.loose: no such option"):
        FinalNumber({"loose": True})


@pytest.mark.skipif(not GSM8K.is_file(), reason="GSM8K is not here")
def test_every_answer_of_gsm8k_has_the_number_behind_its_mark() -> None:
    rows = [orjson.loads(line) for line in GSM8K.read_bytes().splitlines()]
    for row in rows:
        assert final_number(row["answer"]) == Fraction(row["answer"].split("####")[1].strip().replace(",", ""))
