"""The orders with which the agent has the training process begin on what it has leased."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from services.trainer import wire
from trainq.config import Home
from trainq.errors import TrainqError
from trainq.messages import Lease, RebaseTask, RestoreTask, TaskLease


def train(home: Home, lease: Lease, newest: int) -> wire.Train:
    """Train the leased job; ``newest`` is the highest generation that the agent knows of."""
    return wire.Train(job=lease.job, token=lease.token, shard=str(home.cache / lease.shard),
                      shard_digest=lease.shard_digest, settings=lease.spec.train, journal_seq=lease.seq, newest=newest,
                      effects=lease.effects, name=lease.name, digest=lease.digest, guard=lease.spec.guard)


def line_task(lease: TaskLease, newest: int) -> wire.Restore | wire.Rebase:
    """Have another state of the line published, as the leased task says.

    Raises:
        TrainqError: it is neither a restore nor a rebase.
    """
    match lease.task:
        case RestoreTask() as task:
            return wire.Restore(job=lease.job, store=task.store, name=task.name, journal_seq=lease.seq, newest=newest)
        case RebaseTask() as task:
            return wire.Rebase(job=lease.job, source=task.source, lora=task.lora, seed=task.seed, warmup=task.warmup,
                               journal_seq=lease.seq, newest=newest)
        case task:
            raise TrainqError(f"{lease.job} is a {type(task).__name__}: it publishes no generation")


def size_bytes(folder: Path) -> int:
    """What the files of a folder take; 0 if it is not there."""
    with contextlib.suppress(OSError):
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    return 0
