"""Gathering what a shard is made with besides its file: the index of the guarded suites, and the rows to replay.

The first time both are made out of what is there now, and stored in ``data/`` under their digests before they are
named to the broker. A shard that is made again takes what the journal names, whatever is there now: suites change, and
other jobs have succeeded since.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import islice

from trainq import ingest, leaks, preparing, rehearsal
from trainq.config import Home
from trainq.enclosures import inputs_of
from trainq.ids import new_request_id
from trainq.jobs import MAX_SOURCES, Enclosed, EnclosedRole
from trainq.leaks import LeakIndex
from trainq.messages import GetTrainedShards, TrainedShards
from trainq.preparing import Inputs, PrepareProgress
from trainq.rehearsal import Source
from trainq.service import HeldLease, Peer
from trainq.textcodec import TextCodec


class Gatherer:
    """Keeps the index of the suites until they change. Owned by the main thread."""

    def __init__(self, home: Home, peer: Peer) -> None:
        self._home, self._peer = home, peer
        self._signature: object = None
        self._index: LeakIndex | None = None
        self._content = b""
        # The digest under which it was last stored.
        self._digest = ""

    def gather(self, held: HeldLease, codec: TextCodec,
               beat: Callable[[PrepareProgress], None]) -> tuple[tuple[Enclosed, ...], Inputs]:
        """What the shard of this lease is made with: as it is to be journalled, and read.

        Raises:
            DamageError: what the journal names is gone or damaged.
            StorageError, StorageFullError: the disk.
        """
        spec, enclosed = held.lease.spec, held.lease.enclosed
        if enclosed is None:
            index = self._suites() if spec.gate.measures else None
            pack = self._pack(held, codec, index, beat) if spec.data.replay_fraction else None
            enclosed = tuple(each for each in (index, pack) if each is not None)
        return enclosed, inputs_of(self._home, spec.gate, enclosed,
                                   {self._digest: self._index} if self._index is not None else {})

    def _suites(self) -> Enclosed | None:
        signature = leaks.signature_of(self._home.suites)
        if signature != self._signature:
            self._index = leaks.read_suites(self._home.suites)
            self._content = self._index.content() if self._index is not None else b""
            self._signature = signature
        if self._index is None:
            return None
        # Each time: what no job names any more may have been let go of since.
        enclosed = self._store(EnclosedRole.SUITES, self._content, self._index.rows())
        self._digest = enclosed.digest
        return enclosed

    def _pack(self, held: HeldLease, codec: TextCodec, suites: Enclosed | None,
              beat: Callable[[PrepareProgress], None]) -> Enclosed | None:
        lease, home = held.lease, self._home
        known = self._peer.call(GetTrainedShards(request_id=new_request_id()), TrainedShards, held.states).shards
        # A file that is trained a second time would only be replayed to itself.
        sources = [Source(each.job, home.cache / each.shard) for each in known if each.digest != lease.digest]
        if not sources:
            return None
        rows = preparing.count_lines(ingest.data_path(home, lease.digest), beat)
        index = self._index if suites is not None else None
        drawn = rehearsal.draw(
            sources, codec.digest, rehearsal.wanted_rows(rows, lease.spec.data.replay_fraction),
            f"{lease.spec.train.seed}|{lease.digest}".encode(),
            lambda digest, sample: not preparing.is_held_out(digest, lease.spec.data.held_out_fraction)
            and (index is None or index.find(sample) is None),
            lambda: held.keep_or_raise(held.progress))
        return self._store(EnclosedRole.REPLAY, drawn.content, drawn.sources) if drawn is not None else None

    def _store(self, role: EnclosedRole, content: bytes, sources: dict[str, int]) -> Enclosed:
        stored = ingest.store_stream(self._home, io.BytesIO(content), role.value)
        return Enclosed(role=role, digest=stored.digest, size_bytes=stored.size_bytes,
                        sources=dict(islice(sources.items(), MAX_SOURCES)))
