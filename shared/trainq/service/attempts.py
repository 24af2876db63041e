"""What is kept of the attempts at jobs: ``logs/jobs`` holds their first and last lines, of the newest so many files."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from trainq import files
from trainq.errors import StorageError, StorageFullError
from trainq.logs import JOBS_FOLDER, attempt_name
from trainq.service.process import Process

# Some three of them are one attempt of one service: those of the newest thousand jobs or so stay.
MOST_FILES = 4000
# So many go at once, so that the folder is listed seldom.
_FEWER = 400
# A file that is so far in the future is of a time before the clock was set back: no file system's clock is so wrong.
_AHEAD_SECONDS = 3600.0


def begin(process: Process, job: str, attempt: int) -> None:
    """An attempt begins: what is logged from now on is kept with it. A disk that does not take it hinders nothing."""
    folder = process.home.logs
    try:
        files.make_directory(folder / JOBS_FOLDER)
        prune(folder / JOBS_FOLDER, MOST_FILES, attempt_name(process.name, job, attempt))
    except (StorageError, StorageFullError, OSError) as error:
        process.log.warning("attempt_not_kept", job=job, error=str(error))
        return
    process.log.begin_attempt(folder, process.name, job, attempt)


def prune(folder: Path, most: int, open_name: str) -> None:
    """Remove the oldest files once there are more than ``most``, and some more of them.

    All files of an attempt are as old as the newest of them: one that goes on for days keeps its first lines. Those of
    ``open_name`` stay (:func:`trainq.logs.attempt_name`): it goes on after it was given back. What is no file is left
    alone, and not counted.
    """
    found = list(folder.iterdir())
    if len(found) <= most:
        return
    aged = list(filter(None, map(_age, found)))
    newest: dict[str, tuple[bool, float]] = {}
    for age, path in aged:
        newest[_attempt(path)] = max(age, newest.get(_attempt(path), age))
    removable = sorted((newest[_attempt(path)], path) for _, path in aged if _attempt(path) != open_name)
    if (more := len(aged) - most) > 0:
        for _, path in removable[:more + min(_FEWER, most)]:
            # Not made durable: a lease was just granted, and what is back after a power cut goes the next time.
            path.unlink(missing_ok=True)


def _attempt(path: Path) -> str:
    """Whose lines they are: ``train-3.1.trainer`` of ``train-3.1.trainer.last.log.1``."""
    return ".".join(path.name.split(".", 3)[:3])


def _age(path: Path) -> tuple[tuple[bool, float], Path] | None:
    """The file with what sorts it, the oldest first; None if it is no file."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None  # another service tidies up, too
    if not stat.S_ISREG(found.st_mode):
        return None
    return (found.st_mtime <= time.time() + _AHEAD_SECONDS, found.st_mtime), path
