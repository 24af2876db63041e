"""When the head of the line is scored: one at a time, at the end of files, and none twice."""

from __future__ import annotations

from typing import Any

import pytest

from services.evaluator import due
from services.evaluator.due import Known

HEAD = "g000003-s00000030"


def why_not(after_jobs: int = 1, **changes: Any) -> str:
    return due.why_not(Known(**{"counts": {}, "checkpoint": HEAD, "ended": True, "trained": 5, "asked": "",
                                "asked_at": None, **changes}), after_jobs)


def test_a_head_that_was_never_scored_is() -> None:
    assert why_not() == ""
    assert why_not(asked="g000002-s00000020", asked_at=4) == ""


@pytest.mark.parametrize(("changes", "words"), [
    ({"checkpoint": ""}, "no model yet"), ({"asked": HEAD, "asked_at": 5}, "was asked for"),
    ({"ended": False}, "in the middle of a file"), ({"counts": {"evaluate": {"queued": 1}}}, "one is being scored"),
    ({"counts": {"evaluate": {"running": 1}}}, "one is being scored"), ({"after_jobs": 0}, "when somebody asks"),
    ({"asked": "g000002-s00000020", "asked_at": 4, "after_jobs": 3}, "2 more files")])
def test_why_it_is_not(changes: dict[str, Any], words: str) -> None:
    assert words in why_not(**changes)


def test_of_those_that_ended_nobody_keeps_it_waiting() -> None:
    assert why_not(counts={"evaluate": {"succeeded": 9, "failed": 3}}) == ""
