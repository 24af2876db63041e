"""Training one job on the model line, step by step, until it is done or somebody wants it otherwise.

A step is :mod:`trainq.ml.stepping`'s. The line's optimizer, schedule and global step go on from file to file. Between
steps, and only there, the observer is asked what it wants. A job is done exactly when ``job_step == steps_planned > 0``
is published.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from trainq import checkpoints, crashpoints, room
from trainq.checkpoints import Cursor, Reason
from trainq.config import GuardSettings, Home, TrainSettings
from trainq.errors import (
    InputError,
    StorageError,
    WeightsNotFiniteError,
)
from trainq.jobs import Effect, EffectKind, batches_left_out
from trainq.ml import adapter, batches, checkpointing, determinism, guarding, guards, opening
from trainq.ml.checkpointing import Publication
from trainq.ml.effects import Effects
from trainq.ml.hostmemory import HostMemoryShortError
from trainq.ml.line import ModelLine
from trainq.ml.metrics import MetricsFile, StepMetrics, open_metrics
from trainq.ml.pacing import Pace
from trainq.shards import Shard

DEFAULT_GUARD = GuardSettings()


class OtherEffectsError(StorageError):
    """What lies on the disk was trained otherwise than the journal has it: no file's fault, and nothing to train on."""


class Wish(StrEnum):
    """What the observer wants at a step boundary."""

    GO_ON = "go_on"
    # Publish what there is, and go on; wished for once.
    CHECKPOINT = "checkpoint"
    # The steps that are done are all of the job.
    KEEP = "keep"
    CANCEL = "cancel"
    STOP = "stop"


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

    def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
        """Have the journal record these effects, and wait for it; false if the job is to be left before that.

        Only then may the first of their steps be done.
        """
        ...

    def taken_back(self, reason: str) -> None:
        """The steps since the newest generation are undone, and are done again as they were."""
        ...

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        """The steps that follow are computed on something else than the head was: bits do not repeat across it.

        Called before the job's first step of now, with the keys that differ. What it raises ends :func:`train` with
        nothing changed.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be trained, with the effects that the journal has. ``journal_seq`` goes into its checkpoints.

    So do ``name`` and ``digest``, the file's, for people and programs: nothing is decided by them. ``fitting_rows``: so
    many rows at once have fitted into memory where more had not; 0 if nothing is known.
    """

    id: str
    token: int
    shard: Path
    shard_digest: str
    settings: TrainSettings
    journal_seq: int
    effects: tuple[Effect, ...] = ()
    name: str = ""
    digest: str = ""
    guard: GuardSettings = DEFAULT_GUARD
    fitting_rows: int = 0


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
        InputError: the job's fault: no rows, rows that do not fit the model, too many numbers that are not finite, or
            another shard than the one it began with; MaskingError where trying again changes nothing.
        ShardLostError: the shard is not there, or is not what its digest says.
        StorageError, StorageFullError: a checkpoint or the metrics could not be written.
    """
    if line.head is not None and line.head.cursor.job == job.id and line.head.cursor.done:
        with open_metrics(home.metrics, job.id, line.head.cursor.steps_planned) as metrics:
            return Outcome(ending=Ending.FINISHED, first_loss=metrics.first_loss, last_loss=metrics.last_loss)
    determinism.set_threads(job.settings.threads)
    with opening.open_shard(job.shard) as shard:
        plan = opening.plan(line, home, shard, job.shard_digest, job.settings)
        # Else the steps until the first checkpoint would be done for nothing.
        room.refuse_without(home.checkpoints, line.checkpoint_bytes, "the job's first checkpoint")
        _tell_changed_fingerprint(line, job, observer)
        effects = Effects(job.effects)
        _place_cursor(line, job, plan, effects)
        with open_metrics(home.metrics, job.id, line.facts.cursor.job_step) as metrics:
            run = Run(line, job, home, observer, shard, plan, metrics, effects, checkpointing.Beside(line, home),
                      Pace(job.settings, last_at=time.monotonic(), cost_seconds=line.checkpoint_cost_seconds),
                      guards.History(job.guard, metrics.newest_first()))
            try:
                ending = _run(run)
            finally:
                # Who leaves the job, or fails it, has no use for such a state, and nobody publishes it.
                with contextlib.suppress(WeightsNotFiniteError):
                    run.settle(wait=True)
            return Outcome(ending=ending, first_loss=metrics.first_loss, last_loss=metrics.last_loss)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job: all that its steps need, until the job is done or left."""

    line: ModelLine
    job: Job
    home: Home
    observer: Observer
    shard: Shard
    plan: batches.Plan
    metrics: MetricsFile
    effects: Effects
    beside: checkpointing.Beside
    pace: Pace
    history: guards.History
    search: guards.Search = field(default_factory=guards.Search)

    @property
    def steps_planned(self) -> int:
        """How many steps are all of the job."""
        return self.effects.steps_planned(self.plan.steps)

    @property
    def head_step(self) -> int:
        """How many of the job's steps the newest generation covers."""
        head = self.line.head
        return head.cursor.job_step if head is not None and head.cursor.job == self.job.id else 0

    def publish(self, reason: Reason) -> Publication:
        """Wait until the state of now is on the disk."""
        self.settle(wait=True)
        self.metrics.sync()
        self.observer.publishing(self.line.checkpoint_bytes, waits=True)
        publication = checkpointing.publish(self.line, self.home, reason)
        self.observer.published(publication)
        return publication

    def publish_if_due(self) -> None:
        """Copy the state of now, and have it written while steps go on; not while another one is.

        Nor beside a batch that is left out: what the line may have to go back to should be older than that.
        """
        job_step = self.line.facts.cursor.job_step
        if self.effects.skips(job_step - 1) or self.effects.skips(job_step):
            return
        if self.beside.is_busy or not self.line.has_unpublished_steps:
            return
        unpublished = self.line.unpublished_steps
        if unpublished < guards.MOST_UNPUBLISHED and not self.pace.is_due(time.monotonic(), unpublished):
            return
        reason: Reason = "asked" if self.pace.asked else "interval"
        self.observer.publishing(self.line.checkpoint_bytes, waits=False)
        try:
            self.beside.begin(reason, self.metrics.sync)
        except HostMemoryShortError:
            # From where it lies, while the steps wait: that is what the next one is going to cost, too.
            self.pace.cost_seconds = self.line.checkpoint_cost_seconds = self.publish(reason).cost_seconds
        self.pace.begun(time.monotonic())

    def settle(self, *, wait: bool) -> None:
        """Make what was written beside the steps the head, if it is done; raises what it failed with."""
        if wait and self.beside.is_busy:
            self.observer.publishing(self.line.checkpoint_bytes, waits=True)
        publication = self.beside.take(wait=wait)
        if publication is not None:
            self.pace.cost_seconds = self.line.checkpoint_cost_seconds = publication.cost_seconds
            self.observer.published(publication)

    def back_to_head(self) -> None:
        """Forget what the newest generation does not hold, and stand where it does in the job.

        Raises:
            DamageError: it does not verify; nothing was changed. After any other error the line may be released.
        """
        self.settle(wait=True)
        assert self.line.head is not None
        # Reading it takes about as long as writing it; the weights under an adapter are read and proven, too.
        self.observer.publishing(self.line.checkpoint_bytes + self.line.model_bytes, waits=True)
        verified = checkpoints.verify(self.home.checkpoints / self.line.head.name)
        self.line.become(checkpointing.restore_instead(self.line, verified))
        _place_cursor(self.line, self.job, self.plan, self.effects)
        self.metrics.cut(self.line.facts.cursor.job_step)
        self.history.rebuild(self.metrics.newest_first())


