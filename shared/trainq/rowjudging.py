"""Judging the rows of a file, one pass: where each of them ends, and what is measured of them on the way.

A row is judged in this order: rejected (no sample, or it stands in a guarded suite, or nearly so in a held-out row, or
the template refuses it, or nothing in it is trained), duplicate (the same content was there before in this file; the
first stays), dropped because it is too long, held out, trained. Behind the last row come those that are replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import msgspec
import orjson

from trainq import scoring, textfaults
from trainq.config import DataSettings, GateSettings
from trainq.duplicates import DigestSet
from trainq.errors import InputError
from trainq.leaks import LeakIndex, whole_key
from trainq.quality import Measuring
from trainq.rehearsal import Pack, Reservoir
from trainq.reports import MAX_REASON_CHARACTERS, DataReport, RejectedRows, Tally
from trainq.samples import BadRow, ChatSample, Row, Sample, canonical, digest_of, read_rows
from trainq.shards import replayed_line
from trainq.textcodec import EncodedRow, TextCodec

# Small enough that a batch takes well under a second and some 50 MB; the tokenizer gains nothing by more.
_BATCH_ROWS = 128
_BATCH_BYTES = 256 * 1024
_ELSEWHERE = "leave it out: what is learned by heart measures nothing"

Fate: TypeAlias = Literal["trained", "held_out", "dropped_long", "duplicate", "rejected"]
# Told how many bytes of the file as it lies on disk are read.
OnBytes: TypeAlias = Callable[[int], None]


class RowFate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row: its ``digest`` is that of its content, empty if it is no sample.

    ``reason`` and ``mend`` are those of a rejected one.
    """

    line: int
    fate: Fate
    digest: bytes = b""
    reason: str = ""
    mend: str = ""


class _Leak(NamedTuple):
    """Why a row may not be trained, the sort of reasons that this is counted with, and the suite if it is in one."""

    reason: str
    sort: str
    suite: str = ""


_NEARLY_HELD_OUT = _Leak(*["it is nearly the same as a row of this file that is held out"] * 2)


class Rows(Protocol):
    """Where rows that are trained go: a shard, or nowhere."""

    def append(self, token_ids: Sequence[int], trained: Sequence[bool], digest: bytes, line: int) -> None: ...


