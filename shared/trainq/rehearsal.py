"""Replay: rows of earlier jobs that are trained again with a new file, against forgetting.

Each shard keeps a *reservoir* beside its arrays: some trained rows, drawn by their digests, as canonical text. When a
file is prepared for the first time, a *pack* is drawn from the reservoirs of jobs that have succeeded: a file of
canonical rows, stored under its digest. Rows of the pack stand behind the file's own in the shard. The draw depends on
what has succeeded by then, so the pack is journalled, and a shard that is made again takes the journalled one.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from blake3 import blake3

from trainq import manifests, shards
from trainq.errors import DamageError, NewerFormatError, StorageError
from trainq.samples import Sample

RESERVOIR_NAME, HELD_OUT_NAME = "reservoir.jsonl", "held_out.jsonl"
RESERVOIR_ROWS = 500
# Long rows are left out of reservoirs, so that one takes at most 8 MB.
MAX_ROW_BYTES = 16 * 1024
MAX_PACK_ROWS = 10_000
MAX_PACK_BYTES = 32 * 1024 * 1024
# Some rows of the pack may turn out to be the file's own, too long, or to be held out.
_SPARE_SHARE, _SPARE_ROWS = 0.25, 16

_decoder = msgspec.json.Decoder(Sample)


class Source(NamedTuple):
    """A job that has succeeded, and where its shard lies, or lay."""

    job: str
    shard: Path


class Drawn(NamedTuple):
    """A pack that was drawn: its bytes, and how many rows are of which job."""

    content: bytes
    sources: dict[str, int]


def rank_of(digest: bytes) -> bytes:
    """Where a row stands among those of its file; the first ones are kept. It says nothing of the digest."""
    return blake3(b"reservoir" + digest).digest()


class Reservoir:
    """Rows drawn from all that were offered, the same ones in whatever order; memory is bounded.

    The draw is by :func:`rank_of`. The digest itself decides which rows are held out: those with small ones. Of rows
    with the smallest digests nothing would be left to replay once a larger share is held out.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[bytes, bytes]] = []

    def offer(self, digest: bytes, content: bytes) -> None:
        """A trained row, with its canonical text."""
        rank = rank_of(digest)
        if len(content) > MAX_ROW_BYTES or (len(self._rows) == RESERVOIR_ROWS and rank > self._rows[-1][0]):
            return
        bisect.insort(self._rows, (rank, content))
        del self._rows[RESERVOIR_ROWS:]

    def content(self) -> bytes:
        """One row a line, in the order of their ranks."""
        return b"".join(content + b"\n" for _, content in self._rows)


class Pack:
    """A pack that was drawn before, proven: rows as canonical text with their digests."""

    def __init__(self, content: bytes, digest: str) -> None:
        self.digest = digest
        self._lines = content.splitlines()

    @classmethod
    def read(cls, path: Path, digest: str) -> Pack:
        """The stored pack with this digest.

        Raises:
            DamageError: it is gone, or is another.
        """
        content = read_stored(path, digest)
        return cls(content, digest)

    def rows(self) -> Iterator[tuple[int, bytes, Sample]]:
        """(number from 1, digest, sample) of each row.

        Raises:
            DamageError: one is no row.
        """
        for number, line in enumerate(self._lines, 1):
            try:
                yield number, blake3(line).digest(), _decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DamageError(f"replay pack {self.digest}", f"line {number} is no row: {error}") from error


def read_stored(path: Path, digest: str) -> bytes:
    """The bytes of a small file in ``data/``, proven.

    Raises:
        DamageError: it is gone, or is another.
        StorageError: the machine did not let it be read.
    """
    content = b"".join(manifests.chunks(path)) if path.is_file() else b""
    if blake3(content).hexdigest() != digest:
        raise DamageError(str(path), "what a shard was made with is gone or damaged: it cannot be made again",
                          mend="restore it from a backup, or submit the job's file again with --force")
    return content


def wanted_rows(rows: int, fraction: float) -> int:
    """How many rows to draw for a file of at most so many rows."""
    wanted = int(fraction * rows)
    return min(MAX_PACK_ROWS, wanted + int(_SPARE_SHARE * wanted) + _SPARE_ROWS) if wanted else 0


def draw(sources: Iterable[Source], codec: str, rows: int, seed: bytes, is_wanted: Callable[[bytes, Sample], bool],
         beat: Callable[[], None]) -> Drawn | None:
    """Draw a pack of at most ``rows`` rows; None if there is no row to draw.

    Every row of every reservoir is as likely as any other; the same sources and seed give the same pack. Shards that
    are gone, damaged, of another codec, or without a reservoir are passed over.

    Args:
        sources: jobs that have succeeded.
        codec: digest of the codec that the shard is made with.
        rows: at most so many, and of at most :data:`MAX_PACK_BYTES` together.
        seed: what orders the rows.
        is_wanted: told digest and sample, whether a row may be drawn.
        beat: called for each source; may raise.
    """
    # The largest first, which is the first to go.
    chosen: list[tuple[int, bytes, str]] = []
    taken: set[bytes] = set()
    for source in sources if rows else ():
        beat()
        for line in _reservoir(source.shard, codec):
            digest = blake3(line).digest()
            place = -int.from_bytes(blake3(seed + digest).digest()[:16], "big")
            if digest in taken or (len(chosen) == rows and place < chosen[0][0]) \
                    or not is_wanted(digest, _decoder.decode(line)):
                continue
            taken.add(digest)
            entry = (place, line, source.job)
            if len(chosen) < rows:
                heapq.heappush(chosen, entry)
            else:
                heapq.heapreplace(chosen, entry)
    content, found = bytearray(), dict[str, int]()
    for _, line, job in sorted(chosen, reverse=True):
        if len(content) + len(line) >= MAX_PACK_BYTES:
            break
        content += line + b"\n"
        found[job] = found.get(job, 0) + 1
    return Drawn(bytes(content), found) if content else None


def _reservoir(shard: Path, codec: str) -> list[bytes]:
    """The rows of a shard's reservoir, proven; none where there is none that can be used."""
    try:
        manifest = manifests.read(shard, shards.KIND)
        record = manifest.files.get(RESERVOIR_NAME)
        if record is None or manifest.facts.get("codec") != codec:
            return []
        content = b"".join(manifests.chunks(shard / RESERVOIR_NAME))
    except (DamageError, NewerFormatError, StorageError, OSError):
        return []  # it is no loss to replay others
    if blake3(content).hexdigest() != record.blake3:
        return []
    return [line for line in content.splitlines() if _is_row(line)]


def _is_row(line: bytes) -> bool:
    try:
        _decoder.decode(line)
    except msgspec.MsgspecError:
        return False
    return True
