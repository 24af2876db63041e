"""``trainq validate`` and ``trainq submit --check``: what would become of a file, said before it is handed in.

Files are judged by the code that the preparer judges with, so the verdict is the same; nothing is stored, and no broker
is asked. Standard input is spooled to a nameless temporary file, so that its size costs no memory.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trainq import files, ingest, room
from trainq.cli import arguments as types
from trainq.cli.console import Console, error_document, printable
from trainq.cli.context import Context
from trainq.cli.expanding import STDIN, Source, expand
from trainq.cli.registry import Command
from trainq.cli.rendering import count, cut, duration, size
from trainq.config import Home, Settings, overridden
from trainq.errors import InputError, StorageError, StorageFullError

if TYPE_CHECKING:
    from trainq.preparing import Examined, PrepareProgress
    from trainq.reports import DataReport

_SHOWN_REASONS = 20
_METRICS_BYTES = 1 << 16


class Plan(NamedTuple):
    """What training the file would take. ``seconds`` is None where this home has trained nothing yet."""

    steps: int
    tokens: int
    disk_bytes: int
    seconds: float | None


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="as for trainq submit; - is stdin")
    parser.add_argument("--map", type=types.column_map, metavar="FIELD=COLUMN,...",
                        help="which column holds which field: prompt=question,completion=answer")
    parser.set_defaults(epochs=None, wishes=[], check=False)


class Examination:
    """One run: each file is judged, said and counted; ``planned`` adds what its training would take."""

    def __init__(self, console: Console, home: Home, settings: Settings, *, planned: bool) -> None:
        from trainq import leaks
        from trainq.modelfolder import context_tokens, model_folder
        from trainq.preparing import Inputs
        from trainq.textcodec import TextCodec

        folder = model_folder(settings.model.path)
        guarded = leaks.read_suites(home.suites) if settings.gate.measures else None
        # What is replayed with a file depends on what has been trained when it is prepared.
        self._inputs = Inputs(gate=settings.gate, leaks=guarded)
        self._console, self._home, self._settings, self._planned = console, home, settings, planned
        self._codec, self._context_tokens = TextCodec.load(folder), context_tokens(folder)
        self._speed = _tokens_a_second(home) if planned else None
        self.documents: list[dict[str, Any]] = []
        self.disk_bytes = 0
        self.has_refused = False

    def take(self, source: Source | InputError) -> None:
        """Judge one file; what is wrong with it is its own affair."""
        try:
            if isinstance(source, InputError):
                raise source
            examined, size_bytes = self._examine(source)
        except InputError as error:
            self.has_refused = True
            self.documents.append({"file": error.file or STDIN, "accepted": False, "error": error_document(error)})
            self._console.say(str(error))
            return
        self.has_refused |= bool(examined.reason)
        file = str(source.path or STDIN)
        plan = self._plan(examined.report, size_bytes) if self._planned and not examined.reason else None
        document = {"file": file, "accepted": not examined.reason, "reason": examined.reason,
                    "report": msgspec.to_builtins(examined.report), "quality": msgspec.to_builtins(examined.verdict)}
        if plan is not None:
            self.disk_bytes += plan.disk_bytes
            document["plan"] = plan._asdict()
        self.documents.append(document)
        if not self._console.json:
            for line in [*_verdict(file, examined), *(_said_plan(plan, self._context_tokens, examined.report)
                                                      if plan is not None else ())]:
                self._console.line(printable(line))

    def _examine(self, source: Source) -> tuple[Examined, int]:
        from trainq.preparing import examine

        with _opened(source) as opened:
            if not opened.found.st_size:
                raise ingest.empty_error(str(opened.path))
            # The open file by its descriptor: one that takes its name meanwhile is another file.
            examined = examine(Path(f"/dev/fd/{opened.stream.fileno()}"), self._codec, self._settings.data,
                               self._context_tokens, lambda progress: self._show(source.name, progress), self._inputs)
            opened.check_unchanged(opened.found.st_size)
        self._console.clear()
        return examined, opened.found.st_size

    def _show(self, name: str, progress: PrepareProgress) -> None:
        percentage = 100 * progress.bytes_read // max(1, progress.bytes_total)
        self._console.show(cut(printable(f"{percentage} % of {name}, {progress.rows} rows"),
                               self._console.talk_width))

    def _plan(self, report: DataReport, size_bytes: int) -> Plan:
        from trainq.shards import size_bytes_of

        train = self._settings.train
        tokens = report.tokens * train.epochs
        return Plan(steps=math.ceil(report.trained / train.batch_rows) * train.epochs, tokens=tokens,
                    disk_bytes=size_bytes + size_bytes_of(report.trained, report.tokens),
                    seconds=tokens / self._speed if self._speed else None)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[ingest.Opened]:
    if source.path is not None:
        with ingest.opened(source.path) as opened:
            yield opened
        return
    if sys.stdin is None:
        raise InputError("there is no standard input", file=STDIN, mend="give it one, or name a file")
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            raise files.storage_error(error, f"keeping the standard input in {tempfile.gettempdir()}") from error
        yield ingest.Opened(Path(STDIN), copy, os.fstat(copy.fileno()))


def _verdict(file: str, examined: Examined) -> Iterator[str]:
    report = examined.report
    yield f"{file}: " + (f"would be rejected: {examined.reason}" if examined.reason else "would be accepted")
    ends = {"good": report.trained, "bad": report.rejected, "too long": report.dropped_long,
            "duplicate": report.duplicate, "held out": report.held_out, "of the good ones cut": report.truncated}
    told = ", ".join(f"{number} {end}" for end, number in ends.items() if number or end in ("good", "bad"))
    yield f"  {report.read} row{'' if report.read == 1 else 's'}: {told}"
    if examined.verdict is not None:
        yield f"  quality: {examined.verdict.band.value}"
        yield from (f"    {told}" for told in (*examined.verdict.reasons, *examined.verdict.warnings))
    for row in report.bad_rows:
        field = f"{row.field}: " if row.field else ""
        yield f"  {file}:{row.line}:{row.column}: {field}{row.reason} ({row.mend})"
    if report.rejected > len(report.bad_rows):
        yield f"  and {report.rejected - len(report.bad_rows)} more; all of them by reason:"
        for reason, number in sorted(report.reasons.items(), key=lambda item: -item[1])[:_SHOWN_REASONS]:
            yield f"  {number:>9}  {reason}"


def _said_plan(plan: Plan, context_tokens: int, report: DataReport) -> Iterator[str]:
    yield (f"  {count(report.tokens)} tokens, {count(report.trained_tokens)} of them trained; the longest row has "
           f"{report.longest_row_tokens} of {context_tokens}")
    expected = duration(plan.seconds) if plan.seconds is not None else "not known before this home has trained a file"
    yield (f"  {plan.steps} step{'' if plan.steps == 1 else 's'}, {size(plan.disk_bytes)} of disk; time of training: "
           f"{expected}")


def _tokens_a_second(home: Home) -> float | None:
    """The speed of the newest steps that this home has trained; None if there are none."""
    # What cannot be read is passed over: the speed is an extra.
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(OSError):
        found += [(path.stat().st_mtime_ns, path) for path in home.metrics.glob("*.jsonl")]
    for _, path in sorted(found, reverse=True):
        tokens = seconds = 0.0
        with contextlib.suppress(OSError), path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _METRICS_BYTES))
            for line in stream.read().splitlines():
                with contextlib.suppress(msgspec.MsgspecError, KeyError, TypeError, ValueError):  # a torn line
                    step = msgspec.json.decode(line)
                    tokens, seconds = tokens + float(step["tokens"]), seconds + float(step["seconds"])
        if tokens and seconds:
            return tokens / seconds
    return None


def _free_bytes(home: Home) -> int:
    there = next(path for path in (home.data, *home.data.absolute().parents) if path.exists())
    return room.free_bytes(there)


def judge(arguments: Namespace, context: Context) -> int:
    """Judge the files of ``validate``, or of ``submit --check``; the exit code."""
    console, home, settings = context.console, context.home, context.configuration.settings
    if arguments.map is not None:
        settings = msgspec.structs.replace(settings, data=msgspec.structs.replace(settings.data, map=arguments.map))
    if arguments.check:
        from trainq.cli.submitting import overrides_of

        settings = msgspec.structs.replace(settings, train=overridden(settings.train, overrides_of(arguments)))
    examination = Examination(console, home, settings, planned=arguments.check)
    try:
        for source in expand(arguments.files):
            examination.take(source)
    except (StorageError, StorageFullError) as error:
        console.fail(error, files=examination.documents)
        return error.exit_code
    document: dict[str, Any] = {"files": examination.documents}
    if arguments.check:
        free = _free_bytes(home)
        document |= {"disk_bytes": examination.disk_bytes, "free_bytes": free}
        if examination.disk_bytes > free:
            console.fail(StorageFullError(
                f"these files need {size(examination.disk_bytes)}, and {size(free)} are free below {home.root}",
                mend="make room, or hand in fewer at a time"), **document)
            return StorageFullError.exit_code
        console.say(f"nothing was submitted; all together need {size(examination.disk_bytes)} of disk, "
                    f"{size(free)} are free")
    if console.json:
        console.emit(document)
    return InputError.exit_code if examination.has_refused else 0


COMMANDS = {"validate": Command(_configure, judge)}
