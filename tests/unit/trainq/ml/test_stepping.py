"""A step as its job's settings want it: rate, precision, memory, clipping; and exact wherever it is gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.generations import bits_of
from tests.unit.trainq.ml.tiny import LENGTHS, SETTINGS, MakeShard, Script, job_over, start, train
from trainq import checkpoints, files
from trainq.checkpoints import LossScale, Verified
from trainq.config import Home, LoraSettings, TrainSettings
from trainq.errors import InputError
from trainq.ml import checkpointing, line
from trainq.ml.line import ModelLine

pytestmark = pytest.mark.slow  # each trains for real, several times

STEPS = 6  # of a job over LENGTHS under SETTINGS
LORA = LoraSettings(rank=2, dropout=0.2)
# Everything at once that there is to go wrong in the middle of a job.
ALL_AT_ONCE = {"schedule": "cosine", "rewarm_steps": 2, "precision": "bf16", "gradient_checkpointing": True}


def wanting(**changes: Any) -> TrainSettings:
    return msgspec.structs.replace(SETTINGS, **changes)


def head(home: Home) -> Verified:
    found, _ = checkpoints.newest_verified(home.checkpoints)
    assert found is not None
    return found


def digests(home: Home) -> dict[str, str]:
    return bits_of(head(home).manifest)


def another(tmp_path: Path, name: str) -> Home:
    made = Home(tmp_path / name)
    for folder in made.folders():
        files.make_directory(folder)
    return made


def weights(of: ModelLine) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in of.model.parameters()])


def rates(script: Script) -> list[float]:
    return [metrics.learning_rate for metrics in script.steps]


def test_each_job_has_the_rates_of_its_own_schedule(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun, shard = start(tiny_model, home), make_shard(LENGTHS)
    linear = wanting(schedule="linear", min_rate_fraction=0.0)
    _, first = train(begun, job_over(shard, "job-1", linear), home)
    assert rates(first) == pytest.approx([0.0025, 0.005, 0.01 * 4 / 6, 0.005, 0.01 * 2 / 6, 0.01 / 6])
    _, second = train(begun, job_over(shard, "job-2", msgspec.structs.replace(linear, rewarm_steps=2)), home)
    assert rates(second) == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025])
    _, third = train(begun, job_over(shard, "job-3", wanting(learning_rate=0.5)), home)
    assert rates(third) == [0.5] * STEPS


@pytest.mark.parametrize(("changes", "lora"), [
    (ALL_AT_ONCE, line.NO_ADAPTER),
    ({**ALL_AT_ONCE, "micro_batch_rows": 3}, LORA),
    ({**ALL_AT_ONCE, "threads": 2}, line.NO_ADAPTER),
    ({"precision": "fp16", "schedule": "wsd", "decay_fraction": 0.5, "rewarm_steps": 1}, line.NO_ADAPTER),
    ({"schedule": "linear", "max_grad_norm": 0.0, "micro_batch_rows": 1}, line.NO_ADAPTER)],
    ids=["all", "lora", "threads", "fp16", "linear"])
def test_gone_on_from_after_any_step_it_is_undisturbed(tiny_model: Path, tmp_path: Path, home: Home, lora: LoraSettings,
                                                       make_shard: MakeShard, changes: dict[str, Any]) -> None:
    """In a second job, too, where its step is not the line's; never gone on in memory."""
    shard, wanted = make_shard(LENGTHS), wanting(**changes)
    jobs = [job_over(shard, "job-1", wanted), job_over(shard, "job-2", wanted)]
    calm = start(tiny_model, home, lora)
    calm.facts = msgspec.structs.replace(calm.facts, loss_scale=LossScale(scale=2.0**30))
    for job in jobs:
        train(calm, job, home)
    elsewhere = another(tmp_path, "elsewhere")
    broken = line.begin(str(tiny_model), 5, lora)
    broken.facts = msgspec.structs.replace(broken.facts, loss_scale=LossScale(scale=2.0**30))
    checkpointing.publish(broken, elsewhere, "initial")
    for job in jobs:
        for at in range(1, STEPS + 1):
            torch.manual_seed(999)  # nothing of this process may matter
            train(checkpointing.restore(head(elsewhere)), job, elsewhere, Script(at=at))
    assert digests(elsewhere) == digests(home)
    ours, theirs = head(elsewhere).facts, head(home).facts
    assert (ours.step, ours.loss_scale, ours.metrics) == (theirs.step, theirs.loss_scale, theirs.metrics)
    if wanted.precision == "fp16":
        assert ours.loss_scale is not None
        assert 1 < ours.loss_scale.scale < 2.0**30  # it overflowed on the way


