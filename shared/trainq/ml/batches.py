"""Which rows a step trains, and as what tensors. A pure function of shard digest, lengths, settings and position.

Each epoch goes through the rows in an order of its own, drawn from BLAKE3's extendable output over (seed, shard digest,
epoch): the same on every machine and with every version of every library. Inside windows of ``WINDOW_BATCHES`` batches
the rows are sorted by length, so that a batch is padded little, and the batches are then shuffled. An epoch's last
batch may be smaller than the others; no row is left out or taken twice.

Shape suffixes: b rows of a micro-batch, t tokens of its longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray

from trainq.config import TrainSettings
from trainq.shards import ShardRow

# Labels with this value are no target (torch.nn.functional.cross_entropy's default ``ignore_index``).
NOT_TRAINED = -100
# Wide enough that neighbours in length meet, narrow enough that the order stays close to a shuffle of the epoch.
WINDOW_BATCHES = 8
_DOMAIN = b"trainq batches 1"
_WORD = np.dtype("<u8")

Int64Array: TypeAlias = NDArray[np.int64]


class Plan:
    """The batches of one job. ``steps`` optimizer steps in all; step numbers count from 0 through all epochs."""

    def __init__(self, shard_digest: str, lengths: Int64Array, settings: TrainSettings) -> None:
        self._digest, self._lengths, self._seed = shard_digest, lengths, settings.seed
        self._batch_rows = settings.batch_rows
        self.rows = len(lengths)
        self.steps_per_epoch = -(-self.rows // self._batch_rows)
        self.steps = self.steps_per_epoch * settings.epochs
        self._order_of: tuple[int, Int64Array] | None = None

    def epoch_of_step(self, step: int) -> int:
        """The epoch, counted from 0, in which ``step`` lies."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        return step // self.steps_per_epoch

    def rows_of_step(self, step: int) -> list[int]:
        """The rows of one optimizer step. Constant time, but for the first step asked of an epoch."""
        epoch = self.epoch_of_step(step)
        if self._order_of is None or self._order_of[0] != epoch:
            self._order_of = (epoch, self._order(epoch))
        start = step % self.steps_per_epoch * self._batch_rows
        rows: list[int] = self._order_of[1][start:start + self._batch_rows].tolist()
        return rows

    def micro_batches_of_step(self, step: int, size: int) -> list[list[int]]:
        """The same rows, cut into pieces of ``size`` that go through the model at once; like lengths lie together."""
        rows = sorted(self.rows_of_step(step), key=lambda row: (int(self._lengths[row]), row))
        return [rows[start:start + size] for start in range(0, len(rows), size)]

    def _order(self, epoch: int) -> Int64Array:
        full_batches = self.rows // self._batch_rows
        row_keys, batch_keys = np.split(self._draw(epoch, self.rows + full_batches), [self.rows])
        shuffled = np.argsort(row_keys, kind="stable")
        window_rows = WINDOW_BATCHES * self._batch_rows
        windows = np.arange(self.rows) // window_rows
        by_length = shuffled[np.lexsort((self._lengths[shuffled], windows))]
        # The batches of a window change places among themselves; a partial one stays at the end.
        batches = np.lexsort((batch_keys, np.arange(full_batches) // WINDOW_BATCHES))
        whole = by_length[:full_batches * self._batch_rows].reshape(full_batches, self._batch_rows)[batches].ravel()
        order: Int64Array = np.concatenate((whole, by_length[full_batches * self._batch_rows:])).astype(np.int64)
        return order

    def _draw(self, epoch: int, words: int) -> NDArray[np.uint64]:
        hasher = blake3(_DOMAIN)
        for number in (self._seed, epoch):
            hasher.update(number.to_bytes(8, "little"))
        hasher.update(self._digest.encode())
        return np.frombuffer(hasher.digest(length=words * _WORD.itemsize), dtype=_WORD)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: ``tokens_bt``, ``labels_bt`` (already at the position of the token that they name)."""

    tokens_bt: torch.Tensor
    labels_bt: torch.Tensor


def targets(row: ShardRow) -> int:
    """How many tokens of a row the loss counts: the trained ones but for the first, which nothing predicts."""
    return int(np.count_nonzero(row.trained[1:]))


def collate(rows: Sequence[ShardRow], pad_token_id: int) -> Batch:
    """Pad on the right to the longest row.

    There is no attention mask: with causal attention nothing that is trained ever sees what stands to its right.
    """
    longest = max(len(row.token_ids) for row in rows)
    tokens_bt = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    labels_bt = np.full((len(rows), longest), NOT_TRAINED, dtype=np.int64)
    for index, row in enumerate(rows):
        length = len(row.token_ids)
        tokens_bt[index, :length] = row.token_ids
        labels_bt[index, :length] = np.where(row.trained, row.token_ids, NOT_TRAINED)
    return Batch(torch.from_numpy(tokens_bt), torch.from_numpy(labels_bt))
