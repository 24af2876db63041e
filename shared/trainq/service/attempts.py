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
    except (StorageError, StorageFullError) as error:
        process.log.warning("attempt_not_kept", job=job, error=str(error))
        return
    process.log.begin_attempt(folder, process.name, job, attempt)


def prune(folder: Path, most: int) -> None:
    """Remove the oldest files once there are more than ``most``, and some more of them."""
    found = list(folder.iterdir())
    if len(found) <= most:
        return
    aged = sorted((path.stat().st_mtime, path) for path in found if path.exists())
    for _, path in aged[:len(found) - most + min(_FEWER, most)]:
        files.remove_file(path)