@pytest.mark.parametrize("lora", [line.NO_ADAPTER, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_computed_again_are_the_same_bits(tiny_model: Path, tmp_path: Path, home: Home, precision: str,
                                                      make_shard: MakeShard, lora: LoraSettings) -> None:
    """With dropout in attention and adapter: the generators are set back for the second computation."""
    shard, elsewhere = make_shard(LENGTHS), another(tmp_path, "elsewhere")
    train(start(tiny_model, home, lora), job_over(shard, "job-1", wanting(precision=precision)), home)
    begun = start(tiny_model, elsewhere, lora)
    recomputed = wanting(precision=precision, gradient_checkpointing=True)
    train(begun, job_over(shard, "job-1", recomputed), elsewhere)
    assert begun.recomputes
    assert digests(elsewhere) == digests(home)
    train(begun, job_over(shard, "job-2"), elsewhere)
    assert not begun.recomputes


def test_layers_are_run_once_more_only_where_it_is_wanted(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun, shard = start(tiny_model, home), make_shard(LENGTHS)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    begun.model.model.layers[0].mlp.register_forward_pre_hook(count)
    counted = []
    for job, wanted in (("job-1", False), ("job-2", True), ("job-3", False)):
        runs = 0
        train(begun, job_over(shard, job, wanting(gradient_checkpointing=wanted)), home)
        counted.append(runs)
    assert counted == [10, 20, 10]  # two micro-batches a step, one in the last of each epoch


def test_a_model_that_cannot_compute_again_is_the_job_s_fault(tiny_model: Path, home: Home, make_shard: MakeShard,
                                                              ) -> None:
    begun, shard = start(tiny_model, home), make_shard(LENGTHS)
    begun.model.supports_gradient_checkpointing = False
    before = weights(begun)
    with pytest.raises(InputError, match="gradient_checkpointing"):
        train(begun, job_over(shard, "job-1", wanting(gradient_checkpointing=True)), home)
    assert torch.equal(weights(begun), before)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_bits_learn_nearly_the_same(tiny_model: Path, tmp_path: Path, home: Home, precision: str,
                                             make_shard: MakeShard) -> None:
    shard, elsewhere = make_shard(LENGTHS), another(tmp_path, "elsewhere")
    full = start(tiny_model, home)
    _, wanted = train(full, job_over(shard), home)
    begun = start(tiny_model, elsewhere)
    _, script = train(begun, job_over(shard, "job-1", wanting(precision=precision)), elsewhere)
    assert script.losses == pytest.approx(wanted.losses, rel=0.02)
    assert script.losses != wanted.losses
    assert {parameter.dtype for parameter in begun.model.parameters()} == {torch.float32}
    assert {value.dtype for state in begun.optimizer.state.values() for value in state.values()} == {torch.float32}


def test_a_step_that_overflows_is_skipped_and_counts(tiny_model: Path, home: Home, make_shard: MakeShard) -> None:
    begun, shard = start(tiny_model, home), make_shard(LENGTHS)
    before = weights(begun)
    begun.facts = msgspec.structs.replace(begun.facts, loss_scale=LossScale(scale=2.0**40, good_steps=7))
    _, script = train(begun, job_over(shard, "job-1", wanting(precision="fp16")), home)
    assert [metrics.skipped for metrics in script.steps] == [True] * STEPS
    assert {metrics.grad_norm for metrics in script.steps} == {None}
    assert torch.equal(weights(begun), before)
    assert begun.optimizer.state == {}
    facts = head(home).facts
    assert (facts.step, facts.rows_seen, facts.cursor.done) == (STEPS, 14, True)
    assert facts.loss_scale == LossScale(scale=2.0**34)
    # A job in another precision leaves the scale where it is.
    train(begun, job_over(shard, "job-2", SETTINGS), home)
    assert head(home).facts.loss_scale == LossScale(scale=2.0**34)
    assert not torch.equal(weights(begun), before)


def test_a_gradient_that_is_no_number_at_any_scale_is_the_job_s_fault(tiny_model: Path, home: Home,
                                                                      make_shard: MakeShard) -> None:
    begun = start(tiny_model, home)
    begun.facts = msgspec.structs.replace(begun.facts, loss_scale=LossScale(scale=4.0))
    parameter = next(begun.model.parameters())
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    script = Script()
    with pytest.raises(InputError, match="not finite"):
        train(begun, job_over(make_shard(LENGTHS), "job-1", wanting(precision="fp16")), home, script)
    assert [metrics.skipped for metrics in script.steps] == [True, True]


def test_no_limit_clips_nothing(tiny_model: Path, tmp_path: Path, home: Home, make_shard: MakeShard) -> None:
    shard, elsewhere, third = make_shard(LENGTHS), another(tmp_path, "elsewhere"), another(tmp_path, "third")
    _, script = train(start(tiny_model, home), job_over(shard, "job-1", wanting(max_grad_norm=0.0)), home)
    train(start(tiny_model, elsewhere), job_over(shard, "job-1", wanting(max_grad_norm=1e9)), elsewhere)
    train(start(tiny_model, third), job_over(shard, "job-1", wanting(max_grad_norm=0.01)), third)
    assert max(metrics.grad_norm or 0 for metrics in script.steps) > 0.01
    assert digests(home) == digests(elsewhere)
    assert digests(home) != digests(third)
