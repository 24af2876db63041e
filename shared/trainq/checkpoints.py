"""Checkpoints of the model line as directories: their names, their facts, and which one is the head.

A checkpoint is a sealed directory (:mod:`trainq.manifests`, kind ``checkpoint``) named ``g000042-s00001200``: its
generation, which only grows, and the line's global step, which a rollback makes smaller. Everything that training needs
to go on lies in it, so it is the one commit point: that a file is trained is derived from its cursor.

The head is the newest generation that verifies, never the highest step, and never what a link says. One that does not
verify is set aside under ``damaged-g000042-s00001200``: kept for people, never listed, never resumed, and its number
never given again. This module reads and sets aside; ``trainq.ml.checkpointing`` publishes. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from trainq import files, manifests
from trainq.errors import DamageError, StorageError
from trainq.jobs import Effect, EffectKind
from trainq.manifests import Manifest

KIND = "checkpoint"
# 2: what adapters need (``adapter_of``).
FORMAT = 2
LOCK_NAME = ".lock"
ADAPTER_FOLDER = "adapter"
# As many of the line's newest jobs are named in the facts; what came before is in the journal, and in older manifests.
MAX_RECORDS = 20

Reason: TypeAlias = Literal["initial", "job_end", "interval", "asked", "stop", "take_back", "restore", "rebase"]

# Written with at least this many digits and read with any number of them: order is by number, never by string.
_NAME = re.compile(r"^g(\d{6,})-s(\d{8,})$")
_DAMAGED_PREFIX = "damaged-"
_DAMAGED = re.compile(_DAMAGED_PREFIX + r"(g\d+-s\d+)(?:-\d+)?")


class Name(NamedTuple):
    """What a checkpoint's directory name says. Sorts by generation."""

    generation: int
    step: int

    def __str__(self) -> str:
        return f"g{self.generation:06d}-s{self.step:08d}"


def parse_name(text: str) -> Name | None:
    """The generation and step in a directory's name; None if it is no checkpoint's."""
    match = _NAME.match(text)
    name = Name(int(match[1]), int(match[2])) if match else None
    # Exactly one spelling for each number, so that no two directories are one generation by mere spelling.
    return name if name is not None and str(name) == text else None


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where in which job the line stands. ``job`` is empty before the first one.

    ``job_step`` counts the optimizer steps done in the job; the next one to do has that index. ``token`` is the lease's
    fencing token, ``shard`` the digest of the job's shard. ``done`` means ``job_step == steps_planned > 0``.
    ``effects`` are those under which its steps until here were done (:mod:`trainq.jobs.control`).
    """

    job: str = ""
    token: int = 0
    shard: str = ""
    epoch: int = 0
    job_step: int = 0
    steps_planned: int = 0
    done: bool = False
    effects: tuple[Effect, ...] = ()

    @property
    def last_trained_step(self) -> int:
        """How many steps are done when those at the end do not count whose batches were left out."""
        skipped = {effect.step for effect in self.effects if effect.kind is EffectKind.SKIP_BATCH}
        step = self.job_step
        while step - 1 in skipped:
            step -= 1
        return step


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job that the line has gone into: its file, and where the line stood before its first step.

    ``number`` counts the jobs of the line from 1; it is 0 where nobody knows, because the line was trained by a trainq
    that did not count. What the job has added is the difference to the next record, of the last one to the facts.
    """

    job: str
    name: str = ""
    digest: str = ""
    number: int = 0
    step: int = 0
    rows_seen: int = 0
    tokens_seen: int = 0


class LossScale(msgspec.Struct, frozen=True, kw_only=True):
    """By what the loss is multiplied in fp16 (``trainq.ml.precision``), and since how many steps with success."""

    scale: float = 65_536.0
    good_steps: int = 0


class CheckpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest's facts: all counters of the line.

    ``parent`` is the head that was replaced; ``base`` the generation that holds the state before the first step of the
    cursor's job, to which that job is taken back (empty while there is no job). ``journal_seq`` is the last event of
    the journal that the trainer had seen. ``rows_seen`` and ``tokens_seen`` count repetitions, and no padding.
    ``made_by`` is the task, a restore or a rebase, that published this very generation, ``restored_from`` the one whose
    content a restore has given it.

    ``metrics`` say how the cursor's job went: ``loss`` of its last step, ``loss_mean`` of all of them until here.

    A line that trains an adapter keeps the weights under it in one generation, and names that in all that follow:
    ``adapter_of`` is that generation (itself, where they lie in this one); empty for a line that trains all weights.

    ``jobs`` are the newest jobs that are in the weights, oldest first, the cursor's the last; ``settings`` those that
    were frozen with it, with the adapter's as ``lora``; ``versions`` the libraries that have trained it.
    ``optimizer_since`` is the global step at which the optimizer's state was begun, from which its warm-up counts: that
    of the newest rebase. ``loss_scale`` is null until a step was trained in fp16.

    ``marks`` say in short what is wrong with the state (``[guard]``), nothing if it is empty; they hold until the
    line's step ``settled_at``.
    """

    generation: int
    step: int
    cursor: Cursor
    journal_seq: int
    fingerprint: dict[str, str]
    rows_seen: int
    tokens_seen: int
    model: str
    created_by: str
    reason: Reason
    parent: str = ""
    base: str = ""
    made_by: str = ""
    restored_from: int = 0
    adapter_of: str = ""
    metrics: dict[str, float] = {}
    jobs: list[JobRecord] = []
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    optimizer_since: int = 0
    loss_scale: LossScale | None = None
    marks: tuple[str, ...] = ()
    settled_at: int = 0
    format: int = FORMAT

    @property
    def is_bad(self) -> bool:
        """Whether it was published in a bad state: kept like others, but nothing to promote or to rely on alone."""
        return bool(self.marks)

    @property
    def name(self) -> str:
        """The name of the directory that holds this."""
        return str(Name(self.generation, self.step))

    @property
    def has_weights(self) -> bool:
        """Whether the model's weights lie in this very generation, and not in the one that ``adapter_of`` names."""
        return self.adapter_of in ("", self.name)

    @property
    def needs(self) -> tuple[str, ...]:
        """The other generations without which this one is worth nothing.

        The state before the job in the middle of which it is, and the weights under its adapter.
        """
        ground = self.base if not self.cursor.done else ""
        return tuple(name for name in dict.fromkeys((ground, "" if self.has_weights else self.adapter_of)) if name)


