"""``python -m trainq.ml.rederiving --home HOME --into FOLDER``: the weights that the journal promises, undisturbed.

Reads nothing of a home but its ``journal.db`` (a copy of it) and ``data/``, and the folder of the model to begin with.
Every train job that ended in success is prepared again from its file and trained again with the settings frozen at its
submit, in the order of the journal; nothing is stopped, resumed or cancelled on the way. What lies in
``FOLDER/checkpoints`` at the end must be, bit for bit, what lies in ``HOME/checkpoints``, whatever died meanwhile: that
is the promise, and :mod:`trainq_checker` compares.

Progress goes to stderr as JSON lines; one JSON object at the end to stdout: jobs, steps, checkpoint. Exit codes are
those of :mod:`trainq.errors`. Nothing may write the home meanwhile: stop it first.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from trainq import builtin, checkpoints, enclosures, files, ingest, locks, merged, preparing
from trainq.checkpoints import Cursor
from trainq.config import Home, LoraSettings
from trainq.errors import DamageError, InputError, TrainqError, UsageError
from trainq.jobs import (
    AnyEvent,
    Effect,
    EffectDecided,
    EffectKind,
    Enclosed,
    JobEvent,
    JobPrepared,
    JobReinstated,
    JobSubmitted,
    JobSucceeded,
    JobTakenOut,
    JobUncovered,
    LineRebased,
    effects_left,
)
from trainq.journal import Journal, Queries, covers
from trainq.messages import TrainSpec
from trainq.ml import checkpointing, consolidating, determinism, line, model, rebasing, training
from trainq.ml.checkpointing import Publication
from trainq.ml.line import ModelLine
from trainq.ml.metrics import StepMetrics
from trainq.preparing import Prepared, PrepareProgress
from trainq.textcodec import TextCodec

_PAGE_EVENTS = 1000
# Long enough that no interval checkpoint is published but every 2,000 steps (the most that a setting may say).
_NEVER_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Promised:
    """A job whose rows must be in the weights: as it was submitted, its shard's digest, its success's number.

    ``effects`` are those under which its steps were done, ``enclosed`` is what its shard is made with.
    """

    submitted: JobSubmitted
    spec: TrainSpec
    shard_digest: str
    enclosed: tuple[Enclosed, ...]
    succeeded_seq: int
    effects: tuple[Effect, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Promises:
    """``jobs`` in the order of their training; ``first`` is the first job's frozen spec, if there is any job.

    ``rebases`` are those that the line has gone through, by their events' numbers.
    """

    jobs: list[Promised]
    first: TrainSpec | None
    rebases: dict[int, LineRebased]

    def in_order(self) -> list[Promised | LineRebased]:
        """What has made the weights, one after the other."""
        made: dict[int, Promised | LineRebased] = {**{job.succeeded_seq: job for job in self.jobs}, **self.rebases}
        return [made[seq] for seq in sorted(made)]


class _Success(NamedTuple):
    """The number of a success, and the effects under which the job was done."""

    seq: int
    effects: tuple[Effect, ...]


class _Told:
    """An observer that wants nothing and tells stderr."""

    def __init__(self, job: str) -> None:
        self._job = job

    def wish(self) -> training.Wish:
        return training.Wish.GO_ON

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        _tell(event="step", job=self._job, job_step=cursor.job_step, steps=cursor.steps_planned, loss=metrics.loss)

    def publishing(self, size_bytes: int, *, waits: bool) -> None:
        pass

    def published(self, publication: Publication) -> None:
        _tell(event="published", job=self._job, checkpoint=publication.facts.name)

    def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
        raise DamageError(self._job, f"it needs {effects[0].kind} at step {effects[0].step}, and the journal has none: "
                          f"{reason}")

    def taken_back(self, reason: str) -> None:
        _tell(event="taken_back", job=self._job, reason=reason)

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        # Between two jobs of one process only their own number of threads differs.
        _tell(event="fingerprint_changed", job=self._job, before=before, after=after)


def read_promises(journal: Journal) -> Promises:
    """What the journal promises of the weights.

    Raises:
        DamageError: an event cannot be read, or a job succeeded that was not submitted or not prepared.
    """
    submitted: dict[str, JobSubmitted] = {}
    prepared: dict[str, JobPrepared] = {}
    succeeded: dict[str, _Success] = {}
    successes: dict[tuple[str, int], _Success] = {}
    effects: dict[str, dict[tuple[int, EffectKind], Effect]] = {}
    rebases: dict[int, LineRebased] = {}
    after = 0
    while page := journal.replay(after, _PAGE_EVENTS):
        after = page[-1].seq
        for entry in page:
            event = entry.event
            _note_effects(event, effects)
            match event:
                case JobSubmitted():
                    submitted[event.job] = event
                case JobPrepared():
                    prepared[event.job] = event
                case JobSucceeded() if event.job in submitted:
                    done = tuple(effect for _, effect in sorted(effects.get(event.job, {}).items()))
                    succeeded[event.job] = _Success(entry.seq, done)
                    successes[event.job, int(event.result.get("generation", 0))] = succeeded[event.job]
                case JobReinstated():
                    succeeded[event.job] = successes[event.job, event.generation]
                case LineRebased():
                    rebases[entry.seq] = event
                case JobUncovered() | JobTakenOut():
                    succeeded.pop(event.job, None)
                case _:
                    pass  # nothing else follows a success
    specs = {job: msgspec.convert(event.spec, TrainSpec) for job, event in submitted.items()}
    missing = sorted(succeeded.keys() - prepared.keys())
    if missing:
        raise DamageError("the journal", f"{missing[:5]} succeeded and were never prepared")
    queries = Queries(journal)
    spans = queries.ancestry(queries.line().generation)
    return Promises(
        rebases={seq: event for seq, event in rebases.items()
                 if covers(spans, event.generation)},
        first=next(iter(specs.values()), None),
        jobs=[Promised(submitted=submitted[job], spec=specs[job], shard_digest=prepared[job].shard_digest,
                       enclosed=prepared[job].enclosed, succeeded_seq=done.seq, effects=done.effects)
              for job, done in sorted(succeeded.items(), key=lambda item: item[1].seq)])


def _note_effects(event: AnyEvent, effects: dict[str, dict[tuple[int, EffectKind], Effect]]) -> None:
    """What the event does to the effects of its job: one more; or the job begins anew, and none is left."""
    if isinstance(event, EffectDecided):
        effects.setdefault(event.job, {})[event.effective_step, event.kind] = Effect(
            kind=event.kind, step=event.effective_step, value=event.value)
    elif isinstance(event, JobEvent) and (left := effects_left(event)) is not None:
        effects[event.job] = {(effect.step, effect.kind): effect for effect in left}


def rederive(home: Home, into: Home, *, model_path: str | None, seed: int | None) -> dict[str, Any]:
    """Train all that ``home`` promises into the empty home ``into``; gives what was done.

    Args:
        home: read only: journal and data.
        into: made; what is in it is lost only if the caller removes it.
        model_path: the model to begin with; None means that of the first job.
        seed: the line's; None means that of the first job.

    Raises:
        UsageError: ``into`` holds checkpoints already, or ``home`` has no journal.
        DamageError: a file or a shard is not what the journal says.
        InputError: a job that succeeded cannot be trained.
        StorageError, StorageFullError: the disk.
    """
    for folder in into.folders():
        files.make_directory(folder)
    if checkpoints.list_generations(into.checkpoints):
        raise UsageError(f"{into.checkpoints} holds checkpoints already", mend="name an empty folder")
    promises = _promises_of(home, into)
    first = promises.first
    lock = locks.acquire_lock(into.checkpoints / checkpoints.LOCK_NAME, "training process")
    try:
        model.silence_libraries()
        determinism.enforce()
        determinism.set_threads(first.train.threads if first else 1)
        begun = line.begin(model_path if model_path is not None else (first.model if first else ""),
                           seed if seed is not None else _line_seed(first),
                           first.lora if first else line.NO_ADAPTER)
        checkpointing.publish(begun, into, "initial")
        for made in promises.in_order():
            if isinstance(made, Promised):
                _train(begun, made, home, into)
            else:
                begun = _rebase(begun, made, into)
            assert begun.head is not None
            for old in checkpoints.list_generations(into.checkpoints)[1:]:
                if old.name not in begun.head.needs:
                    files.remove_tree(old)
    finally:
        lock.release()
    return {"jobs": len(promises.jobs), "steps": begun.facts.step, "checkpoint": begun.facts.name}


def _line_seed(first: TrainSpec | None) -> int:
    if first is None:
        return 0
    return first.train.seed if first.line_seed is None else first.line_seed


def _promises_of(home: Home, into: Home) -> Promises:
    if not home.journal.is_file():
        raise UsageError(f"{home.journal} is not there", mend="name the home of an installation")
    # SQLite changes what it opens (it folds the write-ahead log in), and the home is only read.
    with tempfile.TemporaryDirectory(dir=into.root) as folder:
        copy = Path(folder) / home.journal.name
        for suffix in ("", "-wal"):
            source = home.journal.with_name(home.journal.name + suffix)
            if source.exists():
                with source.open("rb") as stream, files.publish_file(Path(f"{copy}{suffix}")) as target:
                    shutil.copyfileobj(stream, target)
        journal = Journal.open(copy)
        try:
            return read_promises(journal)
        finally:
            journal.close()


def _train(begun: ModelLine, promised: Promised, home: Home, into: Home) -> None:
    event, spec = promised.submitted, promised.spec
    prepared = _prepare(begun, promised, home, into)
    settings = msgspec.structs.replace(spec.train, checkpoint_seconds=_NEVER_SECONDS, checkpoint_steps=0)
    job = training.Job(id=event.job, token=promised.succeeded_seq, shard=into.cache / prepared.shard,
                       shard_digest=prepared.digest, settings=settings, journal_seq=promised.succeeded_seq,
                       effects=promised.effects, name=event.name, digest=event.digest, guard=spec.guard)
    training.train(begun, job, into, _Told(event.job))


def _rebase(begun: ModelLine, event: LineRebased, into: Home) -> ModelLine:
    """Merge and go on from that, as the consolidator and the trainer did."""
    assert begun.head is not None
    determinism.set_threads(event.threads)
    if begun.head.adapter_of:
        # Whatever was allowed when it was merged: the bits are compared in the end.
        consolidating.consolidate(into, begun.head.name, rows=1, max_logit_delta=math.inf)
    again = rebasing.rebased(begun, into, begun.head.name, msgspec.convert(event.lora, LoraSettings), event.seed,
                             warmup=event.warmup)
    checkpointing.publish(again, into, "rebase", made_by=event.by)
    merged.remove_all(into)
    _tell(event="rebased", job=event.by, checkpoint=again.facts.name)
    return again


def _prepare(begun: ModelLine, promised: Promised, home: Home, into: Home) -> Prepared:
    event, spec = promised.submitted, promised.spec
    context = model.context_tokens(begun.model)
    if context is None:
        raise InputError("the model does not say how many tokens it takes", file=spec.model)

    def beat(_: PrepareProgress) -> None:
        pass

    outcome = preparing.prepare(
        source=ingest.data_path(home, event.digest),
        codec=TextCodec.load(Path(spec.model) if spec.model else builtin.folder()), settings=spec.data,
        context_tokens=context, destination_folder=into.cache, rejected_folder=into.rejected, name=event.job, beat=beat,
        inputs=enclosures.inputs_of(home, spec.gate, promised.enclosed))
    if not isinstance(outcome, Prepared):
        raise DamageError(event.job, f"it succeeded, and its file is refused now: {outcome.reason}")
    if outcome.digest != promised.shard_digest:
        raise DamageError(event.job, f"its shard comes out as {outcome.digest}, the journal says "
                          f"{promised.shard_digest}")
    return outcome


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; gives the exit code."""
    parser = _Parser(prog="python -m trainq.ml.rederiving", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--home", type=Path, required=True, help="the home whose journal and data are read")
    parser.add_argument("--into", type=Path, required=True, help="an empty folder for the checkpoints")
    parser.add_argument("--model", help="the model to begin with (default: the first job's)")
    parser.add_argument("--seed", type=int, help="the line's seed (default: the first job's)")
    try:
        given = parser.parse_args(arguments)
        done = rederive(Home(given.home.absolute()), Home(given.into.absolute()), model_path=given.model,
                        seed=given.seed)
    except TrainqError as error:
        _tell(event="failed", code=error.code, error=str(error))
        return error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _tell(**said: Any) -> None:
    sys.stderr.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stderr.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
