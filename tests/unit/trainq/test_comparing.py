"""Two checkpoints by their results: the same rows, in the same batches where there are such, and which rows changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tests import generations
from trainq import comparing, evaluations, files, suites
from trainq.comparing import Question, Report
from trainq.config import Home
from trainq.errors import NotFoundError
from trainq.evaluations import EvaluationFacts, Method, RowResult
from trainq.suites import Suite

ROWS = 40


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    for folder in (made.checkpoints, made.evaluations, made.suites):
        files.make_directory(folder)
    return made


def a_checkpoint(home: Home, number: int) -> str:
    return generations.publish(home.checkpoints, number, {"model.safetensors": bytes([number])})


def a_suite(home: Home, name: str = "sums", *, kind: Any = "generate", rows: int = ROWS) -> Suite:
    more: dict[str, Any] = {"scorer": "exact", "max_new_tokens": 4} if kind == "generate" else {}
    return suites.write(home.suites / name, [{"prompt": f"{row}+0?", "completion": str(row)} for row in range(rows)],
                        kind=kind, **more)


def score(home: Home, checkpoint: str, suite: Suite, values: list[float | None], *, batch_rows: int = 8,
          at: float = 1.0) -> str:
    """Publish a result of it, with the given scores or losses; None was left out."""
    weights = evaluations.weights_digest(home.checkpoints / checkpoint)
    method, version = Method(rules=1, batch_rows=batch_rows, device="cpu"), "1" if suite.kind == "generate" else ""
    key = evaluations.key_of(weights, suite, version, method)
    field = "loss" if suite.kind == "loss" else "score"
    rows = [RowResult(row=row, left_out="too long") if value is None else
            RowResult(row=row, answer=f"says {value:g}", **{field: value}) for row, value in enumerate(values)]
    seen = [value for value in values if value is not None]
    evaluations.publish(home, EvaluationFacts(
        key=key, suite=suite.name, suite_digest=suite.digest, kind=suite.kind, checkpoint=checkpoint,
        weights_digest=weights, method=method, n=len(seen), mean=sum(seen) / len(seen), low=0.0, high=1.0,
        confidence=0.95, seed=0, left_out=len(values) - len(seen), tokens=1, seconds=1.0, created_at=at,
        created_by="test", shapes=str(batch_rows), scorer=suite.scorer, scorer_version=version), rows)
    return key


def compare(home: Home, first: str, second: str, **more: Any) -> Report:
    return comparing.answer(Question(home=str(home.root), first=first, second=second, **more))


def test_scores_are_paired_and_the_rows_that_changed_shown(home: Home) -> None:
    first, second, suite = a_checkpoint(home, 1), a_checkpoint(home, 2), a_suite(home)
    score(home, first, suite, [0.0] * 30 + [1.0] * 10)
    score(home, second, suite, [1.0] * 25 + [0.0] * 14 + [1.0])
    found, = compare(home, first, second, rows=2).suites
    assert (found.suite, found.first.mean, found.second.mean, found.became_right, found.became_wrong, found.note) == (
        "sums", 0.25, 0.65, 25, 9, "")
    assert found.difference is not None
    assert (found.difference.mean, found.difference.n, found.difference.noise) == (pytest.approx(0.4), ROWS, 0.0)
    assert 0.0 < found.difference.low < 0.4 < found.difference.high
    assert found.difference.p_better < 0.01 < found.difference.p_worse
    assert [(each.row, each.became_right, each.first, each.second, each.place, each.prompt, each.reference)
            for each in found.changed] == [
        (0, True, "says 0", "says 1", "rows.jsonl:1", "0+0?", "0"),
        (1, True, "says 0", "says 1", "rows.jsonl:2", "1+0?", "1"),
        (30, False, "says 1", "says 0", "rows.jsonl:31", "30+0?", "30"),
        (31, False, "says 1", "says 0", "rows.jsonl:32", "31+0?", "31")]
    assert compare(home, first, second).suites[0].changed == []
    turned, = compare(home, second, first).suites
    assert turned.difference is not None
    assert (turned.difference.mean, turned.became_right) == (pytest.approx(-0.4), 9)
    # Without the suite the answers are shown all the same.
    files.remove_tree(home.suites / "sums")
    gone = compare(home, first, second, rows=1).suites[0].changed
    assert [(each.row, each.first, each.place, each.prompt) for each in gone] == [(0, "says 0", "", ""),
                                                                                 (30, "says 1", "", "")]


def test_of_losses_less_is_a_gain_and_other_batches_are_noise(home: Home) -> None:
    first, second, suite = a_checkpoint(home, 1), a_checkpoint(home, 2), a_suite(home, "held-out", kind="loss")
    score(home, first, suite, [2.0 + row / 100 for row in range(ROWS)])
    score(home, first, suite, [2.01 + row / 100 for row in range(ROWS)], batch_rows=4, at=9.0)
    score(home, second, suite, [1.5 + row / 90 for row in range(ROWS)])
    found, = compare(home, first, second, rows=5, confidence=0.9).suites
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(0.5 - 39 / 2 * (1 / 90 - 1 / 100))
    assert found.difference.noise == pytest.approx(0.01)
    assert "noise" not in found.difference.method
    turned = compare(home, second, first).suites[0].difference
    assert turned is not None
    assert (turned.noise, turned.method) == (
        0.0, f"{found.difference.method}; noise not measured: there are no batches of other shapes")
    assert (found.first.method.batch_rows, found.first.confidence, found.note, found.changed) == (8, 0.9, "", [])


def test_what_cannot_be_paired_is_said(home: Home) -> None:
    first, second, suite = a_checkpoint(home, 1), a_checkpoint(home, 2), a_suite(home)
    score(home, first, suite, [0.0] * ROWS)
    score(home, first, a_suite(home, "first", rows=9), [0.0] * 9)
    with pytest.raises(NotFoundError, match=f"{second} was never scored .trainq evaluate {second} --wait"):
        compare(home, first, second)
    score(home, second, a_suite(home, "second", rows=8), [0.0] * 8)
    with pytest.raises(NotFoundError, match="were not scored on the same suite"):
        compare(home, first, second)
    score(home, second, suite, [None, *[1.0] * (ROWS - 1)], batch_rows=2)
    report = compare(home, first, second)
    assert (report.only_first, report.only_second, report.have_same_weights) == (
        ["first"], ["second"], False)
    assert report.suites[0].difference is None
    assert report.suites[0].note == ("not of the same rows: what fits into one model does not fit into the other; "
                                     "not in the same batches, on the same device, or with the same libraries")
    with pytest.raises(NotFoundError, match="there is no g000009-s00000090 in checkpoints"):
        compare(home, first, "g000009-s00000090")
    # One that is gone was scored all the same.
    files.remove_tree(home.checkpoints / second)
    assert compare(home, first, second) == report
    assert compare(home, first, first).have_same_weights


def test_a_suite_that_was_locked_anew_is_compared_as_it_is_now(home: Home) -> None:
    first, second, old = a_checkpoint(home, 1), a_checkpoint(home, 2), a_suite(home)
    for name in (first, second):
        score(home, name, old, [0.0] * ROWS)
    files.remove_tree(home.suites / "sums")
    now = a_suite(home, rows=20)
    for name, value in ((first, 0.0), (second, 1.0)):
        score(home, name, now, [value] * 20, at=5.0)
    found, = compare(home, first, second).suites
    assert (found.first.suite_digest, found.second.n, found.became_right) == (now.digest, 20, 20)


@pytest.mark.slow
def test_the_child_answers_once(home: Home) -> None:
    first, suite = a_checkpoint(home, 1), a_suite(home)
    score(home, first, suite, [0.0, 1.0] * (ROWS // 2))

    def ask(question: bytes) -> tuple[int, Any]:
        done = subprocess.run([sys.executable, "-P", "-m", "trainq.comparing"], input=question, capture_output=True,
                              check=False)
        return done.returncode, orjson.loads(done.stdout)

    code, said = ask(msgspec.json.encode(Question(home=str(home.root), first=first, second=first)))
    assert (code, [each["suite"] for each in said["suites"]]) == (0, ["sums"])
    assert ask(b"{}")[0] == 64
    assert ask(msgspec.json.encode(Question(home=str(home.root), first="x", second="y")))[0] == NotFoundError.exit_code
