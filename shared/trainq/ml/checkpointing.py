"""Publishing and restoring the whole state of the model line as one directory: the one commit point.

A checkpoint holds a model folder that plain ``transformers`` loads (weights, configuration, tokenizer, chat template),
``optimizer.safetensors``, ``rng.safetensors``, ``state.json``, ``ledger.bin`` (:mod:`trainq.ml.ledger`), the card
(:mod:`trainq.cards`), and the manifest with the digests of all of them and the counters
(:class:`trainq.checkpoints.CheckpointFacts`). No pickle is written or read. Weights, optimizer, generators, cursor and
ledger become visible together or not at all.

It is staged (:mod:`trainq.ml.staging`) and then written (:mod:`trainq.ml.writing`), in the loop's thread or beside it:
the bytes are the same.

Only the process that holds the lock on the checkpoints' folder may call what publishes.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes

from trainq import checkpoints, files
from trainq.checkpoints import CheckpointFacts, Cursor, Reason, Verified
from trainq.config import Home
from trainq.errors import DamageError, InputError, WeightsNotFiniteError
from trainq.ml import adapter, determinism, ledger, model, optimizer, randomness, staging, writing
from trainq.ml.line import ModelLine, assemble


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A generation that is now on disk.

    ``seconds`` is how long training stood still for it, ``write_seconds`` how long the disk took. ``cost_seconds`` is
    what it cost the training: that standstill, and where the steps are computed by the processors that wrote it, what
    the writing took of them.
    """

    facts: CheckpointFacts
    path: Path
    seconds: float
    write_seconds: float
    cost_seconds: float
    size_bytes: int


def publish(line: ModelLine, home: Home, reason: Reason, *, made_by: str = "") -> Publication:
    """Publish the state in memory as the next generation, and make it the head and ``current``.

    ``made_by`` is the task that has put that state together, where it was one.

    Raises:
        WeightsNotFiniteError: a weight is not finite; nothing was published.
        StorageError, StorageFullError: nothing was published, or everything but the link ``current``.
    """
    return _publish(line, home, reason, determinism.fingerprint(line.accelerator.device), made_by=made_by)


def _publish(line: ModelLine, home: Home, reason: Reason, fingerprint: dict[str, str], *,
             made_by: str = "") -> Publication:
    if line.writer.is_busy:
        raise ValueError("another generation is being written")
    started = time.monotonic()
    written = writing.write(staging.stage(line, _facts(line, reason, fingerprint, made_by), steps_go_on=False), home)
    line.facts = line.head = written.facts
    writing.point_current_at(home, written.facts)
    seconds = time.monotonic() - started
    return Publication(facts=written.facts, path=written.path, seconds=seconds, write_seconds=written.seconds,
                       cost_seconds=seconds, size_bytes=written.size_bytes)


def _facts(line: ModelLine, reason: Reason, fingerprint: dict[str, str], made_by: str) -> CheckpointFacts:
    return msgspec.structs.replace(line.facts, reason=reason, parent=line.head.name if line.head else "",
                                   fingerprint=fingerprint, made_by=made_by, restored_from=0)


class Beside:
    """Publishes beside the steps of one job: the loop waits for the copy alone. One in flight at most.

    What is written is the state at :meth:`begin`, whatever steps are done meanwhile. It is the head once :meth:`take`
    has given it, and not before.
    """

    def __init__(self, line: ModelLine, home: Home) -> None:
        self._line, self._home = line, home
        self._stood_still = 0.0
        self._job_step = 0

    @property
    def is_busy(self) -> bool:
        """Whether one is in flight, or its end was not taken."""
        return self._line.writer.is_busy

    def begin(self, reason: Reason, before: Callable[[], None]) -> None:
        """Stage the state of now and begin to write it; ``before`` is called by the writer before it writes.

        Raises:
            ValueError: one is in flight.
        """
        started = time.monotonic()
        line = self._line
        facts = _facts(line, reason, determinism.fingerprint(line.accelerator.device), "")
        self._job_step = facts.cursor.job_step
        line.writer.begin(staging.stage(line, facts, steps_go_on=True), self._home, before)
        self._stood_still = time.monotonic() - started

    def take(self, *, wait: bool) -> Publication | None:
        """The generation that was in flight, which is the head now; None if none is, or it is not done.

        Args:
            wait: until it is done.

        Raises:
            WeightsNotFiniteError, StorageError, StorageFullError: as :func:`publish`, by what was in flight.
        """
        line, started = self._line, time.monotonic()
        if wait:
            line.writer.wait()
        ended = line.writer.take()
        if ended is None:
            return None
        written, error = ended
        if written is not None:
            facts = line.head = written.facts
            line.facts = msgspec.structs.replace(
                line.facts, generation=facts.generation, reason=facts.reason, parent=facts.parent,
                fingerprint=facts.fingerprint, made_by=facts.made_by, restored_from=facts.restored_from,
                adapter_of=facts.adapter_of)
        if isinstance(error, WeightsNotFiniteError):
            error.job_step = self._job_step
        if error is not None:
            raise error
        assert written is not None
        seconds = self._stood_still + time.monotonic() - started
        shared = written.processor_seconds / torch.get_num_threads() if line.accelerator.device.type == "cpu" else 0.0
        return Publication(facts=written.facts, path=written.path, seconds=seconds, write_seconds=written.seconds,
                           cost_seconds=seconds + shared, size_bytes=written.size_bytes)


