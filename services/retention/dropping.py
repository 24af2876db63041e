"""What the retention worker lets go of besides copies of the model: content that no job needs, and shards.

The broker decides over content and journals it; it is deleted in the same breath, with nothing in between that could
interrupt, and reported. A shard is made again from its file whenever somebody needs it after all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from trainq import files, ingest
from trainq.config import Home, RetentionSettings
from trainq.ids import new_request_id
from trainq.messages import (
    MAX_DIGESTS,
    Done,
    DropData,
    GetUsedShards,
    Kept,
    Progress,
    ReportDataGone,
    ToDelete,
    UsedShards,
)
from trainq.quality import measures_name
from trainq.retention import leftovers
from trainq.service import HeldTask, Peer


class Dropped(NamedTuple):
    """How many were let go of, and the bytes that it has freed."""

    files: int = 0
    freed_bytes: int = 0


class Dropper:
    """Lets go for one task. ``proven`` names, when it is asked, the generation that proves what is
    trained for good (:func:`trainq.retention.stock.proving`), if it is whole."""

    def __init__(self, peer: Peer, held: HeldTask, home: Home, settings: RetentionSettings,
                 proven: Callable[[], str]) -> None:
        self._peer = peer
        self._held = held
        self._home = home
        self._settings = settings
        self._proven = proven

    def settle(self, kept: Kept) -> None:
        """Delete what was decided and, after a kill, may be there still."""
        self._delete(tuple(kept.dropping))

    def drop_data(self) -> Dropped:
        """Let go of the content that no job needs."""
        # All of it is looked through only where what is trained may go, too: a clock that was set back makes none old.
        before = self._peer.process.clock.wall() - leftovers.UNNAMED_SECONDS
        proven = self._proven() if self._settings.data_days else ""
        count = freed = 0
        for digests in _pages(leftovers.old_data(self._home, before)):
            self._held.keep_or_raise(Progress(step=count, unit="files"))
            reply = self._peer.call(DropData(
                request_id=new_request_id(), job=self._held.lease.job, token=self._held.lease.token, digests=digests,
                proven=proven), ToDelete, self._held.states)
            freed += self._delete(tuple(reply.digests))
            count += len(reply.digests)
        return Dropped(count, freed)

    def drop_shards(self, excess_bytes: int) -> Dropped:
        """Let go of the shards that no job needs: the old ones, and for want of room the others, the oldest first."""
        going = leftovers.spare_shards(self._home, self._settings, self._peer.process.clock.wall(), excess_bytes,
                                       self._used_among)
        for done, shard in enumerate(going):
            self._held.keep_or_raise(Progress(step=done, steps=len(going), unit="shards"))
            files.remove_tree(shard.path)
            files.remove_file(shard.path.with_name(measures_name(shard.path.name)))
        return Dropped(len(going), sum(shard.size_bytes for shard in going))

    def _used_among(self, shards: tuple[str, ...]) -> set[str]:
        asked = GetUsedShards(request_id=new_request_id(), shards=shards)
        return set(self._peer.call(asked, UsedShards, self._held.states).shards)

    def _delete(self, digests: Sequence[str]) -> int:
        """Delete and report them; the bytes that it has freed."""
        if not digests:
            return 0
        freed = 0
        for digest in digests:
            path = ingest.data_path(self._home, digest)
            freed += path.stat().st_size if path.is_file() else 0
            files.remove_file(path)
        self._peer.call(ReportDataGone(
            request_id=new_request_id(), job=self._held.lease.job, token=self._held.lease.token,
            digests=tuple(digests)), Done, self._held.states)
        return freed


def _pages(entries: Iterator[str]) -> Iterator[tuple[str, ...]]:
    while page := tuple(islice(entries, MAX_DIGESTS)):
        yield page
