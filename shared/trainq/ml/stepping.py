"""One optimizer step: rows of the plan, forward and backward in micro-batches, clip, AdamW.

Each step adopts what its job's settings say of rate, precision and memory: the line is assembled once for all jobs.

The loss is divided by the trained tokens of the whole step, so that uneven micro-batches count as one batch.

Shape suffixes: b rows of a micro-batch, t tokens of its longest row, v vocabulary.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import torch
from torch.nn.functional import cross_entropy

from trainq.checkpoints import CheckpointFacts
from trainq.config import TrainSettings
from trainq.jobs import batches_left_out
from trainq.ml import batches, ledger, model, optimizer, precision, schedules, stepfaults
from trainq.ml.line import ModelLine
from trainq.ml.metrics import StepMetrics
from trainq.shards import Shard, ShardRow

# What torch says on the processor, and cuBLAS where it has no room for its workspace; no class tells them from others.
_NO_MEMORY = ("DefaultCPUAllocator: ", "not enough memory: you tried to allocate", "CUBLAS_STATUS_ALLOC_FAILED")


class StepFaultError(Exception):
    """A step came to nothing: neither weights nor optimizer nor the facts have moved, but for :class:`NoMemoryError`.

    Gradients are left, and numbers were drawn: the caller takes both back.
    """


class NotFiniteError(StepFaultError):
    """The loss or the gradient is no finite number; ``lines`` are those of the step's rows in the file, from 1."""

    def __init__(self, loss: float, grad_norm: float, job_step: int, lines: list[int]) -> None:
        self.lines = lines
        super().__init__(f"loss {loss} and gradient norm {grad_norm} at step {job_step + 1}: not finite numbers")


class MaskError(StepFaultError):
    """Nothing of the step's rows is trained.

    What counts are the targets that really reach the loss. A loss of exactly zero over some is no fault: in float32 a
    token whose logit is more than about 17 above all others costs exactly nothing.
    """

    def __init__(self, fault: str, rows: list[ShardRow]) -> None:
        self.rows = rows
        super().__init__(fault)


class NoMemoryError(StepFaultError):
    """There was not enough memory. ``moved``: the optimizer may have moved some of the weights, and not others."""

    def __init__(self, reason: str, *, moved: bool) -> None:
        self.moved = moved
        super().__init__(reason)


def step(line: ModelLine, shard: Shard, plan: batches.Plan, settings: TrainSettings,
         micro_batch_rows: int) -> StepMetrics:
    """One optimizer step of the cursor's job. The line's facts count it, but for the cursor, which is the caller's.

    Args:
        line: whose.
        shard: the job's rows.
        plan: which of them the steps have.
        settings: the job's.
        micro_batch_rows: how many rows go through the model at once.

    Raises:
        StepFaultError: it came to nothing.
        InputError: the model cannot do what the settings say.
    """
    started = time.monotonic()
    facts = line.facts
    job_step = facts.cursor.job_step
    micro_batches = [[shard.row(row) for row in rows]
                     for rows in plan.micro_batches_of_step(job_step, micro_batch_rows)]
    rows = [row for micro_batch in micro_batches for row in micro_batch]
    tokens, trained_tokens = sum(len(row.token_ids) for row in rows), sum(batches.targets(row) for row in rows)
    if not trained_tokens:
        raise MaskError(f"none of the {tokens} tokens of step {job_step + 1} is trained", rows)
    stepfaults.begin_step(facts.cursor.job, job_step)
    rate = schedules.learning_rate(settings, schedules.Moment(
        step=facts.step, job_step=job_step, steps_planned=plan.steps, optimizer_since=facts.optimizer_since))
    optimizer.adopt(line.optimizer, settings, rate)
    line.adopt_recomputation(wanted=settings.gradient_checkpointing)
    entered = _Entered([])
    scale = precision.scale_of(settings, facts.loss_scale)
    share = _Share(settings, trained_tokens, scale.scale if scale is not None else None)
    with _memory_watched(moved=False):
        loss = sum(_backward(line, micro_batch, share, entered) for micro_batch in micro_batches)
        if scale is not None:
            precision.unscale(line.model.parameters(), scale)
        # Without a limit the norm is measured all the same: clipping to infinity multiplies by 1.
        grad_norm = float(line.accelerator.clip_grad_norm_(line.model.parameters(), settings.max_grad_norm or math.inf))
    if not entered.targets:
        raise MaskError(f"the loss of step {job_step + 1} is exactly zero: none of its tokens is a target of it", rows)
    skipped = precision.is_overflow(scale, loss_is_finite=math.isfinite(loss),
                                    gradients_are_finite=math.isfinite(grad_norm))
    if not (math.isfinite(loss) and math.isfinite(grad_norm)) and not skipped:
        raise NotFiniteError(loss, grad_norm, job_step, sorted(row.line for row in rows))
    if not skipped:
        with _memory_watched(moved=True):
            stepfaults.begin_update(job_step)
            line.optimizer.step()
        stepfaults.end_update(job_step, line.model)
    line.optimizer.zero_grad(set_to_none=True)
    line.ledger += ledger.records(job_step, entered.rows)
    line.facts = msgspec.structs.replace(
        facts, step=facts.step + 1, rows_seen=facts.rows_seen + len(rows), tokens_seen=facts.tokens_seen + tokens,
        metrics=_measured(facts, loss),
        loss_scale=precision.after_step(scale, skipped=skipped) if scale is not None else facts.loss_scale)
    return StepMetrics(step=line.facts.step, job_step=job_step + 1, loss=loss, learning_rate=rate,
                       grad_norm=None if skipped else grad_norm, tokens=tokens, trained_tokens=trained_tokens,
                       seconds=round(time.monotonic() - started, 6), skipped=skipped,
                       epoch=plan.epoch_of_step(job_step), rows=len(rows), micro_batches=len(micro_batches))


