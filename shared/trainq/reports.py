"""What became of the rows of a file: the data report, its sum that closes, and the file of rejected rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson

from trainq import files
from trainq.errors import TrainqError
from trainq.jsonl import KEPT_BYTES, Line
from trainq.quality import Counts, Measures, Verdict
from trainq.samples import BadRow

SHOWN_BAD_ROWS = 20
# Reasons may quote the row or a template; so many different ones are told apart, the others are counted together.
MAX_REASONS = 100
OTHER_REASONS = "other reasons"
MAX_REASON_CHARACTERS = 300
MAX_REJECTED_FILE_BYTES = 256 * 1024 * 1024


class DataReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of rows, each row of the file in exactly one of ``trained`` to ``duplicate``: the sum is ``read``.

    ``trained`` rows are in the shard (of a rejected file: would have been). ``truncated`` ones are among them.
    ``tokens``, ``trained_tokens`` and ``longest_row_tokens`` are of trained rows, after truncation.
    ``rejected_listed`` is how many of the rejected rows the file of rejected rows has.

    ``replayed`` rows of earlier jobs are in the shard besides, with ``replayed_tokens``; they are not written where
    there are none, so that a report of before they were is what it was. ``quality`` lies beside the shard
    (:mod:`trainq.quality`).
    """

    read: int
    trained: int
    held_out: int
    rejected: int
    dropped_long: int
    duplicate: int
    truncated: int
    tokens: int
    trained_tokens: int
    longest_row_tokens: int
    rejected_listed: int
    reasons: dict[str, int]
    bad_rows: tuple[BadRow, ...]
    replayed: int = 0
    replayed_tokens: int = 0
    quality: Measures | None = None

    @property
    def shard_rows(self) -> int:
        """How many rows the shard has."""
        return self.trained + self.replayed

    @property
    def shard_tokens(self) -> int:
        """How many tokens the shard has."""
        return self.tokens + self.replayed_tokens

    def counts(self) -> Counts:
        """What the band follows from, besides the measures."""
        return Counts(read=self.read, rejected=self.rejected, duplicate=self.duplicate,
                      long=self.dropped_long + self.truncated, tokens=self.tokens, trained_tokens=self.trained_tokens)

    def closes(self) -> bool:
        """Whether every row that was read is accounted for exactly once."""
        ends = self.trained + self.held_out + self.rejected + self.dropped_long + self.duplicate
        return self.read == ends and sum(self.reasons.values()) == self.rejected and self.truncated <= self.trained


class Tally:
    """Counts rows while a file is read; :meth:`report` proves the sum."""

    def __init__(self) -> None:
        self.read = self.trained = self.held_out = self.dropped_long = self.duplicate = self.truncated = 0
        self.tokens = self.trained_tokens = self.longest_row_tokens = self.rejected = self.rejected_listed = 0
        self.replayed = self.replayed_tokens = 0
        self.quality: Measures | None = None
        self._reasons: dict[str, int] = {}
        self._bad_rows: list[BadRow] = []

    def train(self, tokens: int, trained_tokens: int, *, truncated: bool) -> None:
        """Count a row that went into the shard."""
        self.trained += 1
        self.truncated += truncated
        self.tokens += tokens
        self.trained_tokens += trained_tokens
        self.longest_row_tokens = max(self.longest_row_tokens, tokens)

    def replay(self, tokens: int) -> None:
        """Count a row of an earlier job that went into the shard."""
        self.replayed += 1
        self.replayed_tokens += tokens

    def reject(self, bad_row: BadRow, *, listed: bool, sort: str = "") -> None:
        """Count a rejected row; ``listed`` says whether it went into the file of rejected rows.

        ``sort``: what it is counted with, where its reason names a place and so is like no other.
        """
        self.rejected += 1
        self.rejected_listed += listed
        reason = sort or bad_row.reason
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            reason = OTHER_REASONS
        self._reasons[reason] = self._reasons.get(reason, 0) + 1
        if len(self._bad_rows) < SHOWN_BAD_ROWS:
            self._bad_rows.append(bad_row)

    def report(self) -> DataReport:
        """The counts so far.

        Raises:
            TrainqError: the sum does not close, which is a mistake in trainq and never in the file.
        """
        report = DataReport(
            read=self.read, trained=self.trained, held_out=self.held_out, rejected=self.rejected,
            dropped_long=self.dropped_long, duplicate=self.duplicate, truncated=self.truncated, tokens=self.tokens,
            trained_tokens=self.trained_tokens, longest_row_tokens=self.longest_row_tokens,
            rejected_listed=self.rejected_listed, reasons=dict(self._reasons), bad_rows=tuple(self._bad_rows),
            replayed=self.replayed, replayed_tokens=self.replayed_tokens, quality=self.quality)
        if not report.closes():
            raise TrainqError(f"the rows do not add up: {report}", mend="report this as a bug of trainq")
        return report


class RejectedRows:
    """Writes rejected rows, one JSON object a line: line, column, field, reason, mend, raw.

    ``raw`` is the line as it stood, at most its first 64 KiB (then ``raw_bytes`` is its true size), bytes that are not
    UTF-8 as ``\\xff``. The file stops growing at 256 MiB: a file full of rubbish must not fill the disk a second time.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._size_bytes = stream, 0

    def append(self, bad_row: BadRow, line: Line) -> bool:
        """Write a row; false if the file is full and it was left out."""
        if self._size_bytes >= MAX_REJECTED_FILE_BYTES:
            return False
        record = msgspec.to_builtins(bad_row)
        record["raw"] = line.content[:KEPT_BYTES].decode("utf-8", "backslashreplace")
        if line.size_bytes > KEPT_BYTES:
            record["raw_bytes"] = line.size_bytes
        self._size_bytes += self._stream.write(orjson.dumps(record) + b"\n")
        return True


def report_bytes(report: DataReport) -> bytes:
    """The report as indented JSON, without ``quality``; the same report gives the same bytes."""
    told = msgspec.to_builtins(msgspec.structs.replace(report, quality=None))
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def document(report: DataReport, verdict: Verdict | None) -> dict[str, Any]:
    """The report as the journal and people get it: with the band of the file, where one was made out."""
    told: dict[str, Any] = msgspec.to_builtins(report)
    if verdict is not None:
        told["quality"] = {**msgspec.to_builtins(verdict), **told.get("quality", {})}
    return told


def publish_reports(folder: Path, name: str, report: DataReport, reason: str, rejected_rows: Path | None,
                    verdict: Verdict | None = None) -> None:
    """Put ``<name>.report.json`` and, where there are rejected rows, ``<name>.rejected.jsonl`` into ``folder``.

    ``reason`` says why the file as a whole was rejected; empty if it was not. Files of that name are replaced.

    Raises:
        StorageError, StorageFullError: as everywhere in :mod:`trainq.files`.
    """
    files.make_directory(folder)
    if rejected_rows is not None:
        with files.publish_file(folder / f"{name}.rejected.jsonl") as stream, rejected_rows.open("rb") as source:
            shutil.copyfileobj(source, stream, 1 << 20)
    told = {"name": name, "outcome": "rejected" if reason else "prepared", "reason": reason,
            **document(report, verdict)}
    files.write_file(folder / f"{name}.report.json", orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
