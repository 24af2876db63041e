"""From an accepted file to a shard: the whole job of the preparer, a pure function of file, codec, settings and inputs.

Rules:

- Every row of the file ends in exactly one place (:mod:`trainq.rowjudging`); the report's sum closes, or nothing is
  published.
- A row is held out or not by its own digest alone, so it stays on its side in every file and for ever.
- A shard's name is its cache key: a digest over everything that decides its bytes. A shard that is there and verifies
  is used as it is; a damaged one is made again, and comes out the same.
- What comes from outside the file (the guarded suites, the rows to replay) comes as stored content with a digest that
  is part of the key. Where it is given again, as the journal has it, the shard comes out the same.
- Whether a file is accepted, and its band, are judged from the report each time, so neither ``max_bad_rows`` nor the
  limits of the gate are part of the key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import orjson
from blake3 import blake3

from trainq import files, ids, quality, shards
from trainq.config import DataSettings
from trainq.errors import DamageError, InputError, UsageError
from trainq.jsonl import BLOCK_BYTES, read_lines
from trainq.quality import Measures, Verdict
from trainq.rehearsal import HELD_OUT_NAME, RESERVOIR_NAME
from trainq.reports import DataReport, RejectedRows, publish_reports, report_bytes
from trainq.rowjudging import Inputs, Nowhere, Reading, RowFate, is_held_out
from trainq.shards import Shard, ShardWriter
from trainq.textcodec import TextCodec

__all__ = ["Examined", "Inputs", "PrepareOutcome", "PrepareProgress", "Prepared", "Rejected", "RowFate", "cache_key",
           "count_lines", "examine", "is_held_out", "prepare", "trace"]

# Goes up with every change that makes other shards out of the same input.
RULES = 2
REJECTED_NAME = "rejected.jsonl"
# The same for which rows are refused for a suite, and what is kept of a file beside its rows.
_KEPT_RULES = 2
_MOST_NAME_BYTES = 200
_NOTHING = Inputs()


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
    """The shard ``<destination_folder>/<shard>`` is there and whole; ``reused`` if it was before.

    ``verdict`` is the file's quality, where it was measured.
    """

    shard: str
    digest: str
    report: DataReport
    reused: bool
    verdict: Verdict | None = None


class Rejected(msgspec.Struct, frozen=True, kw_only=True, tag="rejected"):
    """Nothing of the file will be trained, and why."""

    reason: str
    report: DataReport
    verdict: Verdict | None = None


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a file: ``reason`` says why it would be rejected, and is empty if it would not."""

    reason: str
    report: DataReport
    verdict: Verdict | None = None


PrepareOutcome: TypeAlias = Prepared | Rejected
Beat: TypeAlias = Callable[[PrepareProgress], None]
Tell: TypeAlias = Callable[[RowFate], None]


class _RefusedError(Exception):
    """Leaves the publishing block of a shard that is not to be."""

    def __init__(self, outcome: Rejected) -> None:
        self.outcome = outcome
        super().__init__(outcome.reason)