def restore(verified: Verified, generation_floor: int = 0) -> ModelLine:
    """Bring a proven checkpoint back to life, with the process's random number generators.

    Args:
        verified: the checkpoint.
        generation_floor: the newest generation that the journal knows; see :class:`ModelLine`.

    Raises:
        DamageError: its content is not what a checkpoint of this model holds.
    """
    path = verified.path
    try:
        loaded = model.load(verified.weights_path)
        if verified.facts.adapter_of:
            loaded = adapter.load(loaded, path)
        line = assemble(loaded, model.read_companions(path), verified.facts, head=verified.facts)
    except InputError as error:
        _refuse_passing(error, path)
        raise DamageError(str(path), f"its model cannot be loaded: {error.reason}") from error
    optimizer.restore_state(line.model, line.optimizer, _read_tensors(path / staging.OPTIMIZER))
    line.ledger = _read_ledger(path, verified.facts.cursor)
    try:
        state = msgspec.json.decode((path / staging.STATE).read_bytes(), type=staging.State)
    except (OSError, msgspec.MsgspecError) as error:
        _refuse_passing(error, path / staging.STATE)
        raise DamageError(str(path / staging.STATE), f"it cannot be read: {error}") from error
    line.generation_floor = generation_floor
    # Last, because making a model draws numbers.
    randomness.restore(_read_tensors(path / staging.RNG), state.rng)
    return line


def restore_instead(line: ModelLine, verified: Verified) -> ModelLine:
    """As :func:`restore`, in place of ``line``, whose memory is given back first."""
    line.release()
    return restore(verified, line.generation_floor)


def take_back(line: ModelLine, home: Home) -> tuple[ModelLine, Publication | None]:
    """Take the steps of the cursor's job out of the weights: the line as it was before the job's first step.

    If none of its steps is published, the head is that state and is just loaded again; else a new generation equal to
    the job's base is published. The base's own cursor comes back with it.

    Raises:
        DamageError: the state before the job does not verify; nothing was changed. After any other error the line may
            be released (:attr:`ModelLine.is_released`), and cannot be gone on with.
    """
    if line.head is None:
        raise ValueError("a line without a published state has nothing to go back to")
    job = line.facts.cursor.job
    if line.head.cursor.job != job:
        return restore_instead(line, checkpoints.verify(home.checkpoints / line.head.name)), None
    restored = restore_instead(line, checkpoints.verify(home.checkpoints / line.head.base))
    restored.facts = msgspec.structs.replace(restored.facts, journal_seq=line.facts.journal_seq)
    restored.head = line.head
    # Not what runs now but what computed these weights: else a change of machine in between would go unnoticed.
    return restored, _publish(restored, home, "take_back", restored.facts.fingerprint)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = tensors_from_bytes(path.read_bytes())
    except (OSError, SafetensorError) as error:
        _refuse_passing(error, path)
        raise DamageError(str(path), f"no safetensors: {error}") from error
    return tensors


def _read_ledger(folder: Path, cursor: Cursor) -> bytearray:
    path = folder / ledger.NAME
    try:
        content = path.read_bytes() if path.exists() else None
    except OSError as error:
        _refuse_passing(error, path)
        raise DamageError(str(path), f"it cannot be read: {error}") from error
    return ledger.check(content, cursor, str(path))


def _refuse_passing(error: BaseException, path: Path) -> None:
    """Out of descriptors or memory, or where reading fails, nothing is known about the bytes.

    All of them were proven just before: nobody may set them aside for it.
    """
    number = writing.os_error_number(error)
    if number is not None and number != errno.ENOENT:
        raise files.storage_error(OSError(number, os.strerror(number)), f"reading {path}") from error
