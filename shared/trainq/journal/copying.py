"""Copying the journal while it is written: a piece at a time, so that nobody waits for it.

SQLite's online backup (https://sqlite.org/backup.html): what the same connection writes meanwhile goes into the copy as
well, so it is the journal as it is when the last piece is done.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from trainq.journal.store import Journal, storage_errors

# Half a MiB of SQLite's 4 KiB pages: a few milliseconds.
PAGES_AT_ONCE = 128


class JournalCopy:
    """One copy in the making. ``path`` must not exist; it is no durable file, and the caller's to remove."""

    def __init__(self, journal: Journal, path: Path) -> None:
        self._journal = journal
        self.path = path
        # The journal's newest event in the finished copy.
        self.seq = 0
        with storage_errors(path):
            self._destination = apsw.Connection(str(path))
            self._destination.execute("PRAGMA synchronous=off").fetchall()
            self._backup = self._destination.backup("main", journal.connection, "main")

    @property
    def is_done(self) -> bool:
        """Whether all of it is there."""
        return self.seq > 0

    @property
    def pages(self) -> tuple[int, int]:
        """How many are copied, of how many."""
        return self._backup.page_count - self._backup.remaining, self._backup.page_count

    def step(self) -> None:
        """Copy one more piece. Outside of a transaction.

        Raises:
            StorageError, StorageFullError: the copy cannot be written; close it.
        """
        with storage_errors(self.path):
            if self._backup.step(PAGES_AT_ONCE):
                self._backup.finish()
                self.seq = self._journal.head_seq
                self._destination.close()

    def close(self) -> None:
        """Leave it, done or not."""
        self._backup.close(True)
        self._destination.close(True)
