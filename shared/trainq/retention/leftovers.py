"""What lies in a home besides copies of the model and could go: content of files, and shards. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainq import files, ids, manifests
from trainq.config import Home
from trainq.errors import DamageError, NewerFormatError, StorageError
from trainq.retention.stock import used_bytes
from trainq.shards import KIND as SHARD_KIND

# A submit stores its content first; who was interrupted in between may come again within a day.
UNNAMED_SECONDS = 86_400.0
# With some rows of the newest ones a merged model is checked.
SHARDS_KEPT = 8


class OldShard(NamedTuple):
    """A shard that was last written at ``at`` (wall seconds since 1970), and what its removal frees."""

    path: Path
    at: float
    size_bytes: int


def old_data(home: Home, before: float) -> Iterator[str]:
    """The digests of the content that was stored before that moment (wall seconds since 1970), in their order."""
    for folder in _entries(home.data):
        if len(folder.name) != 2:
            continue  # the spool
        for path in _entries(folder):
            try:
                if ids.is_digest(path.name) and path.stat().st_mtime <= before:
                    yield path.name
            except FileNotFoundError:
                continue  # gone meanwhile


def old_shards(home: Home) -> list[OldShard]:
    """Every shard but the newest few, the oldest first."""
    found = []
    for path in _entries(home.cache):
        try:
            manifests.read(path, SHARD_KIND)
            at = (path / manifests.MANIFEST_NAME).stat().st_mtime
        except (OSError, DamageError, NewerFormatError, StorageError):
            continue  # nothing that we have written, or one that is just being made or removed
        found.append((at, path))
    found.sort()
    return [OldShard(path, at, used_bytes(path)) for at, path in found[:-SHARDS_KEPT]]


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(files.TEMPORARY_PREFIX))
