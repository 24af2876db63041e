"""One optimizer step: rows of the plan, forward and backward in micro-batches, clip, AdamW.

The loss is divided by the trained tokens of the whole step, so that uneven micro-batches count as one batch.

Shape suffixes: b rows of a micro-batch, t tokens of its longest row, v vocabulary.
"""

from __future__ import annotations

import math
import time

import msgspec
from torch.nn.functional import cross_entropy

from trainq.checkpoints import CheckpointFacts
from trainq.config import TrainSettings
from trainq.errors import InputError
from trainq.ml import batches, ledger, model, optimizer
from trainq.ml.line import ModelLine
from trainq.ml.metrics import StepMetrics
from trainq.shards import Shard, ShardRow


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
        InputError: a loss or a gradient that is no finite number; the optimizer has not moved.
    """
    started = time.monotonic()
    facts = line.facts
    job_step = facts.cursor.job_step
    micro_batches = [[shard.row(row) for row in rows]
                     for rows in plan.micro_batches_of_step(job_step, micro_batch_rows)]
    rows = [row for micro_batch in micro_batches for row in micro_batch]
    tokens, trained_tokens = sum(len(row.token_ids) for row in rows), sum(batches.targets(row) for row in rows)
    rate = optimizer.adopt(line.optimizer, settings, facts.step)
    entered: list[bytes] = []
    loss = sum(_backward(line, micro_batch, trained_tokens, entered) for micro_batch in micro_batches)
    grad_norm = float(line.accelerator.clip_grad_norm_(line.model.parameters(), settings.max_grad_norm))
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        lines = sorted(row.line for row in rows)
        raise InputError(f"loss {loss} and gradient norm {grad_norm} at step {job_step + 1}: not finite numbers",
                         mend=f"lower the learning rate, or look at the lines {lines[:32]} of the file")
    line.optimizer.step()
    line.optimizer.zero_grad(set_to_none=True)
    line.ledger += ledger.records(job_step, entered)
    line.facts = msgspec.structs.replace(
        facts, step=facts.step + 1, rows_seen=facts.rows_seen + len(rows), tokens_seen=facts.tokens_seen + tokens,
        metrics=_measured(facts, loss))
    return StepMetrics(step=line.facts.step, job_step=job_step + 1, loss=loss, learning_rate=rate, grad_norm=grad_norm,
                       tokens=tokens, trained_tokens=trained_tokens, seconds=round(time.monotonic() - started, 6),
                       epoch=plan.epoch_of_step(job_step), rows=len(rows), micro_batches=len(micro_batches))


def _backward(line: ModelLine, rows: list[ShardRow], trained_tokens_of_step: int, entered: list[bytes]) -> float:
    """Add the gradients of one micro-batch, and its rows' digests to ``entered``; gives its share of the mean loss."""
    batch = batches.collate(rows, model.pad_token_id(line.model))
    entered += ledger.row_digests(batch, rows)
    device = line.accelerator.device
    tokens_bt, labels_bt = batch.tokens_bt.to(device), batch.labels_bt.to(device)
    logits_btv = line.model(input_ids=tokens_bt, use_cache=False).logits
    # What stands at t predicts t + 1.
    loss = cross_entropy(logits_btv[:, :-1].flatten(0, 1).float(), labels_bt[:, 1:].flatten(),
                         ignore_index=batches.NOT_TRAINED, reduction="sum") / max(1, trained_tokens_of_step)
    line.accelerator.backward(loss)
    return float(loss.detach())


def _measured(facts: CheckpointFacts, loss: float) -> dict[str, float]:
    """The metrics of a line after one more step of its job."""
    done = facts.cursor.job_step
    mean = facts.metrics.get("loss_mean", loss) if done else loss
    return {"loss": loss, "loss_mean": mean + (loss - mean) / (done + 1)}