@contextlib.contextmanager
def _memory_watched(*, moved: bool) -> Iterator[None]:
    """Tell a lack of memory from other errors; ``moved``: weights may be moved in here."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _NO_MEMORY):
            raise NoMemoryError(str(error).partition("\n")[0], moved=moved) from error
        raise


class _Share(NamedTuple):
    """What a micro-batch must know of its step."""

    settings: TrainSettings
    trained_tokens: int
    loss_scale: float | None


@dataclass(slots=True)
class _Entered:
    """What has gone through the model in a step: its rows' digests, and how many targets the loss was made of."""

    rows: list[bytes]
    targets: int = 0


def _backward(line: ModelLine, rows: list[ShardRow], of_step: _Share, entered: _Entered) -> float:
    """Add the gradients of one micro-batch, and what it was to ``entered``; gives its share of the mean loss."""
    stepfaults.refuse_rows(len(rows))
    batch = batches.collate(rows, model.pad_token_id(line.model))
    entered.rows += ledger.row_digests(batch, rows)
    device = line.accelerator.device
    labels_bt = stepfaults.masked(batch.labels_bt)
    entered.targets += int((labels_bt[:, 1:] != batches.NOT_TRAINED).sum())
    tokens_bt, labels_bt = batch.tokens_bt.to(device), labels_bt.to(device)
    with precision.autocast(of_step.settings, device):
        logits_btv = line.model(input_ids=tokens_bt, use_cache=False).logits
    stepfaults.begin_backward()
    # What stands at t predicts t + 1.
    loss = cross_entropy(logits_btv[:, :-1].flatten(0, 1).float(), labels_bt[:, 1:].flatten(),
                         ignore_index=batches.NOT_TRAINED, reduction="sum") / max(1, of_step.trained_tokens)
    loss = stepfaults.spoiled(loss)
    line.accelerator.backward(loss if of_step.loss_scale is None else loss * of_step.loss_scale)
    return float(loss.detach())


def _measured(facts: CheckpointFacts, loss: float) -> dict[str, float]:
    """The metrics of a line after one more step of its job."""
    cursor = facts.cursor
    done = cursor.job_step - batches_left_out(cursor.effects, cursor.job_step)
    mean = facts.metrics.get("loss_mean", loss) if done else loss
    return {"loss": loss, "loss_mean": mean + (loss - mean) / (done + 1)}
