"""The ledger says what entered each step, as the tensors had it, and goes where the cursor goes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from blake3 import blake3

from tests.unit.trainq.ml.tiny import LENGTHS, SETTINGS, MakeShard, Script, job_over, start, train
from trainq import checkpoints, manifests
from trainq.checkpoints import Cursor, Verified
from trainq.config import Home
from trainq.errors import DamageError, InputError
from trainq.ml import batches, checkpointing, ledger, stepfaults
from trainq.ml.training import Wish
from trainq.shards import Shard, ShardRow

STEPS = 6  # of a job over LENGTHS under SETTINGS


def head(home: Home) -> Verified:
    found, _ = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    return found


def on_disk(home: Home) -> list[tuple[int, bytes]]:
    content = (head(home).path / "ledger.bin").read_bytes()
    assert len(content) % 20 == 0
    return [(int.from_bytes(content[at:at + 4], "little"), content[at + 4:at + 20])
            for at in range(0, len(content), 20)]


def expected(shard: Path) -> list[bytes]:
    """The digests of a shard's rows, from its bytes on disk."""
    offsets = np.fromfile(shard / "offsets.bin", dtype="<i8").tolist()
    tokens, trained = (shard / "tokens.bin").read_bytes(), (shard / "trained.bin").read_bytes()
    return [blake3(tokens[4 * start:4 * end] + trained[start:end]).digest()[:16]
            for start, end in itertools.pairwise(offsets)]


def test_every_row_is_in_it_once_an_epoch_at_its_step(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    shard = make_shard(LENGTHS)
    job = job_over(shard)
    train(start(tiny_model, home), job, home)
    digests, found = expected(shard), on_disk(home)
    assert Counter(digest for _, digest in found) == Counter(digests * SETTINGS.epochs)
    with Shard.open(shard, verify=False) as opened:
        plan = batches.Plan(opened.digest, opened.lengths(), SETTINGS)
    assert found == [(step, digests[row]) for step in range(STEPS)
                     for micro_batch in plan.micro_batches_of_step(step, SETTINGS.micro_batch_rows)
                     for row in micro_batch]
    assert "ledger.bin" in head(home).manifest.files


def test_stopped_and_resumed_it_is_the_same(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    job = job_over(make_shard(LENGTHS))
    train(start(tiny_model, home), job, home)
    undisturbed = on_disk(home)
    train(start(tiny_model, home), job, home, Script(at=2))
    assert on_disk(home) == [record for record in undisturbed if record[0] < 2]
    # Two steps that no checkpoint covers are lost with the process, and their records too.
    train(checkpointing.restore(head(home)), job, home, Script(at=4, what=Wish.CANCEL))
    train(checkpointing.restore(head(home)), job, home)
    assert on_disk(home) == undisturbed


def test_it_is_empty_at_a_new_job_and_comes_back_with_a_take_back(
        tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    assert on_disk(home) == []
    train(line, job_over(make_shard(LENGTHS, "a"), "job-1"), home)
    first = on_disk(home)
    other = make_shard(LENGTHS, "other")
    train(line, job_over(other, "job-2"), home, Script(at=3))
    assert len(on_disk(home)) == 7  # an epoch is three steps
    assert {digest for _, digest in on_disk(home)} == set(expected(other))
    line, _ = checkpointing.take_back(line, home)
    assert on_disk(home) == first
    assert bytes(line.ledger) == (head(home).path / "ledger.bin").read_bytes()


def test_a_step_that_fails_leaves_nothing_in_it(tiny_model: Path, home: Home, tmp_path: Path,
                                                make_shard: MakeShard) -> None:
    line = start(tiny_model, home)
    job = job_over(make_shard(LENGTHS))
    train(line, job, home, Script(at=1))
    before = bytes(line.ledger)
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "nan.any.every").touch()
    stepfaults.arm(str(tmp_path / "faults"))
    try:
        with pytest.raises(InputError, match="not finite"):
            train(line, job, home)
    finally:
        stepfaults.arm("")
    assert bytes(line.ledger) == before != b""


def test_the_digests_are_of_the_tensors_and_not_of_the_rows() -> None:
    row = ShardRow(token_ids=np.array([5, 6, 7], dtype=np.int64), trained=np.array([False, True, True]),
                   digest=bytes(32), line=1)
    longer = ShardRow(token_ids=np.array([9] * 5, dtype=np.int64), trained=np.array([True] * 5), digest=bytes(32),
                      line=2)
    batch = batches.collate([row, longer], pad_token_id=9)
    right = blake3(np.array([5, 6, 7], dtype="<u4").tobytes() + bytes([0, 1, 1])).digest()[:16]
    assert ledger.row_digests(batch, [row, longer])[0] == right
    batch.labels_bt[0, 1] = 8  # a target that is not the token at its place
    assert ledger.row_digests(batch, [row, longer])[0] != right
    batch = batches.collate([row, longer], pad_token_id=9)
    batch.tokens_bt[0, 0] = 4
    assert ledger.row_digests(batch, [row, longer])[0] != right


@pytest.mark.parametrize(("content", "job_step"), [
    (b"", 2), (ledger.records(0, [bytes(16)]), 0), (ledger.records(0, [bytes(16)]), 2),
    (ledger.records(1, [bytes(16)])[:-1], 2)])
def test_one_that_does_not_reach_the_cursor_is_damage(content: bytes | None, job_step: int) -> None:
    with pytest.raises(DamageError, match=r"ledger\.bin"):
        ledger.check(content, Cursor(job="j", job_step=job_step), "ledger.bin")


def test_none_is_needed_before_the_first_step() -> None:
    assert ledger.check(None, Cursor(), "ledger.bin") == bytearray()
    assert ledger.check(b"", Cursor(job="j", job_step=2, done=True), "ledger.bin") == bytearray()
    assert ledger.check(ledger.records(1, [bytes(16)]), Cursor(job="j", job_step=2), "x") == bytearray(
        b"\1\0\0\0" + bytes(16))


def test_a_checkpoint_of_before_there_were_ledgers_goes_on(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    job = job_over(make_shard(LENGTHS))
    train(start(tiny_model, home), job, home, Script(at=2))
    whole = head(home)
    for name in ("ledger.bin", "manifest.json"):
        (whole.path / name).unlink()
    manifests.seal(whole.path, checkpoints.KIND, msgspec.to_builtins(whole.facts))
    train(checkpointing.restore(checkpoints.verify(whole.path)), job, home, Script())
    assert head(home).facts.cursor.done
    assert len((head(home).path / "ledger.bin").read_bytes()) > 0
    checkpointing.restore(checkpoints.verify(head(home).path))
