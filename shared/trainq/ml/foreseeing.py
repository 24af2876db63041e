"""How well a model foresees rows: the mean loss of each, over exactly the tokens that training would train.

Rows are encoded, masked and collated by the code of the preparer and of the training loop, so that what is measured is
what is learned; only the mean is another one: each row's own, whatever the others are.

Shape suffixes: b rows, t tokens, v vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from trainq.ml import batches
from trainq.ml import model as models
from trainq.ml.answering import TimeIsOverError
from trainq.shards import ShardRow
from trainq.textcodec import EncodedRow

# The logits of a pass, in float32: with a vocabulary of 250,000 a single row of 1,024 tokens has a gigabyte of them.
_LOGITS_BYTES = 512 * 1024 * 1024


class Foreseen(NamedTuple):
    """The mean loss of a row in nats a token, over ``tokens`` trained tokens."""

    loss: float
    tokens: int


def losses(model: Any, rows: Sequence[EncodedRow], *, batch_rows: int, deadline: float,
           told: Callable[[int], None] = lambda _: None) -> list[Foreseen]:
    """The loss of each row, in their order.

    Args:
        model: in evaluation mode, wherever it is to be computed.
        rows: each with a trained token, and none longer than the model's context.
        batch_rows: how many go through the model at once, at most.
        deadline: on the monotonic clock.
        told: is given the number of rows that are done, after each batch.

    Raises:
        TimeIsOverError: the deadline came first.
    """
    order = sorted(range(len(rows)), key=lambda row: (-len(rows[row].token_ids), row))
    found: dict[int, Foreseen] = {}
    vocabulary = int(model.config.get_text_config().vocab_size)
    start = 0
    while start < len(order):
        if time.monotonic() >= deadline:
            raise TimeIsOverError(len(found))
        longest = len(rows[order[start]].token_ids)
        size = max(1, min(batch_rows, _LOGITS_BYTES // (4 * longest * vocabulary)))
        taken = order[start:start + size]
        found.update(zip(taken, _batch(model, [rows[row] for row in taken]), strict=True))
        start += size
        told(len(found))
    return [found[row] for row in range(len(rows))]


def _batch(model: Any, rows: Sequence[EncodedRow]) -> list[Foreseen]:
    of_shard = [ShardRow(np.asarray(row.token_ids, dtype=np.int64), np.asarray(row.trained, dtype=np.bool_), b"", 0)
                for row in rows]
    batch = batches.collate(of_shard, models.pad_token_id(model))
    labels_bt = batch.labels_bt.to(model.device)
    with torch.inference_mode():
        logits_btv = model(input_ids=batch.tokens_bt.to(model.device), use_cache=False).logits
        # What stands at t predicts t + 1.
        losses_bt = cross_entropy(logits_btv[:, :-1].flatten(0, 1).float(), labels_bt[:, 1:].flatten(),
                                  ignore_index=batches.NOT_TRAINED, reduction="none").view(len(rows), -1)
        sums = losses_bt.double().sum(dim=1).tolist()
    return [Foreseen(total / tokens, tokens)
            for total, tokens in zip(sums, map(batches.targets, of_shard), strict=True)]
