"""Answers are checked by what their rows say is right; what says nothing is not judged."""

from __future__ import annotations

from typing import Any

import pytest

from trainq.answers import check_row


def row(said: str, answer: Any = "1,234") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}],
            "metadata": {"answer": answer}}


@pytest.mark.parametrize("good", [
    row("so\n#### 1234"), row("#### 1 and then #### 1,234.0"), row("#### -3", -3), row("no mark"),
    row("#### 5", "five"), row("#### 5", None), {"metadata": {"answer": 1}},
    {"messages": [3], "metadata": {"answer": 1}}, {"metadata": 5},
    {"messages": [{"role": "assistant", "content": 7}], "metadata": {"answer": 1}},
    {"prompt": "?", "completion": "#### 2", "metadata": {"answer": 2}}])
def test_right_answers_and_those_that_cannot_be_checked(good: dict[str, Any]) -> None:
    assert check_row(good) == ""


@pytest.mark.parametrize("bad", [
    row("#### 1235"), row("#### 1234 or rather #### 7"),
    {"prompt": "?", "completion": "#### 3", "metadata": {"answer": 2}}])
def test_wrong_answers_are_found(bad: dict[str, Any]) -> None:
    assert "####" in check_row(bad)
