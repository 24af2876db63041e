"""The journal's reserve: a file that is there to be deleted when the disk is full, so that what happens is recorded."""

from __future__ import annotations

from pathlib import Path

from trainq import files, room
from trainq.errors import StorageError, StorageFullError

NAME = "journal.reserve"


class Reserve:
    """Room on the disk that only the broker can use. It is laid by only where there is four times as much."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._size_bytes = size_bytes

    def lay_by(self) -> bool:
        """Have it there if there is room; whether it was made now. Never raises for a disk that will not."""
        try:
            there = self._path.stat().st_size if self._path.exists() else 0
            if there == self._size_bytes:
                return False
            if there or self._path.exists():  # of another setting, or of a life that was killed while it laid by
                files.remove_file(self._path)
            if not self._size_bytes:
                return False
            if room.usage(self._folder).free_bytes < 4 * self._size_bytes:
                return False
            files.allocate(self._path, self._size_bytes)
        except (OSError, StorageError, StorageFullError):
            return False
        return True

    def give_up(self) -> bool:
        """Delete it, so that its room is free; whether there was any."""
        if not self._path.exists():
            return False
        try:
            files.remove_file(self._path)
        except (StorageError, StorageFullError):
            return False
        return True