def with_job(facts: CheckpointFacts, job: str, name: str, digest: str) -> list[JobRecord]:
    """The records of a line with these facts that goes into a further job; the oldest make room."""
    counted = facts.jobs[-1].number if facts.jobs else 0
    number = counted + 1 if counted or not facts.cursor.job else 0
    record = JobRecord(job=job, name=name, digest=digest, number=number, step=facts.step, rows_seen=facts.rows_seen,
                       tokens_seen=facts.tokens_seen)
    return [*facts.jobs, record][-MAX_RECORDS:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A checkpoint whose every byte was proven, and of an adapter's the ``weights`` under it."""

    path: Path
    manifest: Manifest
    facts: CheckpointFacts
    weights: Manifest | None = None

    @property
    def weights_path(self) -> Path:
        """The folder in which its model's weights lie."""
        return self.path if self.facts.has_weights else self.path.with_name(self.facts.adapter_of)

    @property
    def size_bytes(self) -> int:
        """What the files take that are read to bring it back to life, without the manifests."""
        return self.manifest.size_bytes + (self.weights.size_bytes if self.weights else 0)


class WeightsMissingError(StorageError):
    """The generation that holds the weights under an adapter is not there: no damage, for it may come back."""


def list_generations(folder: Path) -> list[Path]:
    """All checkpoint directories in ``folder``, newest generation first; whether they are whole is not looked at."""
    found = ((name, entry) for entry in folder.iterdir() if (name := parse_name(entry.name))) if folder.is_dir() else ()
    return [entry for _, entry in sorted(found, reverse=True)]


def next_generation(folder: Path, above: int = 0) -> int:
    """The number that the next checkpoint gets: above every one that is there, also those set aside, and ``above``."""
    taken = [above]
    for entry in folder.iterdir() if folder.is_dir() else ():
        damaged = _DAMAGED.fullmatch(entry.name)
        name = parse_name(damaged[1] if damaged else entry.name)
        if name is not None:
            taken.append(name.generation)
    return max(taken) + 1


def set_aside(path: Path) -> Path:
    """Rename a generation that does not verify, so that nobody takes it for one; gives where it lies now.

    Only the process that holds the lock on the folder calls this.

    Raises:
        StorageError: it could not be renamed; it stays as it is.
    """
    free = path.with_name(f"{_DAMAGED_PREFIX}{path.name}")
    copies = 1
    while free.exists():
        copies += 1
        free = path.with_name(f"{_DAMAGED_PREFIX}{path.name}-{copies}")
    files.move(path, free)
    return free


def list_set_aside(folder: Path) -> list[tuple[Name, Path]]:
    """The generations that :func:`set_aside` has put away, oldest first, with where they lie."""
    found = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        damaged = _DAMAGED.fullmatch(entry.name)
        name = parse_name(damaged[1]) if damaged else None
        if name is not None:
            found.append((name, entry))
    return sorted(found)


def read_facts(path: Path) -> CheckpointFacts:
    """The facts of the checkpoint at ``path``, from its manifest alone; its files are not looked at.

    Raises:
        DamageError: the manifest is missing, damaged, or no checkpoint's.
        NewerFormatError: a newer trainq wrote it.
    """
    return manifests.facts_of(path, manifests.read(path, KIND), CheckpointFacts, FORMAT)


def verify(path: Path, on_chunk: Callable[[int], None] = lambda _: None) -> Verified:
    """Prove every byte of the checkpoint at ``path`` and read its facts.

    Raises:
        DamageError: it is not whole, not a checkpoint, or it lies under another one's name; or the weights under its
            adapter are not.
        WeightsMissingError: those are not there.
        NewerFormatError: a newer trainq wrote it.
    """
    found = verify_alone(path, on_chunk)
    facts = found.facts
    if facts.has_weights:
        return found
    if not found.weights_path.is_dir():
        raise WeightsMissingError(f"{facts.adapter_of}, the weights under the adapter in {facts.name}, is missing",
                                  mend="bring it back to checkpoints/, or trainq restore a snapshot")
    weights = verify_alone(found.weights_path, on_chunk)
    if weights.facts.adapter_of != weights.facts.name:
        raise DamageError(str(path), f"{facts.adapter_of} holds no weights under an adapter")
    return replace(found, weights=weights.manifest)


def verify_alone(path: Path, on_chunk: Callable[[int], None] = lambda _: None) -> Verified:
    """As :func:`verify`, without the weights under an adapter, which lie in another checkpoint."""
    manifest = manifests.verify(path, KIND, on_chunk)
    facts = manifests.facts_of(path, manifest, CheckpointFacts, FORMAT)
    if facts.name != path.name:
        raise DamageError(str(path), f"it is {facts.name} under another name")
    return Verified(path=path, manifest=manifest, facts=facts)


def newest_verified(folder: Path) -> tuple[Verified | None, list[DamageError]]:
    """The head: the newest generation that verifies, and what was wrong with each newer one, newest first.

    Damaged generations are left as they are (:func:`set_aside` is the caller's). None with an empty list means that
    there is no checkpoint at all.

    Raises:
        NewerFormatError: the newest that could be the head is a newer trainq's. It is no damage, and not passed over.
        WeightsMissingError: the weights under its adapter are not there, which is none either.
    """
    damaged: list[DamageError] = []
    if folder.is_dir():
        # Whoever published the newest may have ended before its name was durable; what it covers is reported next.
        files.sync_directory(folder)
    for path in list_generations(folder):
        try:
            return verify(path), damaged
        except DamageError as error:
            damaged.append(error)
    return None, damaged
