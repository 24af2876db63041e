"""Training one job on the model line, step by step, until it is done or somebody wants it otherwise.

A step is :mod:`trainq.ml.stepping`'s. The line's optimizer, schedule and global step go on from file to file. Between
steps, and only there, the observer is asked what it wants. A job is done exactly when ``job_step == steps_planned > 0``
is published.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from trainq import crashpoints, room
from trainq.checkpoints import Cursor, Reason
from trainq.config import Home, TrainSettings
from trainq.errors import DamageError, InputError, OtherModelError, ShardLostError
from trainq.ml import batches, checkpointing, determinism, model, stepping
from trainq.ml.checkpointing import Publication
from trainq.ml.line import ModelLine
from trainq.ml.metrics import MetricsFile, StepMetrics, open_metrics
from trainq.ml.pacing import Pace
from trainq.shards import Shard
from trainq.textcodec import TextCodec


class Wish(StrEnum):
    """What the observer wants at a step boundary."""

    GO_ON = "go_on"
    STOP = "stop"
    CANCEL = "cancel"


class Ending(StrEnum):
    """How :func:`train` left the job."""

    FINISHED = "finished"
    STOPPED = "stopped"
    CANCELLED = "cancelled"


class Observer(Protocol):
    """Who is told and asked. Called in the training loop: it must not wait for anything."""

    def wish(self) -> Wish:
        """Asked before each step."""
        ...

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        """A step is done."""
        ...

    def publishing(self, size_bytes: int, *, waits: bool) -> None:
        """A generation of about this size is about to be written; ``waits``: no step is done until it is."""
        ...

    def published(self, publication: Publication) -> None:
        """A generation is on disk. What was written beside the steps is told of at the next step boundary."""
        ...

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        """The steps that follow are computed on something else than the head was: bits do not repeat across it.

        Called before the job's first step of now, with the keys that differ. What it raises ends :func:`train` with
        nothing changed.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be trained. ``journal_seq`` goes into the checkpoints that cover it."""

    id: str
    token: int
    shard: Path
    shard_digest: str
    settings: TrainSettings
    journal_seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How the job was left. Losses are those of the job's first and last step, if there were any."""

    ending: Ending
    first_loss: float | None
    last_loss: float | None


def train(line: ModelLine, job: Job, home: Home, observer: Observer) -> Outcome:
    """Train ``job`` from where the line's cursor says, to its end or until the observer wants otherwise.

    A cancelled job leaves its steps in memory: follow with :func:`trainq.ml.checkpointing.take_back`.

    Raises:
        InputError: the job's fault: no rows, rows that do not fit the model, numbers that are not finite, another shard
            than the one it began with.
        ShardLostError: the shard is not there, or is not what its digest says.
        StorageError, StorageFullError: a checkpoint or the metrics could not be written.
    """
    if line.head is not None and line.head.cursor.job == job.id and line.head.cursor.done:
        with open_metrics(home.metrics, job.id, line.head.cursor.steps_planned) as metrics:
            return Outcome(ending=Ending.FINISHED, first_loss=metrics.first_loss, last_loss=metrics.last_loss)
    determinism.set_threads(job.settings.threads)
    with _open_shard(job.shard) as shard:
        plan = _plan(line, job, home, shard)
        # Else the steps until the first checkpoint would be done for nothing.
        room.refuse_without(home.checkpoints, line.checkpoint_bytes, "the job's first checkpoint")
        _tell_changed_fingerprint(line, job, observer)
        _place_cursor(line, job, plan)
        with open_metrics(home.metrics, job.id, line.facts.cursor.job_step) as metrics:
            run = _Run(line, job, home, observer, shard, plan, metrics, checkpointing.Beside(line, home),
                       Pace(job.settings, last_at=time.monotonic()))
            try:
                ending = _run(run)
            finally:
                run.settle(wait=True)
            return Outcome(ending=ending, first_loss=metrics.first_loss, last_loss=metrics.last_loss)


@dataclass(frozen=True, slots=True)
class _Run:
    line: ModelLine
    job: Job
    home: Home
    observer: Observer
    shard: Shard
    plan: batches.Plan
    metrics: MetricsFile
    beside: checkpointing.Beside
    pace: Pace

    def publish(self, reason: Reason) -> None:
        """Wait until the state of now is on the disk."""
        self.settle(wait=True)
        self.metrics.sync()
        self.observer.publishing(self.line.checkpoint_bytes, waits=True)
        self.observer.published(checkpointing.publish(self.line, self.home, reason))

    def publish_beside(self, reason: Reason) -> None:
        """Copy the state of now, and have it written while steps go on; not while another one is."""
        self.observer.publishing(self.line.checkpoint_bytes, waits=False)
        self.beside.begin(reason, self.metrics.sync)
        self.pace.last_at = time.monotonic()

    def settle(self, *, wait: bool) -> None:
        """Make what was written beside the steps the head, if it is done; raises what it failed with."""
        if wait and self.beside.is_busy:
            self.observer.publishing(self.line.checkpoint_bytes, waits=True)
        publication = self.beside.take(wait=wait)
        if publication is not None:
            self.pace.cost_seconds = publication.cost_seconds
            self.observer.published(publication)


