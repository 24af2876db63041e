"""Evaluations: what is measured is what is trained, nothing is scored twice, and nothing is scored by a bad scorer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import torch

from tests.unit.trainq.ml.tiny import LENGTHS, MakeShard, job_over, start, train
from trainq import checkpoints, evaluations, files, preparing, suites
from trainq.config import DataSettings, Home, LoraSettings
from trainq.errors import NotFoundError, UsageError
from trainq.evaluations import EvaluationReport
from trainq.ml import batches, determinism, evaluating, generation
from trainq.ml.evaluating import Request
from trainq.shards import Shard
from trainq.suites import Suite
from trainq.textcodec import TextCodec

# A model is scored in each of them.
pytestmark = pytest.mark.slow

SUMS = [{"prompt": f"{number}+1?", "completion": str(number + 1)} for number in range(6)]


@pytest.fixture
def line(tiny_model: Path, home: Home, make_shard: MakeShard) -> list[str]:
    """Two generations with different weights, the older first."""
    begun = start(tiny_model, home)
    train(begun, job_over(make_shard(LENGTHS)), home)
    return [path.name for path in checkpoints.list_generations(home.checkpoints)][::-1]


def a_suite(home: Home, name: str, rows: list[Any], **more: Any) -> Suite:
    settings = {"kind": "generate", "scorer": "exact", "max_new_tokens": 4, **more} if more.get("kind") != "loss" \
        else more
    return suites.write(home.suites / name, rows, **settings)


def evaluate(home: Home, checkpoint: str, *names: str, **more: Any) -> EvaluationReport:
    settings: dict[str, Any] = {"batch_rows": 4, "threads": 1, "compared": names, **more}
    return evaluating.evaluate(home, Request(home=str(home.root), checkpoint=checkpoint, suites=names, **settings))


def said(home: Home, checkpoint: str, prompts: list[str]) -> list[str]:
    """What plain generation says, row by row."""
    return generation.answer(home.checkpoints / checkpoint, list(prompts), max_new_tokens=4)


def results(home: Home) -> int:
    return len(evaluations.facts_of(home))


def test_a_loss_is_over_exactly_what_a_shard_of_the_rows_trains(line: list[str], home: Home, tmp_path: Path) -> None:
    rows: list[Any] = [*SUMS, {"text": "a text of some words"}, {"prompt": "x" * 70, "completion": "too long"}]
    a_suite(home, "held-out", rows, kind="loss")
    score, = evaluate(home, line[0], "held-out").scores
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    made = preparing.prepare(source, TextCodec.load(home.checkpoints / line[0]), DataSettings(held_out_fraction=0.0),
                             64, tmp_path / "cache", tmp_path / "rejected", "rows", lambda _: None)
    assert isinstance(made, preparing.Prepared)
    with Shard.open(tmp_path / "cache" / made.shard, verify=False) as shard:
        targets = [batches.targets(shard.row(row)) for row in range(shard.rows)]
    found = evaluations.read(home, score.facts.key)
    assert [row.tokens for row in found.rows] == [*targets, 0]
    assert found.rows[-1].left_out == "it is longer than the 64 tokens that the model takes"
    assert (score.facts.n, score.facts.left_out, score.facts.tokens) == (7, 1, sum(targets))
    losses = [row.loss for row in found.rows if row.loss is not None]
    assert score.facts.mean == pytest.approx(sum(losses) / 7)
    assert score.facts.low < score.facts.mean < score.facts.high


def test_answers_are_kept_and_scored_and_nothing_is_scored_twice(line: list[str], home: Home) -> None:
    a_suite(home, "sums", [*SUMS, {"prompt": "x" * 70, "completion": "too long"}], limit=0.1)
    a_suite(home, "held-out", SUMS, kind="loss")
    first = evaluate(home, line[1], "sums", "held-out", seed=9)
    facts = first.scores[0].facts
    assert (facts.suite, facts.n, facts.left_out, facts.seed, facts.confidence) == ("sums", 6, 1, 9, 0.95)
    assert facts.method.libraries == determinism.computing()
    assert facts.method.libraries.keys() == {"torch", "transformers", "tokenizers", "peft"}
    assert facts.proof is not None
    assert (facts.proof.n, facts.proof.shuffled, first.scores[0].limit) == (7, 0.0, 0.1)
    found = evaluations.read(home, facts.key)
    assert all(row.answer is not None and row.score == 0.0 and row.tokens <= 4 for row in found.rows[:-1])
    assert facts.truncated == sum(row.truncated for row in found.rows)
    assert "of answer, the model takes 64" in found.rows[-1].left_out
    again = evaluate(home, line[1], "held-out", "sums", confidence=0.5)
    assert [score.was_known for score in (*first.scores, *again.scores)] == [False, False, True, True]
    assert [score.facts.key for score in again.scores] == [score.facts.key for score in first.scores[::-1]]
    assert again.scores[0].facts.low > first.scores[1].facts.low
    # A damaged result is made again, and comes out the same.
    rows = home.evaluations / facts.key / evaluations.ROWS_NAME
    rows.write_bytes(rows.read_bytes()[:-1])
    assert [score.was_known for score in evaluate(home, line[1], "sums", "held-out").scores] == [False, True]
    assert evaluations.read(home, facts.key).rows == found.rows


def test_a_challenger_is_compared_row_by_row_and_beside_noise(line: list[str], home: Home) -> None:
    a_suite(home, "sums", SUMS)
    a_suite(home, "held-out", SUMS, kind="loss")
    report = evaluate(home, line[1], "held-out", "sums", against=line[0], margin=0.01)
    assert (report.against, report.against_digest) == (
        line[0], evaluations.weights_digest(home.checkpoints / line[0]))
    loss, sums = (score.comparison for score in report.scores)
    assert loss is not None
    assert sums is not None
    assert (loss.suite, loss.kind, loss.challenger) == ("held-out", "loss", report.scores[0].score)
    assert loss.difference is not None
    assert sums.difference is not None
    assert (loss.difference.n, sums.difference.n, sums.difference.mean) == (6, 6, 0.0)
    # A loss that has become smaller is a gain.
    assert loss.difference.mean == pytest.approx(loss.champion.mean - loss.challenger.mean)
    assert loss.difference.low < loss.difference.mean < loss.difference.high
    assert 0 <= loss.difference.noise < 1e-5
    assert "noise" not in loss.difference.method + sums.difference.method
    assert loss.difference.rows_needed > 0
    assert results(home) == 6
    turned = evaluate(home, line[0], "held-out", against=line[1]).scores[0]
    assert turned.was_known
    assert turned.comparison is not None
    assert turned.comparison.difference is not None
    assert turned.comparison.difference.mean == pytest.approx(-loss.difference.mean)
    same = evaluate(home, line[0], "held-out", against=line[0]).scores[0].comparison
    assert same is not None
    assert same.difference is not None
    assert (same.difference.mean, results(home)) == (0.0, 7)
    # Six rows are one batch of 16, and one of 8.
    few = evaluate(home, line[1], "held-out", against=line[0], batch_rows=16).scores[0].comparison
    assert few is not None
    assert few.difference is not None
    assert (few.difference.noise, few.difference.method) == (
        0.0, f"{loss.difference.method}; noise not measured: there are no batches of other shapes")


def test_an_adapter_is_scored_with_the_weights_under_it(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun = start(tiny_model, home, LoraSettings(rank=4, alpha=8))
    train(begun, job_over(make_shard(LENGTHS)), home)
    a_suite(home, "held-out", SUMS, kind="loss")
    newest, oldest = (path.name for path in checkpoints.list_generations(home.checkpoints))
    assert checkpoints.read_facts(home.checkpoints / newest).adapter_of == oldest
    a_suite(home, "sums", SUMS)
    means = {evaluate(home, name, "held-out").scores[0].facts.mean for name in (newest, oldest)}
    assert len(means) == 2
    answers = [row.answer for row in evaluations.read(home, evaluate(home, newest, "sums").scores[0].facts.key).rows]
    assert answers == said(home, newest, [row["prompt"] for row in SUMS])


def test_a_scorer_that_cannot_prove_itself_is_refused_and_hinders_no_other(line: list[str], home: Home) -> None:
    a_suite(home, "held-out", SUMS, kind="loss")
    a_suite(home, "words", [{"prompt": "a?", "completion": "none"}, *SUMS], scorer="final-number")
    a_suite(home, "one", SUMS[:1])
    (a_suite(home, "broken", SUMS).path / "suite.toml").write_text("kind = [")
    report = evaluate(home, line[0], "words", "broken", "held-out", "one")
    assert [score.facts.suite for score in report.scores] == ["held-out"]
    assert report.refused.keys() == {"broken", "words", "one"}
    for name, words in (("words", "the reference of row 0 0 in place of 1"), ("one", "say the same"),
                        ("broken", "not valid TOML")):
        assert words in report.refused[name]
        assert report.refused[name].startswith(str(home.suites / name))
    assert results(home) == 1


def test_what_is_not_done_in_time_is_no_score(line: list[str], home: Home) -> None:
    a_suite(home, "sums", SUMS)
    a_suite(home, "held-out", SUMS, kind="loss")
    for name in ("sums", "held-out"):
        report = evaluate(home, line[0], name, limit_seconds=1e-9)
        assert not report.scores
        assert f"the suite {name} was not done after 1e-09 seconds: of 6 rows 0 were" in report.refused[name]
    assert results(home) == 0


def test_what_cannot_be_scored_says_so(line: list[str], home: Home) -> None:
    a_suite(home, "long", [{"text": "x" * 70}], kind="loss")
    a_suite(home, "wide", SUMS, max_new_tokens=60)
    for name in ("long", "wide"):
        assert "two rows at least that fit" in evaluate(home, line[0], name).refused[name]
    for checkpoint, names, error in (("g000009-s00000000", ("long",), NotFoundError), (line[0], ("no",), NotFoundError),
                                     ("../x", ("long",), UsageError)):
        with pytest.raises(error):
            evaluate(home, checkpoint, *names)


def test_a_suite_whose_answers_would_be_cut_is_refused_and_scores_nothing(line: list[str], home: Home) -> None:
    a_suite(home, "sums", SUMS, max_new_tokens=1)
    report = evaluate(home, line[0], "sums")
    assert not report.scores
    assert "the references of 6 of 6 rows need more than the 1 tokens" in report.refused["sums"]
    assert results(home) == 0


def ask(request: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> tuple[int, bytes, str]:
    """The child's exit code, its answer, and what it told on the way."""
    read, write = os.pipe()
    os.write(write, request)
    os.close(write)
    threads = torch.get_num_threads()
    try:
        with os.fdopen(read) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            code = evaluating.main()
    finally:
        determinism.set_threads(threads)
    said = capfd.readouterr()
    return code, said.out.encode(), said.err


