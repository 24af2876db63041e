"""Gathering what a shard is made with besides its file: the index of the guarded suites, and the rows to replay.

The first time both are made out of what is there now, and stored in ``data/`` under their digests before they are
named to the broker. A shard that is made again takes what the journal names, whatever is there now: suites change, and
other jobs have succeeded since.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import islice

from trainq import ingest, preparing, rehearsal
from trainq.config import Home
from trainq.enclosures import inputs_of
from trainq.jobs import MAX_SOURCES, Enclosed, EnclosedRole
from trainq.leaks import Guarded, LeakIndex, SuitesReader
from trainq.logs import EventLog
from trainq.messages import Lease, TrainedShard
from trainq.preparing import Inputs, PrepareProgress
from trainq.rehearsal import Source
from trainq.textcodec import TextCodec


class Gatherer:
    """Keeps the index of the suites until they change. Owned by the main thread."""

    def __init__(self, home: Home, log: EventLog) -> None:
        self._home = home
        self._log = log
        self._reader = SuitesReader(home.suites)
        self._guarded = Guarded(None, {})
        self._index: LeakIndex | None = None
        self._content = b""
        # The digest under which it was last stored.
        self._digest = ""

    def gather(self, lease: Lease, codec: TextCodec, beat: Callable[[PrepareProgress], None],
               ask_trained: Callable[[], Sequence[TrainedShard]]) -> tuple[tuple[Enclosed, ...], Inputs]:
        """What the shard of this lease is made with: as it is to be journalled, and read.

        Args:
            lease: on the preparation.
            codec: with which the shard is made.
            beat: as for :func:`trainq.preparing.prepare`.
            ask_trained: the broker's answer, which jobs have succeeded; asked only where rows are to be replayed.

        Raises:
            DamageError: what the journal names is gone or damaged.
            StorageError, StorageFullError: the disk.
        """
        enclosed = lease.enclosed
        if enclosed is None:
            suites = self._suites() if lease.spec.gate.measures else None
            pack = self._pack(lease, codec, beat, ask_trained) if lease.spec.data.replay_fraction else None
            enclosed = tuple(each for each in (pack, suites) if each is not None)
        return enclosed, inputs_of(self._home, lease.spec.gate, enclosed,
                                   {self._digest: self._index} if self._index is not None else {})

    def _suites(self) -> Enclosed | None:
        guarded = self._reader.read()
        if guarded is not self._guarded:
            for suite, reason in sorted(guarded.unread.items() - self._guarded.unread.items()):
                self._log.warning("suite_not_guarded", suite=suite, reason=reason,
                                  mend="trainq suites list says what is wrong with it")
            self._guarded, self._index = guarded, guarded.index
            self._content = self._index.content() if self._index is not None else b""
            self._digest = ""  # the one before is that of another index
        if self._index is None:
            return None
        # Each time: what no job names any more may have been let go of since.
        enclosed = self._store(EnclosedRole.SUITES, self._content, self._index.rows())
        self._digest = enclosed.digest
        return enclosed

    def _pack(self, lease: Lease, codec: TextCodec, beat: Callable[[PrepareProgress], None],
              ask_trained: Callable[[], Sequence[TrainedShard]]) -> Enclosed | None:
        # A file that is trained a second time would only be replayed to itself.
        sources = [Source(each.job, self._home.cache / each.shard) for each in ask_trained()
                   if each.digest != lease.digest and each.shard]
        if not sources:
            return None
        rows = preparing.count_lines(ingest.data_path(self._home, lease.digest), beat)
        index = self._index if lease.spec.gate.measures else None
        size_bytes, fraction = lease.size_bytes, lease.spec.data.held_out_fraction
        drawn = rehearsal.draw(
            sources, codec.digest, rehearsal.wanted_rows(rows, lease.spec.data.replay_fraction),
            f"{lease.spec.train.seed}|{lease.digest}".encode(),
            lambda digest, sample: not preparing.is_held_out(digest, fraction)
            and (index is None or index.find(sample) is None),
            lambda: beat(PrepareProgress(stage="checking", bytes_read=size_bytes, bytes_total=size_bytes, rows=0,
                                         tokens=0)))
        return self._store(EnclosedRole.REPLAY, drawn.content, drawn.sources) if drawn is not None else None

    def _store(self, role: EnclosedRole, content: bytes, sources: dict[str, int]) -> Enclosed:
        stored = ingest.store_stream(self._home, io.BytesIO(content), role.value)
        return Enclosed(role=role, digest=stored.digest, size_bytes=stored.size_bytes,
                        sources=dict(islice(sources.items(), MAX_SOURCES)))
