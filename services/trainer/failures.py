"""Whose fault an error is, in the words that the agent is told."""

from __future__ import annotations

import traceback

from services.trainer import wire
from trainq.errors import TrainqError

# Faults of the disk, the cache or the configuration, by the codes of trainq.errors: no file's fault.
_SYSTEM_CODES = frozenset({"storage", "storage_full", "damage", "shard_lost", "other_model", "other_fingerprint",
                           "newer_format"})
_MAX_TRACEBACK_CHARACTERS = 16_384


def failure(job: str, error: Exception) -> wire.Failed:
    """Whose fault an error is: disk, shard cache and driver are the machine's; everything else is the job's."""
    system = isinstance(error, OSError) or is_accelerator_error(error) or (
        isinstance(error, TrainqError) and error.code in _SYSTEM_CODES)
    code = error.code if isinstance(error, TrainqError) else type(error).__name__
    return wire.Failed(job=job, system=system, code=code, reason=str(error)[:2048] or type(error).__name__,
                       traceback="".join(traceback.format_exception(error))[-_MAX_TRACEBACK_CHARACTERS:])


def is_accelerator_error(error: Exception) -> bool:
    """Errors of the driver, after which no tensor on the device can be used; running out of memory is none."""
    return type(error).__name__ == "AcceleratorError"