def _run(run: _Run) -> Ending:
    line, settings = run.line, run.job.settings
    while not line.facts.cursor.done:
        wish = run.observer.wish()
        if wish is Wish.CANCEL:
            return Ending.CANCELLED
        if wish is Wish.STOP:
            run.settle(wait=True)
            if line.has_unpublished_steps:
                run.publish("stop")
            return Ending.STOPPED
        metrics = stepping.step(line, run.shard, run.plan, settings)
        run.metrics.append(metrics)
        run.observer.stepped(metrics, line.facts.cursor)
        crashpoints.reach("training.stepped")
        run.settle(wait=False)
        if line.facts.cursor.done:
            run.publish("job_end")
        elif not run.beside.is_busy and run.pace.is_due(time.monotonic(), line.unpublished_steps):
            run.publish_beside("interval")
    return Ending.FINISHED


@functools.lru_cache(maxsize=1)
def _codec_digest(home: Home, checkpoint: str) -> str:
    return TextCodec.load(home.checkpoints / checkpoint).digest


def _open_shard(path: Path) -> Shard:
    try:
        return Shard.open(path, verify=True)
    except DamageError as error:
        raise ShardLostError(error.path, error.reason, mend="it is made again from the file") from error


def _plan(line: ModelLine, job: Job, home: Home, shard: Shard) -> batches.Plan:
    if shard.digest != job.shard_digest:
        raise ShardLostError(str(job.shard), f"it is the shard {shard.digest}, the job asks for {job.shard_digest}",
                          mend="prepare the file again")
    # The line's own tokenizer lies in its head; a shard of another one would train garbage without an error.
    if shard.facts.codec and line.head is not None and shard.facts.codec != _codec_digest(home, line.head.name):
        raise OtherModelError("the file was prepared with another tokenizer or template than this model line has",
                              mend="a home has one model line: set [model] path back, or use another home")
    if not shard.rows:
        raise InputError("there is no row to train", mend="look at the report of the preparation")
    context = model.context_tokens(line.model)
    if context is not None and shard.facts.longest_row_tokens > context:
        raise InputError(f"a row has {shard.facts.longest_row_tokens} tokens, the model takes {context}",
                         mend="prepare the file for this model")
    return batches.Plan(shard.digest, shard.lengths(), job.settings)


def _place_cursor(line: ModelLine, job: Job, plan: batches.Plan) -> None:
    """Go on in the job if the line is in it, else begin it; either way under the lease of now."""
    cursor = line.facts.cursor
    if cursor.job == job.id:
        if (cursor.shard, cursor.steps_planned) != (job.shard_digest, plan.steps):
            raise InputError(f"the job began with shard {cursor.shard} and {cursor.steps_planned} steps, and is to go "
                             f"on with shard {job.shard_digest} and {plan.steps} steps", mend="begin it again")
        cursor = msgspec.structs.replace(cursor, token=job.token)
        base = line.facts.base
    else:
        cursor = Cursor(job=job.id, token=job.token, shard=job.shard_digest, steps_planned=plan.steps)
        base = line.head.name if line.head else ""
        line.ledger = bytearray()
    line.facts = msgspec.structs.replace(line.facts, cursor=cursor, base=base, journal_seq=job.journal_seq)


def _tell_changed_fingerprint(line: ModelLine, job: Job, observer: Observer) -> None:
    """Compare what computes now with what computed the head.

    Threads may differ between jobs where the job itself says how many it wants; what no job has trained yet (fresh
    weights) does not depend on them.
    """
    if line.head is None:
        return
    before, after = line.head.fingerprint, determinism.fingerprint(line.accelerator.device)
    cursor = line.head.cursor
    ignored = {"threads"} if not cursor.job or (cursor.job != job.id and job.settings.threads) else set()
    changed = sorted(key for key in (before.keys() | after.keys()) - ignored if before.get(key) != after.get(key))
    if changed:
        observer.fingerprint_changed({key: before.get(key, "") for key in changed},
                                     {key: after.get(key, "") for key in changed})
