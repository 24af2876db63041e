"""What a training process sets up before anything else: its output, its stacks on demand, the lock on checkpoints/."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from pathlib import Path

from trainq import checkpoints, files, locks, logs
from trainq.config import Home
from trainq.errors import AlreadyRunningError, NoGpuError

# A killed predecessor is gone in milliseconds; one in an uninterruptible write may take longer.
LOCK_WAIT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.05


def refuse_processor(device: str) -> None:
    """Refuse to train on the processor where a GPU is required, whatever the driver says of it.

    Raises:
        NoGpuError: torch has chosen another ``device`` than one of CUDA's.
    """
    if device != "cuda":
        raise NoGpuError(f"torch computes on the {device}, and a GPU is required ([trainer] gpu)",
                         mend="torch.cuda.is_available() must be true in .venv: a torch with CUDA, and a driver that "
                              "it can use")


def redirect_output(log: Path) -> None:
    """Standard output and error go to ``log``; a large old one is set aside under ``.1``."""
    files.set_aside_large(log, logs.MAX_FILE_BYTES)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.PRIVATE_FILE_MODE)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def note(text: str) -> None:
    """Write ``text`` to the log for people; a disk that does not take it hinders nothing."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def dump_stacks_on_signal(path: str) -> None:
    """At SIGUSR1 every thread's stack goes to ``path``, also while the interpreter hangs; so do those of a crash."""
    faulthandler.enable(all_threads=True)
    if path:
        # Open for the process's whole life: the handler may not open anything.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, files.PRIVATE_FILE_MODE)
        faulthandler.register(signal.SIGUSR1, file=descriptor, all_threads=True)


def wait_for_lock(home: Home) -> locks.Lock:
    """The lock on ``checkpoints/``, as soon as a predecessor has let it go.

    Raises:
        AlreadyRunningError: it still has it after :data:`LOCK_WAIT_SECONDS`.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            return locks.acquire_lock(home.checkpoints / checkpoints.LOCK_NAME, "training process")
        except AlreadyRunningError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOCK_POLL_SECONDS)
