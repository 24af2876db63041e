"""From an accepted file to a shard: the whole job of the preparer, a pure function of file, codec and settings.

Rules:

- Every row of the file ends in exactly one place; the report's sum closes, or nothing is published.
- A row is judged in this order: rejected (no sample, or the template refuses it, or nothing in it is trained),
  duplicate (the same content was there before in this file; the first stays), dropped because it is too long, held
  out, trained.
- A row is held out or not by its own digest alone, so it stays on its side in every file and for ever.
- A shard's name is its cache key: a digest over everything that decides its bytes. A shard that is there and verifies
  is used as it is; a damaged one is made again, and comes out the same.
- Whether a file is accepted is judged from the report each time, so ``max_bad_rows`` is no part of the key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec
import orjson
from blake3 import blake3

from trainq import files, ids, shards
from trainq.config import DataSettings
from trainq.duplicates import DigestSet
from trainq.errors import DamageError, InputError, UsageError
from trainq.jsonl import BLOCK_BYTES
from trainq.reports import (
    MAX_REASON_CHARACTERS,
    DataReport,
    RejectedRows,
    Tally,
    publish_reports,
    report_bytes,
)
from trainq.samples import BadRow, Row, read_rows, row_digest
from trainq.shards import Shard, ShardWriter
from trainq.textcodec import EncodedRow, TextCodec

# Goes up with every change that makes other shards out of the same input.
RULES = 2
REJECTED_NAME = "rejected.jsonl"
# Small enough that a batch takes well under a second and some 50 MB; the tokenizer gains nothing by more.
_BATCH_ROWS = 128
_BATCH_BYTES = 256 * 1024
_MOST_NAME_BYTES = 200


class PrepareProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the work is: the file is read twice, first to prove its digest.

    ``rows`` are rows judged, ``tokens`` those in the shard so far; bytes are of the file as it lies on disk.
    """

    stage: Literal["checking", "reading"]
    bytes_read: int
    bytes_total: int
    rows: int
    tokens: int


class Prepared(msgspec.Struct, frozen=True, kw_only=True, tag="prepared"):
    """The shard ``<destination_folder>/<shard>`` is there and whole; ``reused`` if it was before."""

    shard: str
    digest: str
    report: DataReport
    reused: bool


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag="rejected"):
    """Nothing of the file will be trained, and why."""

    reason: str
    report: DataReport


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a file: ``reason`` says why it would be rejected, and is empty if it would not."""

    reason: str
    report: DataReport


class RowFate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row: its ``digest`` is that of its content, empty if it is no sample.

    ``reason`` and ``mend`` are those of a rejected one.
    """

    line: int
    fate: Literal["trained", "held_out", "dropped_long", "duplicate", "rejected"]
    digest: bytes = b""
    reason: str = ""
    mend: str = ""


PrepareOutcome: TypeAlias = Prepared | Rejected
Beat: TypeAlias = Callable[[PrepareProgress], None]
Tell: TypeAlias = Callable[[RowFate], None]


class _Rows(Protocol):
    """Where rows that are trained go: a shard, or nowhere."""

    def append(self, token_ids: Sequence[int], trained: Sequence[bool], digest: bytes, line: int) -> None: ...


class _Nowhere:
    def append(self, token_ids: Sequence[int], trained: Sequence[bool], digest: bytes, line: int) -> None:
        pass


class _RefusedError(Exception):
    """Leaves the publishing block of a shard that is not to be."""

    def __init__(self, outcome: Rejected) -> None:
        self.outcome = outcome
        super().__init__(outcome.reason)


def prepare(source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, destination_folder: Path,
            rejected_folder: Path, name: str, beat: Beat) -> PrepareOutcome:
    """Turn the file ``source`` into a shard in ``destination_folder``.

    Idempotent: run again, it finds the shard, or makes the same one. Where rows or the whole file are rejected,
    ``<name>.report.json`` and ``<name>.rejected.jsonl`` are in ``rejected_folder`` when it returns.

    Args:
        source: an accepted file, plain or compressed; if its name is a digest, its content must have it.
        codec: the tokenizer and template of the model that will train on it.
        settings: ``map`` is the mapping to use; ``folders`` is not looked at.
        context_tokens: the longest row that the model can take.
        destination_folder: ``cache/``. One process works in it at a time.
        rejected_folder: where people look for what was not taken.
        name: how the reports are called: no path, no hidden name, at most 200 bytes.
        beat: called at least every 200 rows and about every MiB read; what it raises ends the work, and nothing
            half done stays. It is not called while the shard's files are synced and digested at the end.

    Raises:
        DamageError: ``source`` is not the file that its name says.
        StorageError, StorageFullError: the disk, not the file, is the reason.
        ValueError: ``name`` cannot be a file name.
    """
    if not name or name.startswith(".") or set(name) & {"/", "\0"} or len(name.encode()) > _MOST_NAME_BYTES:
        raise ValueError(f"{name!r} cannot be the name of a report")
    key = cache_key(_proven_digest(source, beat), codec, settings, context_tokens)
    path = destination_folder / key
    found = _existing(path)
    reused = found is not None
    if found is None:
        try:
            found = _make(path, source, codec, settings, context_tokens, rejected_folder, name, beat)
        except _RefusedError as refused:
            return refused.outcome
    digest, report = found
    reason = _refusal(report, settings)
    if report.rejected or reason:
        publish_reports(rejected_folder, name, report, reason, path / REJECTED_NAME if report.rejected else None)
    if reason:
        return Rejected(reason=reason, report=report)
    return Prepared(shard=key, digest=digest, report=report, reused=reused)