def _run(run: Run) -> Ending:
    guarding.begin(run)
    ending: Ending | None = None
    while ending is None:
        try:
            ending = _turn(run)
        except WeightsNotFiniteError as error:
            guarding.take_back(run, error)
    return ending


def _turn(run: Run) -> Ending | None:
    """Do what is wished for, and the next step; None while there is more to do.

    Raises:
        WeightsNotFiniteError: the state of now, or an earlier one that was being written, is not fit to be published.
    """
    line = run.line
    if _is_all_done(run):
        run.publish("job_end")
        return Ending.FINISHED
    match run.observer.wish():
        case Wish.CANCEL:
            return Ending.CANCELLED
        case Wish.STOP:
            _save(run)
            return Ending.STOPPED
        case Wish.KEEP if run.steps_planned == run.plan.steps:
            done = line.facts.cursor.job_step
            if done == batches_left_out(line.facts.cursor.effects, done):
                return Ending.CANCELLED  # there is nothing to keep
            _cut(run)
            return None
        case Wish.CHECKPOINT:
            run.pace.asked = True
            run.publish_if_due()
        case _:
            pass  # also where it is cut already, whatever is asked for again
    _do_step(run)
    run.settle(wait=False)
    if line.facts.cursor.done:
        run.publish("job_end")
        return Ending.FINISHED
    run.publish_if_due()
    return None


