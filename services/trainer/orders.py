"""The orders with which the agent has the training process begin on what it has leased."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from services.trainer import wire
from trainq.config import Home
from trainq.errors import TrainqError
from trainq.messages import Lease, RestoreTask, TaskLease


def train(home: Home, lease: Lease, newest: int) -> wire.Train:
    """Train the leased job; ``newest`` is the highest generation that the agent knows of."""
    return wire.Train(job=lease.job, token=lease.token, shard=str(home.cache / lease.shard),
                      shard_digest=lease.shard_digest, settings=lease.spec.train, journal_seq=lease.seq, newest=newest)


def restore(lease: TaskLease, newest: int) -> wire.Restore:
    """Restore what the leased task names.

    Raises:
        TrainqError: it is no restore.
    """
    task = lease.task
    if not isinstance(task, RestoreTask):
        raise TrainqError(f"{lease.job} is a {type(task).__name__}, no restore")
    return wire.Restore(job=lease.job, store=task.store, name=task.name, journal_seq=lease.seq, newest=newest)


def size_bytes(folder: Path) -> int:
    """What the files of a folder take; 0 if it is not there."""
    with contextlib.suppress(OSError):
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    return 0
