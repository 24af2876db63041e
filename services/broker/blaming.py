"""Whose fault an error of the disk is: only the journal's own ends the broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trainq.errors import StorageError, StorageFullError, TrainqError


@contextlib.contextmanager
def not_the_journals(doing: str) -> Iterator[None]:
    """Errors of the disk in this block say nothing of the journal, which is written on: they refuse one request.

    Raises:
        TrainqError: in place of what the disk said.
    """
    try:
        yield
    except (StorageError, StorageFullError) as error:
        raise TrainqError(f"{doing}: {error.message}", mend=error.mend) from error
