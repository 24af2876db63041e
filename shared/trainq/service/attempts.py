"""What is kept of the attempts at jobs: ``logs/jobs`` holds their first and last lines, of the newest so many files."""

from __future__ import annotations

from pathlib import Path

from trainq import files
from trainq.errors import StorageError, StorageFullError
from trainq.logs import JOBS_FOLDER
from trainq.service.process import Process

# Some three of them are one attempt of one service: those of the newest thousand jobs or so stay.
MOST_FILES = 4000
# So many go at once, so that the folder is listed seldom.
_FEWER = 400


def begin(process: Process, job: str, attempt: int) -> None:
    """An attempt begins: what is logged from now on is kept with it. A disk that does not take it hinders nothing."""
    folder = process.home.logs
    try:
        files.make_directory(folder / JOBS_FOLDER)
        prune(folder / JOBS_FOLDER, MOST_FILES)
    except (StorageError, StorageFullError, OSError) as error:
        process.log.warning("attempt_not_kept", job=job, error=str(error))
        return
    process.log.begin_attempt(folder, process.name, job, attempt)


def prune(folder: Path, most: int) -> None:
    """Remove the oldest files once there are more than ``most``, and some more of them."""
    found = list(folder.iterdir())
    if len(found) <= most:
        return
    aged = sorted(filter(None, map(_age, found)))
    for _, path in aged[:len(found) - most + min(_FEWER, most)]:
        # Not made durable: a lease was just granted, and one that is back after a power cut goes with the next ones.
        path.unlink(missing_ok=True)


def _age(path: Path) -> tuple[float, Path] | None:
    try:
        return path.stat().st_mtime, path
    except FileNotFoundError:
        return None  # another service tidies up, too