def prepare(source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, destination_folder: Path,
            rejected_folder: Path, name: str, beat: Beat, inputs: Inputs = _NOTHING) -> PrepareOutcome:
    """Turn the file ``source`` into a shard in ``destination_folder``.

    Idempotent: run again, it finds the shard, or makes the same one. Where rows or the whole file are rejected, or
    the file is worse than good, ``<name>.report.json`` and ``<name>.rejected.jsonl`` are in ``rejected_folder`` when it
    returns.

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
        inputs: what else decides over the rows; without them the shard is one of before there were any.

    Raises:
        DamageError: ``source`` is not the file that its name says.
        StorageError, StorageFullError: the disk, not the file, is the reason.
        ValueError: ``name`` cannot be a file name.
    """
    if not name or name.startswith(".") or set(name) & {"/", "\0"} or len(name.encode()) > _MOST_NAME_BYTES:
        raise ValueError(f"{name!r} cannot be the name of a report")
    key = cache_key(_proven_digest(source, beat), codec, settings, context_tokens, inputs)
    path = destination_folder / key
    found = _existing(path, measured=inputs.gate.measures)
    reused = found is not None
    if found is None:
        try:
            found = _make(path, source, codec, settings, context_tokens, inputs, rejected_folder, name, beat)
        except _RefusedError as refused:
            return refused.outcome
    digest, report = found
    reason, verdict = _refusal(report, settings), _verdict(report, inputs)
    if report.rejected or reason or (verdict is not None and (verdict.warnings or verdict.is_bad)):
        publish_reports(rejected_folder, name, report, reason, path / REJECTED_NAME if report.rejected else None,
                        verdict)
    if reason:
        return Rejected(reason=reason, report=report, verdict=verdict)
    return Prepared(shard=key, digest=digest, report=report, reused=reused, verdict=verdict)


def examine(source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, beat: Beat,
            inputs: Inputs = _NOTHING) -> Examined:
    """What :func:`prepare` would make of ``source``, by the same code; nothing is written.

    Memory does not grow with the file, but for 16 bytes for each different row. ``beat`` and ``inputs`` as for
    :func:`prepare`.

    Raises:
        StorageError: the file cannot be read, which is not its content's fault.
    """
    reading = Reading(codec, settings, context_tokens, inputs, Nowhere())
    reason = _run_to_verdict(reading, source, settings, beat)
    report = reading.report()
    return Examined(reason=reason, report=report, verdict=_verdict(report, inputs))


def trace(source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, tell: Tell,
          inputs: Inputs = _NOTHING) -> None:
    """Tell of each row of ``source``, in order, what :func:`prepare` makes of it, by the same code.

    Ends where damage ends the reading. What ``tell`` raises ends it, too.

    Raises:
        StorageError: the file cannot be read.
    """
    _run_to_verdict(Reading(codec, settings, context_tokens, inputs, Nowhere(), tell=tell), source, settings,
                    lambda _: None)


def count_lines(source: Path, beat: Beat) -> int:
    """How many lines there are to judge, up to damage: not fewer than rows will be trained.

    Raises:
        StorageError: the file cannot be read.
    """
    lines, bytes_total = 0, source.stat().st_size

    def on_bytes(position: int) -> None:
        beat(PrepareProgress(stage="checking", bytes_read=position, bytes_total=bytes_total, rows=0, tokens=0))

    try:
        for _ in read_lines(source, on_bytes):
            lines += 1
    except InputError:
        pass  # what it is will be said when its rows are judged
    return lines


