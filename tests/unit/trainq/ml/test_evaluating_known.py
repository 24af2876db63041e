"""Evaluations of what is known already, or refused: no model is computed with, so what is asked about is none."""

from __future__ import annotations

from typing import Any

import pytest

from tests import generations
from trainq import evaluations, suites
from trainq.config import Home
from trainq.evaluations import EvaluationFacts, EvaluationReport, Method, RowResult
from trainq.ml import determinism, evaluating
from trainq.ml.evaluating import Request
from trainq.suites import Suite

ROWS = [{"text": "one"}, {"text": "two"}]


@pytest.fixture
def checkpoint(home: Home) -> str:
    return generations.publish(home.checkpoints, 1, {"model.safetensors": b"w", "config.json": b"{}"})


def a_result(home: Home, checkpoint: str, suite: Suite, *losses: float) -> None:
    """Publish what an evaluation of the checkpoint would have."""
    weights = evaluations.weights_digest(home.checkpoints / checkpoint)
    method = Method(rules=evaluating.RULES, batch_rows=4, device="cpu", libraries=determinism.computing())
    facts = EvaluationFacts(
        key=evaluations.key_of(weights, suite, "", method), suite=suite.name, suite_digest=suite.digest,
        kind=suite.kind, checkpoint=checkpoint, weights_digest=weights, method=method, n=0, mean=0.0, low=0.0, high=0.0,
        confidence=0.0, seed=0, left_out=0, tokens=len(losses), seconds=1.0, created_at=1.0, created_by="test")
    evaluations.publish(home, facts, [RowResult(row=row, loss=loss, tokens=1) for row, loss in enumerate(losses)])


def evaluate(home: Home, checkpoint: str, *names: str) -> EvaluationReport:
    return evaluating.evaluate(home, Request(home=str(home.root), checkpoint=checkpoint, suites=names, batch_rows=4))


def test_a_result_bears_the_name_of_the_suite_that_it_is_given_for(home: Home, checkpoint: str) -> None:
    old = suites.write(home.suites / "a", ROWS, kind="loss")
    a_result(home, checkpoint, old, 1.0, 2.0)
    old.path.rename(home.suites / "b")
    new = suites.write(home.suites / "a", [{"text": "three"}, {"text": "four"}], kind="loss")
    a_result(home, checkpoint, new, 5.0, 6.0)
    suites.write(home.suites / "again", ROWS, kind="loss")
    found = [(each.facts.suite, each.facts.suite_digest, each.facts.mean, each.was_known)
             for each in evaluate(home, checkpoint, "a", "b", "again").scores]
    assert found == [("a", new.digest, 5.5, True), ("b", old.digest, 1.5, True), ("again", old.digest, 1.5, True)]


def test_a_suite_with_the_content_of_a_refused_one_is_refused_with_it(home: Home, checkpoint: str) -> None:
    alike: dict[str, Any] = {"kind": "generate", "scorer": "exact"}
    for name in ("one", "two"):
        suites.write(home.suites / name, [{"prompt": "1+1?", "completion": "2"}], **alike)
    report = evaluate(home, checkpoint, "one", "two")
    assert not report.scores
    assert report.refused.keys() == {"one", "two"}
    assert "say the same" in report.refused["one"]
    assert report.refused["two"] == report.refused["one"]
