"""What became of a row: by the preparer's own judgement, the job's plan, and the ledgers of checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import orjson
import pytest

from trainq import builtin, preparing
from trainq.config import DataSettings, TrainSettings
from trainq.errors import DamageError, InputError
from trainq.jobs import Effect, EffectKind
from trainq.ml import ledger, rowtracing
from trainq.ml.batches import Plan
from trainq.ml.rowtracing import Question, answer
from trainq.preparing import Prepared
from trainq.shards import Shard
from trainq.textcodec import TextCodec

TRAIN = TrainSettings(epochs=2, batch_rows=2, micro_batch_rows=1)
DATA = DataSettings(max_bad_rows=0.5)


def row(word: str) -> bytes:
    return orjson.dumps({"text": word})


LINES = [row("one"), row("two"), b"not json", row("one"), row("x" * 5000), row("three")]


@pytest.fixture
def question(tmp_path: Path) -> Question:
    """Of six lines the first, the second and the last are trained."""
    source = tmp_path / "file.jsonl"
    source.write_bytes(b"\n".join(LINES) + b"\n")
    outcome = preparing.prepare(source, TextCodec.load(builtin.folder()), DATA, builtin.CONTEXT_TOKENS,
                                tmp_path / "cache", tmp_path / "rejected", "file", lambda _: None)
    assert isinstance(outcome, Prepared)
    assert outcome.report.trained == 3
    return Question(source=str(source), line=1, model="", data=DATA, train=TRAIN,
                    shard=str(tmp_path / "cache" / outcome.shard), shard_digest=outcome.digest)


def ask(question: Question, line: int, **changes: object) -> rowtracing.Answer:
    return answer(msgspec.structs.replace(question, line=line, **changes))


def test_a_trained_row_enters_a_step_of_each_epoch(question: Question) -> None:
    # Two rows a step: an epoch of three rows has two steps.
    with Shard.open(Path(question.shard), verify=True) as shard:
        plan = Plan(shard.digest, shard.lengths(), TRAIN)
        for index, line in enumerate((1, 2, 6)):
            assert shard.row(index).line == line
            said = ask(question, line)
            assert (said.fate, said.line, said.is_duplicate) == ("trained", line, False)
            assert [epoch for _, epoch in said.steps] == [1, 2]
            assert all(index in plan.rows_of_step(step - 1) for step, _ in said.steps)


def test_what_was_left_out_was_not_seen(question: Question) -> None:
    (first, _), (second, _) = ask(question, 1).steps
    skipped = [Effect(kind=EffectKind.SKIP_BATCH, step=first - 1)]
    assert ask(question, 1, effects=skipped).steps == [(second, 2)]
    cut = [Effect(kind=EffectKind.CUT, step=second - 1, value=4)]
    assert ask(question, 1, effects=cut).steps == [(first, 1)]


def test_a_duplicate_is_its_first_line(question: Question) -> None:
    said = ask(question, 4)
    assert (said.fate, said.line, said.is_duplicate) == ("trained", 1, True)
    assert said.steps == ask(question, 1).steps


def test_what_was_not_trained_says_why(question: Question) -> None:
    rejected = ask(question, 3)
    assert (rejected.fate, rejected.steps) == ("rejected", [])
    assert "JSON" in rejected.reason
    assert ask(question, 5).fate == "dropped_long"
    held_out = ask(question, 1, data=msgspec.structs.replace(DATA, held_out_fraction=1.0))
    assert (held_out.fate, held_out.steps) == ("held_out", [])


def test_a_line_that_is_not_there(question: Question) -> None:
    with pytest.raises(InputError, match="no row in line 7"):
        ask(question, 7)


def test_the_ledger_says_what_has_entered(question: Question, tmp_path: Path) -> None:
    steps = [step for step, _ in ask(question, 1).steps]
    with Shard.open(Path(question.shard), verify=True) as shard:
        digests = [ledger.row_digest(shard.row(index)) for index in range(3)]
    reaching = tmp_path / "reaching.bin"
    # The first step alone, with the row, and then with another one in its place.
    reaching.write_bytes(ledger.records(steps[0] - 1, [digests[1], digests[0]]))
    without = tmp_path / "without.bin"
    without.write_bytes(ledger.records(steps[0] - 1, [digests[1], digests[2]]))
    said = ask(question, 1, ledgers={"reaching": str(reaching), "without": str(without)})
    assert said.entered == {"reaching": [steps[0]], "without": []}
    # What the job leaves out now, an attempt before had trained.
    for effect in (Effect(kind=EffectKind.SKIP_BATCH, step=steps[0] - 1), Effect(kind=EffectKind.CUT, step=0, value=4)):
        said = ask(question, 1, ledgers={"reaching": str(reaching)}, effects=[effect])
        assert said.entered == {"reaching": [steps[0]]}
        assert steps[0] not in [step for step, _ in said.steps]


def test_a_lost_shard_is_made_again(question: Question, tmp_path: Path) -> None:
    assert ask(question, 2, shard=str(tmp_path / "gone")) == ask(question, 2)
    with pytest.raises(DamageError, match="the journal says"):
        ask(question, 2, shard=str(tmp_path / "gone"), shard_digest="0" * 64)


def test_a_file_that_was_never_prepared_has_no_steps(question: Question) -> None:
    said = ask(question, 2, shard="", shard_digest="")
    assert (said.fate, said.steps) == ("trained", [])


@pytest.mark.slow  # it imports torch
def test_as_a_process(question: Question) -> None:
    def run(question: Question) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-m", "trainq.ml.rowtracing"], input=msgspec.json.encode(question),
                              capture_output=True, check=False)

    good = run(question)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["fate"] == "trained"
    bad = run(msgspec.structs.replace(question, line=99))
    assert bad.returncode == 65
    assert "no row in line 99" in json.loads(bad.stdout)["error"]