def cache_key(data_digest: str, codec: TextCodec, settings: DataSettings, context_tokens: int,
              inputs: Inputs = _NOTHING) -> str:
    """The name of the shard that is made of this data, with this codec, these settings and these inputs.

    What is not there is no part of it, so that shards of before there was a gate keep their names.
    """
    parts: dict[str, Any] = {
        "shard": shards.FORMAT, "rules": RULES, "data": data_digest, "codec": codec.digest, "map": settings.map,
        "long_rows": settings.long_rows, "held_out_fraction": settings.held_out_fraction,
        "context_tokens": context_tokens}
    if inputs.gate.measures:
        parts["kept"] = _KEPT_RULES
        if inputs.leaks is not None:
            parts["suites"] = inputs.leaks_digest
    if inputs.pack is not None:
        parts["replay"] = [inputs.pack.digest, settings.replay_fraction]
    return blake3(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


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


def _existing(path: Path, *, measured: bool) -> tuple[str, DataReport] | None:
    """Digest and report of the shard under ``path`` if it is whole; one that is damaged, or not measured, is removed.
    """
    if not path.exists():
        return None
    # Whoever published it may have ended before its name was durable.
    files.sync_directory(path.parent)
    try:
        with Shard.open(path, verify=True) as shard:
            report = msgspec.json.decode(shard.report(), type=DataReport)
            if measured:
                beside = path.with_name(quality.measures_name(path.name)).read_bytes()
                report = msgspec.structs.replace(report, quality=msgspec.json.decode(beside, type=Measures))
            return shard.digest, report
    except (DamageError, msgspec.MsgspecError, FileNotFoundError):
        files.remove_tree(path)
        return None


def _make(path: Path, source: Path, codec: TextCodec, settings: DataSettings, context_tokens: int, inputs: Inputs,
          rejected_folder: Path, name: str, beat: Beat) -> tuple[str, DataReport]:
    """Read the file into a new shard under ``path``.

    Raises:
        _RefusedError: the file is rejected; its reports are published, the shard is not.
    """
    files.make_directory(path.parent)
    with (files.publish_directory(path) as folder,
          ShardWriter(folder, key=path.name, context_tokens=context_tokens, codec=codec.digest) as writer):
        rejected_rows, held_out_rows = folder / REJECTED_NAME, folder / HELD_OUT_NAME
        with ExitStack() as stack:
            rejected = RejectedRows(stack.enter_context(rejected_rows.open("xb")))
            keep = None
            if inputs.gate.measures:
                held_out = stack.enter_context(held_out_rows.open("xb"))
                keep = lambda text: held_out.write(text + b"\n")  # noqa: E731 - a line is all that it does
            reading = Reading(codec, settings, context_tokens, inputs, writer, rejected, keep)
            reason = _run_to_verdict(reading, source, settings, beat)
        report = reading.report()
        if reason:
            verdict = _verdict(report, inputs)
            publish_reports(rejected_folder, name, report, reason, rejected_rows if report.rejected else None, verdict)
            raise _RefusedError(Rejected(reason=reason, report=report, verdict=verdict))
        if not report.rejected:
            rejected_rows.unlink()
        if inputs.gate.measures:
            (folder / RESERVOIR_NAME).write_bytes(reading.reservoir.content())
            if not report.held_out:
                held_out_rows.unlink()
            # Before the shard: whoever finds that finds these.
            files.write_file(path.with_name(quality.measures_name(path.name)), msgspec.json.encode(report.quality))
        return writer.seal(report_bytes(report)).digest, report


def _run_to_verdict(reading: Reading, source: Path, settings: DataSettings, beat: Beat) -> str:
    """Read ``source``; why it is rejected as a whole, empty if it is not."""
    bytes_total = source.stat().st_size

    def on_bytes(position: int) -> None:
        beat(PrepareProgress(stage="reading", bytes_read=position, bytes_total=bytes_total, rows=reading.tally.read,
                             tokens=reading.tally.tokens))

    try:
        reading.run(source, on_bytes)
    except InputError as error:
        return f"{f'line {error.line}: ' if error.line > 1 else ''}{error.reason} ({error.mend})"
    except UsageError as error:
        return str(error)
    return _refusal(reading.report(), settings)


def _verdict(report: DataReport, inputs: Inputs) -> Verdict | None:
    if report.quality is None:
        return None
    return quality.judge(report.counts(), report.quality, inputs.gate)


def _refusal(report: DataReport, settings: DataSettings) -> str:
    """Why a file with this report is not trained; empty if it is."""
    # Rows that stand in a suite, or nearly in a held-out row, are no bad rows.
    bad = report.rejected - (report.quality.refused if report.quality is not None else 0)
    if bad > settings.max_bad_rows * report.read:
        return (f"{bad} of {report.read} rows are bad ({bad / report.read:.1%}), which is more "
                f"than data.max_bad_rows allows ({settings.max_bad_rows:.1%}); mend these rows, or allow more")
    if not report.trained:
        return (f"no row is left to train on: of {report.read}, {report.rejected} are bad, {report.dropped_long} too "
                f"long, {report.held_out} held out, {report.duplicate} duplicates; add good rows")
    return ""
