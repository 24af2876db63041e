"""Results: named by what decides them, proven when read, made again when damaged, and comparable row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import generations
from trainq import evaluations, files, manifests, suites
from trainq.config import Home
from trainq.errors import DamageError, NewerFormatError
from trainq.evaluations import EvaluationFacts, Method, RowResult
from trainq.suites import Suite

METHOD = Method(rules=1, batch_rows=4, device="cpu")
KEY = "a" * 64


def facts(key: str = KEY, **changes: Any) -> EvaluationFacts:
    made = EvaluationFacts(
        key=key, suite="sums", suite_digest="s", kind="generate", checkpoint="g000001-s00000010", weights_digest="w",
        method=METHOD, n=2, mean=0.5, low=0.1, high=0.9, confidence=0.95, seed=1, left_out=0, tokens=6, seconds=1.5,
        created_at=7.0, created_by="test", scorer="exact", scorer_version="1")
    return msgspec.structs.replace(made, **changes)


def rows(*scores: float | None) -> list[RowResult]:
    return [RowResult(row=row, score=score, answer="four", tokens=3) if score is not None
            else RowResult(row=row, left_out="too long") for row, score in enumerate(scores)]


def a_suite(folder: Path, **more: Any) -> Suite:
    settings: dict[str, Any] = {"kind": "generate", "scorer": "exact", **more}
    return suites.write(folder / f"suite-{len(list(folder.iterdir()))}", [{"prompt": "2+2?", "completion": "4"}],
                        **settings)


def test_the_key_is_over_all_that_decides(tmp_path: Path) -> None:
    suite = a_suite(tmp_path)
    key = evaluations.key_of("w", suite, "1", METHOD)
    assert key == evaluations.key_of("w", a_suite(tmp_path, limit=0.5), "1", METHOD)
    others = [evaluations.key_of("v", suite, "1", METHOD), evaluations.key_of("w", suite, "2", METHOD),
              evaluations.key_of("w", a_suite(tmp_path, max_new_tokens=3), "1", METHOD),
              *(evaluations.key_of("w", suite, "1", msgspec.structs.replace(METHOD, **change))
                for change in ({"rules": 2}, {"batch_rows": 2}, {"device": "cuda"}, {"libraries": {"torch": "3"}}))]
    assert len({key, *others}) == 1 + len(others)


def test_weights_are_the_same_whatever_else_a_generation_holds(tmp_path: Path) -> None:
    model = {"model.safetensors": b"w", "config.json": b"{}", "tokenizer.json": b"t"}
    first = generations.publish(tmp_path, 1, {**model, "optimizer.safetensors": b"m", "README.md": b"one"})
    again = generations.publish(tmp_path, 2, {**model, "optimizer.safetensors": b"n", "state.json": b"{}"})
    digest = evaluations.weights_digest(tmp_path / first)
    assert digest == evaluations.weights_digest(tmp_path / again)
    others = [generations.publish(tmp_path, 3 + at, {**model, **change}) for at, change in enumerate((
        {"model.safetensors": b"v"}, {"tokenizer.json": b"u"}, {"chat_template.jinja": b"c"}, {"unknown": b"x"}))]
    assert len({digest, *(evaluations.weights_digest(tmp_path / name) for name in others)}) == 1 + len(others)


def test_the_weights_under_an_adapter_count(tmp_path: Path) -> None:
    def line(number: int, weights: bytes) -> str:
        under = generations.publish(tmp_path, number, {"model.safetensors": weights},
                                    adapter_of="self")
        return generations.publish(tmp_path, number + 1, {"adapter.safetensors": b"a", "tokenizer.json": b"t"},
                                   adapter_of=under)

    plain, other = line(1, b"w"), line(3, b"v")
    assert evaluations.weights_digest(tmp_path / plain) != evaluations.weights_digest(tmp_path / other)
    files.remove_tree(tmp_path / "g000001-s00000010")
    with pytest.raises(DamageError):
        evaluations.weights_digest(tmp_path / plain)


def test_a_result_is_read_as_it_was_published_and_listed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert evaluations.facts_of(home) == []
    assert evaluations.find(home, KEY) is None
    made = evaluations.publish(home, facts(), rows(1.0, None, 0.0))
    assert evaluations.read(home, KEY) == evaluations.find(home, KEY) == made
    older = facts("b" * 64, created_at=3.0)
    evaluations.publish(home, older, rows(1.0))
    assert evaluations.facts_of(home) == [older, facts()]


def test_a_damaged_result_is_removed_and_a_newer_one_is_left(tmp_path: Path) -> None:
    home = Home(tmp_path)
    evaluations.publish(home, facts(), rows(1.0))
    path = tmp_path / "evaluations" / KEY / "rows.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1.0", b"0.0"))
    with pytest.raises(DamageError):
        evaluations.read(home, KEY)
    assert evaluations.facts_of(home) == [facts()]
    assert evaluations.find(home, KEY) is None
    assert evaluations.facts_of(home) == []
    evaluations.publish(home, facts(), rows(0.0))
    files.move(tmp_path / "evaluations" / KEY, tmp_path / "evaluations" / ("c" * 64))
    with pytest.raises(DamageError, match="under another name"):
        evaluations.read(home, "c" * 64)
    with files.publish_directory(tmp_path / "evaluations" / KEY) as folder:
        manifests.seal(folder, evaluations.KIND, {**msgspec.to_builtins(facts()), "format": evaluations.FORMAT + 1})
    with pytest.raises(NewerFormatError):
        evaluations.find(home, KEY)
    assert [each.key for each in evaluations.facts_of(home)] == [KEY]


def test_answers_are_kept_whole_or_each_to_its_share(tmp_path: Path) -> None:
    long = [RowResult(row=0, score=1.0, answer="\u00e4" * 40), RowResult(row=1, score=0.0, answer="short"),
            RowResult(row=2, loss=0.5, tokens=2)]
    assert evaluations.bounded(long, 85) == long
    first, second, third = evaluations.bounded(long, 84)
    assert (first.answer, first.cut, first.score) == ("\u00e4" * 14, True, 1.0)
    assert [second, third] == long[1:]
    most = evaluations.MOST_ANSWER_BYTES
    made = evaluations.publish(Home(tmp_path), facts(),
                               [RowResult(row=row, score=1.0, answer="x" * most) for row in range(2)])
    assert made.facts.answers_cut == 2
    assert [len(row.answer or "") for row in made.rows] == [most // 2] * 2


def test_a_result_has_its_rows_as_numbers_and_says_which_they_are(tmp_path: Path) -> None:
    home = Home(tmp_path)
    one = evaluations.publish(home, facts(), rows(1.0, None, 0.0))
    other = evaluations.publish(home, facts("b" * 64), rows(0.0, 0.5, None))
    losses = evaluations.publish(home, facts("c" * 64, kind="loss"), [RowResult(row=row, loss=1.5, tokens=3)
                                                                      for row in (0, 2)])
    assert [found.values().tolist() for found in (one, other, losses)] == [[1.0, 0.0], [0.0, 0.5], [1.5, 1.5]]
    digests = [evaluations.score_of(found).rows_digest for found in (one, other, losses)]
    assert digests[0] == digests[2] != digests[1]
    score = evaluations.score_of(one)
    assert (score.evaluation_key, score.suite_digest, score.n, score.mean, score.low, score.high, score.confidence) == (
        KEY, "s", 2, 0.5, 0.1, 0.9, 0.95)


def test_the_results_of_a_checkpoint_that_is_gone_go_with_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    there = generations.publish(home.checkpoints, 2, {"w": b"w"})
    for key, checkpoint in (("b" * 64, there), (KEY, "g000001-s00000010")):
        evaluations.publish(home, facts(key, checkpoint=checkpoint), rows(1.0, 0.0))
    (home.evaluations / ("c" * 64)).mkdir()
    assert evaluations.remove_of_gone(home) == [KEY, "c" * 64]
    assert [each.key for each in evaluations.facts_of(home)] == ["b" * 64]
    files.remove_tree(home.checkpoints / there)
    assert evaluations.remove_of_gone(home) == [], "of a disk that is not there nothing is known"