def test_the_child_answers_once_and_tells_how_far_it_is(line: list[str], home: Home, monkeypatch: pytest.MonkeyPatch,
                                                        capfd: pytest.CaptureFixture[str]) -> None:
    a_suite(home, "sums", SUMS)
    files.make_directory(home.evaluations)
    request = msgspec.json.encode(Request(home=str(home.root), checkpoint=line[0], suites=("sums",), threads=1))
    code, answer, told = ask(request, monkeypatch, capfd)
    assert code == 0
    report = msgspec.json.decode(answer, type=EvaluationReport)
    assert (report.checkpoint, [score.facts.suite for score in report.scores]) == (line[0], ["sums"])
    assert {"event": "rows_scored", "suite": "sums", "rows": 6, "of": 6} in map(orjson.loads, told.splitlines())


@pytest.mark.parametrize(("request_", "code", "words"), [
    (b"nonsense", 64, "not a request"),
    (b'{"home":"/nowhere","checkpoint":"g000001-s00000000","suites":["x"]}', 66, "there is no suite x"),
    (b'{"home":"/nowhere","checkpoint":"g000001-s00000000","suites":[]}', 64, "length >= 1"),
])
def test_the_child_says_why_it_could_not(request_: bytes, code: int, words: str, monkeypatch: pytest.MonkeyPatch,
                                         capfd: pytest.CaptureFixture[str]) -> None:
    got, answer, _ = ask(request_, monkeypatch, capfd)
    assert got == code
    assert words in orjson.loads(answer)["error"]
