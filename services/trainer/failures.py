"""Whose fault an error is, in the words that the agent is told."""

from __future__ import annotations

import traceback

from services.trainer import wire
from trainq import gpu
from trainq.errors import (
    DamageError,
    MaskingError,
    MemoryShortError,
    SpoiledMemoryError,
    StorageError,
    StorageFullError,
    TrainqError,
)

# Faults of the disk, the cache or the configuration, by the codes of trainq.errors: no file's fault.
_SYSTEM_CODES = frozenset({"storage", "storage_full", "damage", "shard_lost", "other_model", "other_fingerprint",
                           "newer_format", "spoiled_memory"})
# Of a file's faults those that trying again does not change.
_FINAL_CODES = frozenset({MaskingError.code})
_MAX_TRACEBACK_CHARACTERS = 16_384


class GroundLostError(TrainqError):
    """What a job was begun on does not verify: it was set aside with all that was built on it."""

    exit_code = DamageError.exit_code
    code = DamageError.code


def failure(job: str, error: Exception, *, foreign_mib: int = 0) -> wire.Failed:
    """Whose fault an error is: disk, shard cache, memory and driver are the machine's; everything else is the job's.

    So is a lack of memory where others use more than ``foreign_mib`` of the same GPU.
    """
    system = isinstance(error, OSError) or is_accelerator_error(error) or (
        isinstance(error, TrainqError) and error.code in _SYSTEM_CODES)
    code = error.code if isinstance(error, TrainqError) else type(error).__name__
    reason = str(error)[:2048] or type(error).__name__
    if isinstance(error, MemoryShortError) and (others := gpu.used_by_others(foreign_mib)):
        system, reason = True, f"{reason}; {others}"
    return wire.Failed(job=job, system=system, final=code in _FINAL_CODES, code=code, reason=reason,
                       traceback="".join(traceback.format_exception(error))[-_MAX_TRACEBACK_CHARACTERS:])


def needs_new_process(error: Exception) -> bool:
    """Whether the state in memory, or what lies on disk, is not what the training process believes.

    A lost context, a memory that is not trusted, a disk of which nobody knows what it has kept, a set-aside head: only
    a new process, which begins from what verifies, can go on.
    """
    unknown = StorageError | StorageFullError | GroundLostError | SpoiledMemoryError
    return isinstance(error, unknown) or is_accelerator_error(error)


def is_accelerator_error(error: Exception) -> bool:
    """Errors of the driver, after which no tensor on the device can be used; running out of memory is none."""
    return type(error).__name__ == "AcceleratorError"
