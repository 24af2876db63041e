"""Settling: which files in the inbox are whole. Pure: what a sweep saw and ``now`` in, what to take out.

A file counts as settled when its size, modification time and inode have been the same for ``settle_seconds``. Files
that are taken together are ordered by modification time, then by name, so that a copied folder keeps its order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from trainq.suffixes import DATA_SUFFIXES, is_data_name, is_unfinished_name


class EntryKind(StrEnum):
    """What a name in the inbox is."""

    FILE = "file"
    SYMLINK = "symbolic link"
    FOLDER = "folder"
    SPECIAL = "FIFO, socket or device"
    # A folder that cannot be listed, or a name that cannot be looked at: it stays, and the status says so.
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One name as a sweep saw it; ``name`` is the path below the inbox, ``mtime_ns`` nanoseconds since 1970."""

    name: str
    kind: EntryKind
    size_bytes: int = 0
    mtime_ns: int = 0
    inode: int = 0


def is_ignored(name: str) -> bool:
    """Hidden names and the names of downloads and copies in progress are nobody's business yet."""
    path = PurePosixPath(name)
    return any(part.startswith(".") for part in path.parts) or is_unfinished_name(path.name)


def refusal(entry: Entry) -> str | None:
    """Why this name can never be accepted, or None."""
    if entry.kind is not EntryKind.FILE:
        return f"it is a {entry.kind.value}, not a file; copy the content itself into the inbox"
    if not is_data_name(entry.name):
        return f"its ending is none of {', '.join(DATA_SUFFIXES)}; trainq reads JSON lines"
    return None


@dataclass(slots=True)
class Settling:
    """What has been seen so far, and since when it has not changed (monotonic seconds)."""

    settle_seconds: float
    _since: dict[str, tuple[Entry, float]] = field(default_factory=dict)

    def observe(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Note one sweep; the entries that are settled now, in the order in which to take them."""
        seen = {entry.name: entry for entry in entries if not is_ignored(entry.name)}
        self._since = {
            name: previous if (previous := self._since.get(name)) and previous[0] == entry else (entry, now)
            for name, entry in seen.items()
        }
        settled = [entry for entry, since in self._since.values() if now - since >= self.settle_seconds]
        return sorted(settled, key=lambda entry: (entry.mtime_ns, entry.name))

    @property
    def watched(self) -> int:
        """How many entries the last sweep has seen that are to be taken, settled or not."""
        return len(self._since)

    def seconds_to_next(self, now: float) -> float | None:
        """How long until the next of those seen could be settled; None if there are none."""
        return min((max(0.0, since + self.settle_seconds - now) for _, since in self._since.values()), default=None)