class Nowhere:
    """For those who only look."""

    def append(self, token_ids: Sequence[int], trained: Sequence[bool], digest: bytes, line: int) -> None:
        pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What decides over the rows besides the file, the codec and ``[data]``.

    ``leaks`` are the rows of the guarded suites, ``leaks_digest`` that of their index as it is stored; ``pack`` the
    rows to replay.
    """

    gate: GateSettings = field(default_factory=GateSettings.none)
    leaks: LeakIndex | None = None
    leaks_digest: str = ""
    pack: Pack | None = None


def is_held_out(digest: bytes, fraction: float) -> bool:
    """Whether the row with this digest is kept from training. Growing ``fraction`` only moves rows out."""
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


class Reading:
    """One pass over a file. Rows go through in batches, so that the tokenizer may use every processor.

    ``rejected_rows`` lists rejected rows, ``held_out`` is told the canonical text of held-out ones, ``tell`` hears of
    each row; all three may be missing.
    """

    def __init__(self, codec: TextCodec, settings: DataSettings, context_tokens: int, inputs: Inputs, writer: Rows,
                 rejected_rows: RejectedRows | None = None, held_out: Callable[[bytes], object] | None = None,
                 tell: Callable[[RowFate], None] | None = None) -> None:
        self._codec, self._settings, self._context_tokens = codec, settings, context_tokens
        self._inputs, self._writer, self._rejected_rows, self._tell = inputs, writer, rejected_rows, tell
        self._held_out = held_out
        self._seen, self._near_held_out = DigestSet(), DigestSet()
        self._batch: list[Row] = []
        self._batch_bytes = 0
        self._measuring = Measuring(context_tokens) if inputs.gate.measures else None
        self.reservoir = Reservoir()
        self.tally = Tally()

    def run(self, source: Path, on_bytes: OnBytes) -> None:
        """Read ``source`` to its end, or to the damage that ends it; the rows before it are counted.

        Raises:
            InputError: of the damage that ended it.
            UsageError: the mapping is not possible.
        """
        if self._measuring is not None and self._settings.held_out_fraction:
            self._find_held_out(source, on_bytes)
        bytes_read = 0

        def note(position: int) -> None:
            nonlocal bytes_read
            bytes_read = position
            on_bytes(position)

        try:
            for row in read_rows(source, self._settings.map, note):
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
        self._replay()
        on_bytes(bytes_read)

    def report(self) -> DataReport:
        """What there is to report so far."""
        if self._measuring is not None:
            self.tally.quality = self._measuring.measures()
        return self.tally.report()

    def _find_held_out(self, source: Path, on_bytes: OnBytes) -> None:
        """Note which rows are held out: nearly the same row may stand before it."""
        try:
            for row in read_rows(source, self._settings.map, on_bytes):
                if not isinstance(row.verdict, BadRow) and is_held_out(
                        digest_of(canonical(row.verdict)), self._settings.held_out_fraction):
                    self._near_held_out.add(whole_key(row.verdict))
        except InputError:
            return  # what it is will be said when its rows are judged

    def _settle_batch(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        texts = [b"" if isinstance(row.verdict, BadRow) else canonical(row.verdict) for row in batch]
        digests = [digest_of(text) if text else b"" for text in texts]
        fresh = {digest: row.verdict for row, digest in zip(batch, digests, strict=True)
                 if not isinstance(row.verdict, BadRow) and digest not in self._seen}
        encoded = dict(zip(fresh, self._codec.encode_batch(list(fresh.values()), self._context_tokens), strict=True))
        for row, text, digest in zip(batch, texts, digests, strict=True):
            self.tally.read += 1
            if isinstance(row.verdict, BadRow):
                self._reject(row, row.verdict)
            elif digest not in encoded:  # seen before this batch, or settled in it
                self.tally.duplicate += 1
                self._note(row, "duplicate", digest)
            elif self._settle(row, row.verdict, text, digest, encoded[digest]):
                del encoded[digest]

    def _settle(self, row: Row, sample: Sample, text: bytes, digest: bytes, encoded: EncodedRow | InputError) -> bool:
        """Whether the row is good, so that the next one with its digest is a duplicate."""
        leak = self._leak(sample, digest)
        if leak:
            assert self._measuring is not None
            if leak.suite:
                self._measuring.overlapping()
            else:
                self._measuring.nearly_held_out()
            self._reject(row, _bad_row(row, InputError(leak.reason, mend=_ELSEWHERE)), leak.sort)
            return False
        if isinstance(encoded, InputError):
            self._reject(row, _bad_row(row, encoded))
            return False
        if encoded.whole and not any(encoded.trained):
            self._reject(row, _bad_row(row, InputError("nothing in it is trained: it makes no token to learn",
                                                       mend="look at the row and the chat template")))
            return False
        self._seen.add(digest)
        self._measure(row, sample, encoded)
        too_long = not encoded.whole or len(encoded.token_ids) > self._context_tokens
        trained = encoded.trained[:self._context_tokens]
        if too_long and (self._settings.long_rows == "drop" or not any(trained)):
            self.tally.dropped_long += 1
            self._note(row, "dropped_long", digest)
        elif is_held_out(digest, self._settings.held_out_fraction):
            self.tally.held_out += 1
            if self._held_out is not None:
                self._held_out(text)
            self._note(row, "held_out", digest)
        else:
            self._writer.append(encoded.token_ids[:self._context_tokens], trained, digest, row.line.number)
            self.tally.train(len(trained), trained.count(True), truncated=too_long)
            self.reservoir.offer(digest, text)
            self._note(row, "trained", digest)
        return True

    def _leak(self, sample: Sample, digest: bytes) -> _Leak | None:
        """Why the row may not be trained, because the model is measured by it; None if it may, or will not be."""
        fraction = self._settings.held_out_fraction
        if self._measuring is None or is_held_out(digest, fraction):
            return None
        place = self._inputs.leaks.find(sample) if self._inputs.leaks is not None else None
        if place is not None:
            sort = f"it stands in the evaluation suite {place.suite}"
            return _Leak(f"{sort}, line {place.line} of {place.file}", sort, place.suite)
        return _NEARLY_HELD_OUT if fraction and whole_key(sample) in self._near_held_out else None

    def _measure(self, row: Row, sample: Sample, encoded: EncodedRow) -> None:
        if self._measuring is None:
            return
        self._measuring.encoded(len(encoded.token_ids) if encoded.whole else self._context_tokens + 1)
        text = "\n".join([message.content for message in sample.messages]) if isinstance(sample, ChatSample) \
            else sample.text
        damage, secrets = textfaults.damage_of(text), textfaults.secrets_in(text)
        if damage or secrets:
            self._measuring.text(row.line.number, damage, secrets)
        # Only rows with metadata say what would be right; most have none, and need not be parsed a second time.
        if isinstance(sample, ChatSample) and b'"metadata"' in row.line.content:
            metadata = orjson.loads(row.line.content).get("metadata")
            fault = scoring.check_sample(sample, metadata) if isinstance(metadata, dict) else None
            if fault is not None:
                self._measuring.answer(row.line.number, is_right=not fault)

    def _replay(self) -> None:
        """Rows of the pack follow: at most the share that is wanted, none that is the file's, held out, or too long."""
        pack, most = self._inputs.pack, int(self._settings.replay_fraction * self.tally.trained)
        if pack is None or not most:
            return
        batch: list[tuple[int, bytes, Sample]] = []
        for number, digest, sample in pack.rows():
            if digest not in self._seen and not self._leak(sample, digest) \
                    and not is_held_out(digest, self._settings.held_out_fraction):
                batch.append((number, digest, sample))
            if len(batch) >= min(_BATCH_ROWS, most - self.tally.replayed):
                self._append_replayed(batch)
                batch.clear()
                if self.tally.replayed == most:
                    return
        self._append_replayed(batch)

    def _append_replayed(self, batch: list[tuple[int, bytes, Sample]]) -> None:
        rows = self._codec.encode_batch([sample for _, _, sample in batch], self._context_tokens)
        for (number, digest, _), row in zip(batch, rows, strict=True):
            fits = isinstance(row, EncodedRow) and row.whole and len(row.token_ids) <= self._context_tokens
            if isinstance(row, EncodedRow) and fits and any(row.trained):
                self._writer.append(row.token_ids, row.trained, digest, replayed_line(number))
                self.tally.replay(len(row.token_ids))

    def _note(self, row: Row, fate: Fate, digest: bytes) -> None:
        if self._tell is not None:
            self._tell(RowFate(line=row.line.number, fate=fate, digest=digest))

    def _reject(self, row: Row, bad_row: BadRow, sort: str = "") -> None:
        listed = self._rejected_rows is not None and self._rejected_rows.append(bad_row, row.line)
        self.tally.reject(bad_row, listed=listed, sort=sort)
        if self._tell is not None:
            self._tell(RowFate(line=row.line.number, fate="rejected", reason=bad_row.reason, mend=bad_row.mend))


def _bad_row(row: Row, error: InputError) -> BadRow:
    return BadRow(line=row.line.number, column=1, field=error.field, reason=error.reason[:MAX_REASON_CHARACTERS],
                  mend=error.mend)
