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

# The logits of a pass, in float32: with a vocabulary of 250,000 a single row of 1,024 tokens has a gigabyte of them. So
# a row by itself goes through in pieces, each with the keys and values of those before.
_LOGITS_BYTES = 512 * 1024 * 1024


class Pass(NamedTuple):
    """What goes through the model together: these rows, by their numbers, padded to ``tokens``; ``at_once`` tokens of
    each at a time, for so many logits there is room."""

    rows: list[int]
    tokens: int
    at_once: int


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
    found: dict[int, Foreseen] = {}
    for each in passes(model, rows, batch_rows):
        if time.monotonic() >= deadline:
            raise TimeIsOverError(len(found))
        found.update(zip(each.rows, _batch(model, [rows[row] for row in each.rows], each.at_once), strict=True))
        told(len(found))
    return [found[row] for row in range(len(rows))]


def passes(model: Any, rows: Sequence[EncodedRow], batch_rows: int) -> list[Pass]:
    """How the rows go through the model, ``batch_rows`` of them at once at most: the longest first."""
    order = sorted(range(len(rows)), key=lambda row: (-len(rows[row].token_ids), row))
    most_logits = _LOGITS_BYTES // (4 * int(model.config.get_text_config().vocab_size))
    found: list[Pass] = []
    start = 0
    while start < len(order):
        longest = len(rows[order[start]].token_ids)
        size = max(1, min(batch_rows, most_logits // longest))
        found.append(Pass(order[start:start + size], longest, min(longest, max(1, most_logits // size))))
        start += size
    return found


def _batch(model: Any, rows: Sequence[EncodedRow], at_once: int) -> list[Foreseen]:
    of_shard = [ShardRow(np.asarray(row.token_ids, dtype=np.int64), np.asarray(row.trained, dtype=np.bool_), b"", 0)
                for row in rows]
    batch = batches.collate(of_shard, models.pad_token_id(model))
    labels_bt = batch.labels_bt.to(model.device)
    with torch.inference_mode():
        sums = _sums(model, batch.tokens_bt.to(model.device), labels_bt, at_once).tolist()
    return [Foreseen(total / tokens, tokens)
            for total, tokens in zip(sums, map(batches.targets, of_shard), strict=True)]


def _sums(model: Any, tokens_bt: torch.Tensor, labels_bt: torch.Tensor, at_once: int) -> torch.Tensor:
    """The summed losses of rows, in double precision; shape (b,). What stands at t predicts t + 1."""
    if at_once < tokens_bt.shape[1]:
        sums_b = _sums_in_pieces(model, tokens_bt, labels_bt, at_once)
        if sums_b is not None:
            return sums_b
    logits_btv = model(input_ids=tokens_bt, use_cache=False).logits
    return _losses(logits_btv[:, :-1], labels_bt[:, 1:])


def _sums_in_pieces(model: Any, tokens_bt: torch.Tensor, labels_bt: torch.Tensor, at_once: int) -> torch.Tensor | None:
    """The same, a piece of each row at a time; None of a model that keeps no keys and values: that takes them whole."""
    last = tokens_bt.shape[1] - 1
    sums_b = torch.zeros(len(tokens_bt), dtype=torch.float64, device=tokens_bt.device)
    cache: dict[str, Any] = {}
    for start in range(0, last, at_once):
        end = min(start + at_once, last)
        found = model(input_ids=tokens_bt[:, start:end], use_cache=True, **cache)
        cache = {"past_key_values": getattr(found, "past_key_values", None)}
        if cache["past_key_values"] is None:
            return None
        sums_b += _losses(found.logits, labels_bt[:, start + 1:end + 1])
    return sums_b


def _losses(logits_btv: torch.Tensor, labels_bt: torch.Tensor) -> torch.Tensor:
    losses = cross_entropy(logits_btv.flatten(0, 1).float(), labels_bt.flatten(), ignore_index=batches.NOT_TRAINED,
                           reduction="none")
    return losses.view(len(labels_bt), -1).double().sum(dim=1)
