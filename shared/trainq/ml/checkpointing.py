"""Publishing and restoring the whole state of the model line as one directory: the one commit point.

A checkpoint holds a model folder that plain ``transformers`` loads (weights, configuration, tokenizer, chat template),
``optimizer.safetensors``, ``rng.safetensors``, ``state.json``, ``ledger.bin`` (:mod:`trainq.ml.ledger`), the card
(:mod:`trainq.cards`), and the manifest with the digests of all of them and the counters
(:class:`trainq.checkpoints.CheckpointFacts`). No pickle is written or read. Weights, optimizer, generators, cursor and
ledger become visible together or not at all.

Only the process that holds the lock on the checkpoints' folder may call what publishes.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from trainq import cards, checkpoints, crashpoints, files, manifests, room
from trainq.checkpoints import CheckpointFacts, Cursor, Reason, Verified
from trainq.config import Home
from trainq.errors import DamageError, InputError
from trainq.ml import adapter, determinism, ledger, model, optimizer, randomness
from trainq.ml.line import ModelLine, assemble

_OPTIMIZER, _RNG, _STATE = "optimizer.safetensors", "rng.safetensors", "state.json"


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """``state.json``: what is neither a tensor nor one of the facts."""

    rng: randomness.Remainder


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A generation that is now on disk; ``seconds`` is how long training stood still for it."""

    facts: CheckpointFacts
    path: Path
    seconds: float
    size_bytes: int


def publish(line: ModelLine, home: Home, reason: Reason, *, made_by: str = "") -> Publication:
    """Publish the state in memory as the next generation, and make it the head and ``current``.

    ``made_by`` is the task that has put that state together, where it was one.

    Raises:
        InputError: a weight is not finite; nothing was published.
        StorageError, StorageFullError: nothing was published, or everything but the link ``current``.
    """
    return _publish(line, home, reason, determinism.fingerprint(line.accelerator.device), made_by=made_by)


def _publish(line: ModelLine, home: Home, reason: Reason, fingerprint: dict[str, str], *,
             made_by: str = "") -> Publication:
    started = time.monotonic()
    _refuse_non_finite(line)
    facts = msgspec.structs.replace(
        line.facts, generation=checkpoints.next_generation(home.checkpoints, above=line.generation_floor),
        reason=reason, parent=line.head.name if line.head else "", fingerprint=fingerprint, made_by=made_by,
        restored_from=0)
    if adapter.is_adapted(line.model) and line.publishes_weights:
        facts = msgspec.structs.replace(facts, adapter_of=facts.name)
    path = home.checkpoints / facts.name
    # Known before a byte is written: a disk that fills up in the middle costs everybody on it.
    room.refuse_without(home.checkpoints, line.state_bytes, f"the checkpoint {facts.name}")
    with files.publish_directory(path) as folder:
        model.save(line.accelerator.unwrap_model(line.model), line.companions, folder,
                   with_weights=facts.has_weights)
        rng_tensors, rng_remainder = randomness.capture()
        (folder / _OPTIMIZER).write_bytes(tensors_to_bytes(optimizer.state_tensors(line.model, line.optimizer)))
        (folder / _RNG).write_bytes(tensors_to_bytes(rng_tensors))
        (folder / _STATE).write_bytes(msgspec.json.encode(_State(rng=rng_remainder)) + b"\n")
        (folder / ledger.NAME).write_bytes(line.ledger)
        (folder / cards.NAME).write_bytes(cards.text(facts))
        manifest = manifests.seal(folder, checkpoints.KIND, msgspec.to_builtins(facts))
    crashpoints.reach("checkpoint.published")
    line.facts = line.head = facts
    point_current_at(home, facts)
    return Publication(facts=facts, path=path, seconds=time.monotonic() - started,
                       size_bytes=manifest.size_bytes)


def point_current_at(home: Home, facts: CheckpointFacts) -> None:
    """Make the link ``current`` lead to this generation. It is for people; nothing is resumed from it."""
    target = f"{home.checkpoints.name}/{facts.name}"
    if not home.current.is_symlink() or str(home.current.readlink()) != target:
        files.replace_link(home.current, target)


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
    optimizer.restore_state(line.model, line.optimizer, _read_tensors(path / _OPTIMIZER))
    line.ledger = _read_ledger(path, verified.facts.cursor)
    try:
        state = msgspec.json.decode((path / _STATE).read_bytes(), type=_State)
    except (OSError, msgspec.MsgspecError) as error:
        _refuse_passing(error, path / _STATE)
        raise DamageError(str(path / _STATE), f"it cannot be read: {error}") from error
    line.generation_floor = generation_floor
    # Last, because making a model draws numbers.
    randomness.restore(_read_tensors(path / _RNG), state.rng)
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
    number = model.os_error_number(error)
    if number is not None and number != errno.ENOENT:
        raise files.storage_error(OSError(number, os.strerror(number)), f"reading {path}") from error


def _refuse_non_finite(line: ModelLine) -> None:
    for name, parameter in line.model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise InputError("a weight is not a finite number any more", field=name,
                             mend="lower the learning rate, or look at the rows of this file")
