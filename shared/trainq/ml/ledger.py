"""The ledger of a job: which rows entered which of its steps, taken from the tensors that the model was given.

One record of ``RECORD_BYTES`` for each row of each step that was done, in the order of the steps: the job's step
(uint32, little endian, counted from 0), then the first 16 bytes of the BLAKE3 of the row. What is hashed are the row's
token ids as uint32, little endian, and behind them one byte a token: 1 where the label at that place is that very
token, else 0. (The length says where the ids end: five bytes a token. These are the bytes that a shard's
``tokens.bin`` and ``trained.bin`` hold for the row, so that anybody can compare without this module.)

It lies in each checkpoint as ``ledger.bin`` and covers the cursor's job up to the cursor: like the cursor it goes on
when a job is resumed, begins empty with each job, and goes back when a job is taken back. It exists to convict a
resume that left out or repeated rows; nothing is ever decided by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from blake3 import blake3

from trainq.checkpoints import Cursor
from trainq.errors import DamageError
from trainq.ml.batches import Batch
from trainq.shards import ShardRow

NAME = "ledger.bin"
DIGEST_BYTES = 16
STEP_BYTES = 4
RECORD_BYTES = STEP_BYTES + DIGEST_BYTES


def row_digests(batch: Batch, rows: Sequence[ShardRow]) -> list[bytes]:
    """The digests of a micro-batch's rows, from its tensors; of ``rows`` only the lengths are used."""
    tokens_bt, labels_bt = batch.tokens_bt.numpy(), batch.labels_bt.numpy()
    ids_bt, trained_bt = tokens_bt.astype("<u4"), (labels_bt == tokens_bt).view(np.uint8)
    return [_digest(ids_bt[index, :len(row.token_ids)].tobytes(), trained_bt[index, :len(row.token_ids)].tobytes())
            for index, row in enumerate(rows)]


def row_digest(row: ShardRow) -> bytes:
    """The digest that the row has in a ledger."""
    return _digest(row.token_ids.astype("<u4").tobytes(), row.trained.astype(np.uint8).tobytes())


def records(job_step: int, digests: Sequence[bytes]) -> bytes:
    """What a step adds to the ledger."""
    step = job_step.to_bytes(STEP_BYTES, "little")
    return b"".join(step + digest for digest in digests)


def steps_of(content: bytes, digest: bytes) -> list[int]:
    """The steps, counted from 0, which a row of this digest entered, as far as the ledger reaches."""
    entries = np.frombuffer(content[:len(content) - len(content) % RECORD_BYTES],
                            dtype=[("step", "<u4"), ("digest", f"V{DIGEST_BYTES}")])
    steps: list[int] = entries["step"][entries["digest"] == np.void(digest)].tolist()
    return steps


def check(content: bytes | None, cursor: Cursor, path: str) -> bytearray:
    """The ledger of a checkpoint, fit to go on.

    Args:
        content: of the file; None if there is none, as in checkpoints of before there were ledgers. (That a file is
            there which the manifest names was proven before.)
        cursor: the checkpoint's.
        path: of the file, for the error.

    Raises:
        DamageError: it does not reach exactly to the cursor.
    """
    ledger = bytearray(content or b"")
    if content is None or (not ledger and cursor.done):
        return ledger  # what is not in it cannot be proven; the checker says so
    reached = int.from_bytes(ledger[-RECORD_BYTES:][:STEP_BYTES], "little") + 1 if ledger else 0
    if len(ledger) % RECORD_BYTES or reached != cursor.last_trained_step:
        raise DamageError(path, f"its {len(ledger)} bytes reach to step {reached}, the cursor to "
                          f"{cursor.last_trained_step}")
    return ledger


def _digest(ids: bytes, trained: bytes) -> bytes:
    return blake3(ids + trained).digest(length=DIGEST_BYTES)
