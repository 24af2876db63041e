"""Logs are events: one JSON line each, with the event's name, the service, and the facts as fields.

One identifier (the job's) runs from submission to snapshot, so that one search tells its story. Lines hold no row
content. Files lie in ``<home>/logs`` and are rotated by size; nothing here ever blocks a loop on a slow reader. What
was written during an attempt at a job lies in ``<home>/logs/jobs`` as well: its first lines and its last, which stay
when the logs of the services have gone round.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

MAX_FILE_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5
# Of each attempt at a job so much from its beginning, and between one and two times so much from its end.
ATTEMPT_BYTES = 32 * 1024
JOBS_FOLDER = "jobs"


class JsonLineFormatter(logging.Formatter):
    """Formats a record as one JSON object: at, level, service, pid, event, the facts, and a traceback if any."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "pid": record.process,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        try:
            return _printable(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
        except orjson.JSONEncodeError:
            # A file name that is no UTF-8 has surrogates, which orjson refuses and the standard library escapes.
            return json.dumps(line, default=str)


def _printable(text: str) -> str:
    """JSON that means the same, with what a terminal obeys or shows in a false order (C1, bidi marks) escaped.

    A file's name is in it, and people read logs with cat. The controls below space JSON escapes itself.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


class _LogFile(logging.handlers.RotatingFileHandler):
    """A file that may fail: failed lines are counted, and the count is logged once lines are taken again.

    A line that failed may still come out of the buffer later, or be lost. The standard handler writes a traceback to
    stderr for each, which under supervisord fills the same disk; here the first of many says why, in one line.
    """

    _failures = 0
    _is_said = False

    def emit(self, record: logging.LogRecord) -> None:
        before, self._failures = self._failures, 0
        super().emit(record)
        self._is_said = self._is_said and bool(self._failures)
        if before and not self._failures:
            super().emit(logging.makeLogRecord({
                "name": record.name, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log_was_not_writable",
                "process": record.process, "facts": {"failed_lines": before}}))
        # Either line may have failed; what failed before is then still unsaid.
        if self._failures:
            self._failures += before

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802  # the standard library's name
        self._failures += 1
        if not self._is_said:
            self._is_said = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}\n")


class _AttemptFile(logging.Handler):
    """An attempt's first lines in one file, its last in another that goes round. A kill leaves what was written."""

    def __init__(self, stem: Path, formatter: logging.Formatter) -> None:
        super().__init__()
        self._first = _LogFile(f"{stem}.first.log", encoding="utf-8", delay=True)
        self._last = _LogFile(f"{stem}.last.log", maxBytes=ATTEMPT_BYTES, backupCount=1, encoding="utf-8", delay=True)
        for handler in (self._first, self._last):
            handler.setFormatter(formatter)
        self._left = ATTEMPT_BYTES
        with contextlib.suppress(OSError):  # begun before, and given back
            self._left -= Path(self._first.baseFilename).stat().st_size

    def emit(self, record: logging.LogRecord) -> None:
        if self._left > 0:
            self._left -= len(self._first.format(record)) + 1
            self._first.handle(record)
        else:
            self._last.handle(record)

    def close(self) -> None:
        super().close()
        for handler in (self._first, self._last):
            with contextlib.suppress(OSError):  # a full disk: what was not written by now is lost
                handler.close()


class EventLog:
    """Writes named events with facts. ``error`` adds the traceback of the exception being handled."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._attempt: _AttemptFile | None = None

    def begin_attempt(self, folder: Path, service: str, job: str, attempt: int) -> None:
        """From now on lines go into the files of this attempt, too (in ``folder/jobs``); those of the last one end."""
        self.end_attempt()
        self._attempt = _AttemptFile(folder / JOBS_FOLDER / attempt_name(service, job, attempt),
                                     JsonLineFormatter(service))
        self._logger.addHandler(self._attempt)

    def end_attempt(self) -> None:
        """The attempt is over."""
        if self._attempt is not None:
            self._logger.removeHandler(self._attempt)
            self._attempt.close()
            self._attempt = None

    def debug(self, event: str, **facts: object) -> None:
        self._logger.debug(event, extra={"facts": facts})

    def info(self, event: str, **facts: object) -> None:
        self._logger.info(event, extra={"facts": facts})

    def warning(self, event: str, **facts: object) -> None:
        self._logger.warning(event, extra={"facts": facts})

    def close(self) -> None:
        """Close the file; the log may not be used after. What a full disk still keeps from it is lost."""
        for handler in self._logger.handlers:
            with contextlib.suppress(OSError):
                handler.close()

    def error(self, event: str, **facts: object) -> None:
        self._logger.error(event, extra={"facts": facts}, exc_info=sys.exc_info()[1] is not None)


def attempt_name(service: str, job: str, attempt: int) -> str:
    """With what the names of an attempt's files begin, as one service keeps them."""
    return f"{job}.{attempt}.{service}"


class Limited:
    """Warnings that somebody outside can cause at will: of each event at most ``burst`` in ``seconds``.

    How many were left out is said with the next one that is written.
    """

    def __init__(self, log: EventLog, monotonic: Callable[[], float], *, burst: int = 10,
                 seconds: float = 60.0) -> None:
        self._log = log
        self._monotonic = monotonic
        self._burst = burst
        self._seconds = seconds
        # Event: when its time began, how many were written in it, how many were left out.
        self._said: dict[str, tuple[float, int, int]] = {}

    def warning(self, event: str, **facts: object) -> None:
        """Write it, or count it."""
        now = self._monotonic()
        began, written, left_out = self._said.get(event, (now, 0, 0))
        if now - began >= self._seconds:
            began, written = now, 0
        if written >= self._burst:
            self._said[event] = began, written, left_out + 1
            return
        if left_out:
            facts["left_out"] = left_out
        self._said[event] = began, written + 1, 0
        self._log.warning(event, **facts)


def open_log(service: str, folder: Path, level: str = "info") -> EventLog:
    """Open ``<folder>/<service>.log`` for appending, rotated at 10 MiB, five old files kept."""
    logger = logging.Logger(f"trainq.{service}", level=level.upper())
    # Opened with its first line: a disk that refuses the log keeps no service from starting.
    handler = _LogFile(folder / f"{service}.log", maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8",
                       delay=True)
    handler.setFormatter(JsonLineFormatter(service))
    logger.addHandler(handler)
    return EventLog(logger)


def null_log() -> EventLog:
    """A log that goes nowhere, for callers that have none."""
    logger = logging.Logger("trainq.null")
    logger.addHandler(logging.NullHandler())
    return EventLog(logger)