def examine(source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, beat: Beat) -> Examined:
    """What :func:`prepare` would make of ``source``, by the same code; nothing is written.

    Memory does not grow with the file, but for 16 bytes for each different row. ``beat`` as for :func:`prepare`.

    Raises:
        StorageError: the file cannot be read, which is not its content's fault.
    """
    reading = _Reading(codec, settings, context_tokens, _Nowhere(), None)
    reason = reading.run_to_verdict(source, beat)
    return Examined(reason=reason, report=reading.tally.report())


def trace(source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, tell: Tell) -> None:
    """Tell of each row of ``source``, in order, what :func:`prepare` makes of it, by the same code.

    Ends where damage ends the reading. What ``tell`` raises ends it, too.

    Raises:
        StorageError: the file cannot be read.
    """
    _Reading(codec, settings, context_tokens, _Nowhere(), None, tell).run_to_verdict(source, lambda _: None)


def cache_key(data_digest: str, codec: TextCodec, settings: DataSettings, context_tokens: int) -> str:
    """The name of the shard that is made of this data, with this codec and these settings."""
    parts = {"shard": shards.FORMAT, "rules": RULES, "data": data_digest, "codec": codec.digest,
             "map": settings.map, "long_rows": settings.long_rows, "held_out_fraction": settings.held_out_fraction,
             "context_tokens": context_tokens}
    return blake3(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def is_held_out(digest: bytes, fraction: float) -> bool:
    """Whether the row with this digest is kept from training. Growing ``fraction`` only moves rows out."""
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _proven_digest(source: Path, beat: Beat) -> str:
    """The BLAKE3 of the file, checked against its name where that is one."""
    hasher, bytes_read = blake3(), 0
    try:
        with source.open("rb") as stream:
            bytes_total = os.fstat(stream.fileno()).st_size
            while block := stream.read(BLOCK_BYTES):
                hasher.update(block)
                bytes_read += len(block)
                beat(PrepareProgress(stage="checking", bytes_read=bytes_read, bytes_total=bytes_total, rows=0,
                                     tokens=0))
    except OSError as error:
        raise files.storage_error(error, f"reading {source}") from error
    digest = hasher.hexdigest()
    if ids.is_digest(source.name) and source.name != digest:
        raise DamageError(str(source), f"its content has the digest {digest}", mend="submit the file again")
    return digest


def _existing(path: Path) -> tuple[str, DataReport] | None:
    """Digest and report of the shard under ``path`` if it is whole; a damaged one is removed."""
    if not path.exists():
        return None
    # Whoever published it may have ended before its name was durable.
    files.sync_directory(path.parent)
    try:
        with Shard.open(path, verify=True) as shard:
            return shard.digest, msgspec.json.decode(shard.report(), type=DataReport)
    except (DamageError, msgspec.MsgspecError):
        files.remove_tree(path)
        return None


def _make(path: Path, source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int,
          rejected_folder: Path, name: str, beat: Beat) -> tuple[str, DataReport]:
    """Read the file into a new shard under ``path``.

    Raises:
        _RefusedError: the file is rejected; its reports are published, the shard is not.
    """
    files.make_directory(path.parent)
    with (files.publish_directory(path) as folder,
          ShardWriter(folder, key=path.name, context_tokens=context_tokens, codec=codec.digest) as writer):
        rejected_rows = folder / REJECTED_NAME
        with rejected_rows.open("xb") as stream:
            reading = _Reading(codec, settings, context_tokens, writer, RejectedRows(stream))
            reason = reading.run_to_verdict(source, beat)
        report = reading.tally.report()
        if reason:
            publish_reports(rejected_folder, name, report, reason, rejected_rows if report.rejected else None)
            raise _RefusedError(Rejected(reason=reason, report=report))
        if not report.rejected:
            rejected_rows.unlink()
        return writer.seal(report_bytes(report)).digest, report


class _Reading:
    """One pass over a file. Rows go through in batches, so that the tokenizer may use every processor."""

    def __init__(self, codec: TextCodec, settings: DataSettings, context_tokens: int, writer: _Rows,
                 rejected_rows: RejectedRows | None, tell: Tell | None = None) -> None:
        self._codec, self._settings, self._context_tokens = codec, settings, context_tokens
        self._writer, self._rejected_rows, self._tell = writer, rejected_rows, tell
        self._seen = DigestSet()
        self._batch: list[Row] = []
        self._batch_bytes = 0
        self.tally = Tally()

    def run_to_verdict(self, source: Path, beat: Beat) -> str:
        """Read ``source``; why it is rejected as a whole, empty if it is not."""
        try:
            self.run(source, beat)
        except InputError as error:
            return f"{f'line {error.line}: ' if error.line > 1 else ''}{error.reason} ({error.mend})"
        except UsageError as error:
            return str(error)
        return _refusal(self.tally.report(), self._settings)

    def run(self, source: Path, beat: Beat) -> None:
        """Read ``source`` to its end, or to the damage that ends it; the rows before it are counted."""
        bytes_read, bytes_total = 0, source.stat().st_size

        def on_bytes(position: int) -> None:
            nonlocal bytes_read
            bytes_read = position
            beat(PrepareProgress(stage="reading", bytes_read=bytes_read, bytes_total=bytes_total,
                                 rows=self.tally.read, tokens=self.tally.tokens))

        try:
            for row in read_rows(source, self._settings.map, on_bytes):
                self._batch.append(row)
                self._batch_bytes += len(row.line.content)
                if len(self._batch) >= _BATCH_ROWS or self._batch_bytes >= _BATCH_BYTES:
                    self._settle_batch()
                    on_bytes(bytes_read)
        except InputError:
            # The rows before the damage are counted, so that the report's sum closes.
            self._settle_batch()
            raise
        self._settle_batch()
        on_bytes(bytes_read)

    def _settle_batch(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        digests = [b"" if isinstance(row.verdict, BadRow) else row_digest(row.verdict) for row in batch]
        fresh = {digest: row.verdict for row, digest in zip(batch, digests, strict=True)
                 if not isinstance(row.verdict, BadRow) and digest not in self._seen}
        encoded = dict(zip(fresh, self._codec.encode_batch(list(fresh.values()), self._context_tokens), strict=True))
        for row, digest in zip(batch, digests, strict=True):
            self.tally.read += 1
            if isinstance(row.verdict, BadRow):
                self._reject(row, row.verdict)
            elif digest not in encoded:  # seen before this batch, or settled in it
                self.tally.duplicate += 1
                self._note(row, "duplicate", digest)
            elif self._settle(row, digest, encoded[digest]):
                del encoded[digest]

    def _settle(self, row: Row, digest: bytes, encoded: EncodedRow | InputError) -> bool:
        """Whether the row is good, so that the next one with its digest is a duplicate."""
        if isinstance(encoded, InputError):
            self._reject(row, _bad_row(row, encoded))
            return False
        if encoded.whole and not any(encoded.trained):
            self._reject(row, _bad_row(row, InputError("nothing in it is trained: it makes no token to learn",
                                                       mend="look at the row and the chat template")))
            return False
        self._seen.add(digest)
        too_long = not encoded.whole or len(encoded.token_ids) > self._context_tokens
        trained = encoded.trained[:self._context_tokens]
        if too_long and (self._settings.long_rows == "drop" or not any(trained)):
            self.tally.dropped_long += 1
            self._note(row, "dropped_long", digest)
        elif is_held_out(digest, self._settings.held_out_fraction):
            self.tally.held_out += 1
            self._note(row, "held_out", digest)
        else:
            self._writer.append(encoded.token_ids[:self._context_tokens], trained, digest, row.line.number)
            self.tally.train(len(trained), trained.count(True), truncated=too_long)
            self._note(row, "trained", digest)
        return True

    def _note(self, row: Row, fate: Literal["trained", "held_out", "dropped_long", "duplicate"],
              digest: bytes) -> None:
        if self._tell is not None:
            self._tell(RowFate(line=row.line.number, fate=fate, digest=digest))

    def _reject(self, row: Row, bad_row: BadRow) -> None:
        listed = self._rejected_rows is not None and self._rejected_rows.append(bad_row, row.line)
        self.tally.reject(bad_row, listed=listed)
        if self._tell is not None:
            self._tell(RowFate(line=row.line.number, fate="rejected", reason=bad_row.reason, mend=bad_row.mend))


def _bad_row(row: Row, error: InputError) -> BadRow:
    return BadRow(line=row.line.number, column=1, field=error.field, reason=error.reason[:MAX_REASON_CHARACTERS],
                  mend=error.mend)


def _refusal(report: DataReport, settings: DataSettings) -> str:
    """Why a file with this report is not trained; empty if it is."""
    if report.rejected > settings.max_bad_rows * report.read:
        return (f"{report.rejected} of {report.read} rows are bad ({report.rejected / report.read:.1%}), which is more "
                f"than data.max_bad_rows allows ({settings.max_bad_rows:.1%}); mend these rows, or allow more")
    if not report.trained:
        return (f"no row is left to train on: of {report.read}, {report.rejected} are bad, {report.dropped_long} too "
                f"long, {report.held_out} held out, {report.duplicate} duplicates; add good rows")
    return ""
