"""What lies in a home besides copies of the model and could go: content of files, and shards. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from trainq import files, ids, manifests
from trainq.config import Home, RetentionSettings
from trainq.errors import DamageError, NewerFormatError, StorageError
from trainq.messages import MAX_DIGESTS
from trainq.retention.stock import used_bytes

# A submit stores its content first; who was interrupted in between may come again within a day.
UNNAMED_SECONDS = 86_400.0
# With some rows of the newest ones a merged model is checked.
SHARDS_KEPT = 8
# That of trainq.shards, which needs numpy.
SHARD_KIND = "shard"
_DAY_SECONDS = 86_400.0


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


def spare_shards(home: Home, settings: RetentionSettings, now: float, excess_bytes: int,
                 used_among: Callable[[tuple[str, ...]], set[str]]) -> list[OldShard]:
    """The shards that go: the old ones that no job needs, and for want of room the others, the oldest first.

    Args:
        home: whose.
        settings: say what is old.
        now: wall seconds since 1970.
        excess_bytes: how much too much there is.
        used_among: says which of so many names a job needs that has not ended; asked for at most
            :data:`~trainq.messages.MAX_DIGESTS` at once.
    """
    long_ago = now - settings.shard_days * _DAY_SECONDS
    going, freed, found = list[OldShard](), 0, iter(old_shards(home))
    while page := tuple(islice(found, MAX_DIGESTS)):
        used = used_among(tuple(shard.path.name for shard in page))
        for shard in page:
            if shard.path.name not in used and (shard.at <= long_ago or freed < excess_bytes):
                going.append(shard)
                freed += shard.size_bytes
    return going


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(files.TEMPORARY_PREFIX))