def _save(run: Run) -> None:
    """Publish what there is, before the job is left. Not what is unfit: the next life meets it again, and decides."""
    with contextlib.suppress(WeightsNotFiniteError):
        run.settle(wait=True)
        if run.line.has_unpublished_steps:
            run.publish("stop")


def _do_step(run: Run) -> None:
    """The next step of the job, as its effects have it; or what was decided instead of it."""
    job_step = run.line.facts.cursor.job_step
    run.effects.seed_where_one_begins(job_step, run.job.settings.seed)
    if run.effects.skips(job_step):
        _advance(run)
        guarding.left_out(run)
        return
    metrics = guarding.step(run)
    if metrics is None:
        return
    _advance(run)
    metrics = guarding.judged(run, metrics)
    run.metrics.append(metrics)
    run.observer.stepped(metrics, run.line.facts.cursor)
    guarding.refuse_bad(run, metrics)
    crashpoints.reach("training.stepped")


def _advance(run: Run) -> None:
    """The cursor's step is done, or left out: the next one comes."""
    cursor = run.line.facts.cursor
    job_step = cursor.job_step + 1
    cursor = msgspec.structs.replace(
        cursor, job_step=job_step, done=job_step == cursor.steps_planned, effects=run.effects.until(job_step - 1),
        epoch=run.plan.epoch_of_step(min(job_step, run.plan.steps - 1)))
    run.line.facts = msgspec.structs.replace(run.line.facts, cursor=cursor)


def _cut(run: Run) -> None:
    """Have the steps that are done be all of the job; nothing changes if it is left before that is recorded."""
    cut = Effect(kind=EffectKind.CUT, step=run.line.facts.cursor.job_step, value=run.plan.steps)
    if run.observer.decide((cut,), f"the rest of its {run.plan.steps} steps is skipped"):
        run.effects.add((cut,))


def _is_all_done(run: Run) -> bool:
    """Whether the job has no step left because it is cut where it stands; the cursor then says so."""
    facts, planned = run.line.facts, run.steps_planned
    cursor = facts.cursor
    if cursor.job_step == planned:
        cursor = msgspec.structs.replace(cursor, done=True, effects=run.effects.until(planned))
    run.line.facts = msgspec.structs.replace(facts, cursor=msgspec.structs.replace(cursor, steps_planned=planned))
    return run.line.facts.cursor.done


def _place_cursor(line: ModelLine, job: Job, plan: batches.Plan, effects: Effects) -> None:
    """Go on in the job if the line is in it, else begin it; either way under the lease of now."""
    cursor, planned = line.facts.cursor, effects.steps_planned(plan.steps)
    if cursor.job == job.id:
        if (cursor.shard != job.shard_digest or cursor.steps_planned not in (plan.steps, planned)
                or cursor.job_step > planned):
            raise InputError(f"the job began with shard {cursor.shard} and {cursor.steps_planned} steps, and is to go "
                             f"on with shard {job.shard_digest} and {planned} steps", mend="begin it again")
        if not effects.agree_with(cursor.effects, cursor.job_step):
            raise OtherEffectsError(f"the line stands in {job.id} with other effects than the journal has",
                                    mend="the broker sees it in the head and decides: wait")
        cursor = msgspec.structs.replace(cursor, token=job.token)
        base, jobs = line.facts.base, line.facts.jobs
    else:
        jobs = checkpoints.with_job(line.facts, job.id, job.name, job.digest)
        cursor = Cursor(job=job.id, token=job.token, shard=job.shard_digest, steps_planned=planned)
        base = line.head.name if line.head else ""
        line.ledger = bytearray()
    lora = adapter.settings_of(line.model)
    line.facts = msgspec.structs.replace(
        line.facts, cursor=cursor, base=base, journal_seq=job.journal_seq, jobs=jobs,
        settings={**msgspec.to_builtins(job.settings), **({"lora": lora} if lora else {})},
        versions=determinism.versions(adapted=bool(lora)))


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
    if job.settings.precision == "fp32" or determinism.HALF_PRECISION not in before:
        ignored.add(determinism.HALF_PRECISION)
    if changed := determinism.differing(before, after, ignored):
        observer.fingerprint_changed(*changed)
