"""The log files of the home as lines with a time: the newest ones of a service or a job, and those that come."""

from __future__ import annotations

import glob
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import orjson

from trainq.config import Home
from trainq.errors import NotFoundError
from trainq.logs import JOBS_FOLDER

_JOB = re.compile(r"(?:([a-z]+)-)?(\d+)", re.ASCII)
# A train job and its preparation have one number, and one story.
_SUBMITTED = ("train", "prepare")
_ROTATED = re.compile(r"\.log(?:\.(\d+))?$")


class LogLine(NamedTuple):
    """One line. ``record`` is its JSON object, None for what is none (a traceback that went to stderr)."""

    at: str
    raw: str
    record: dict[str, Any] | None


Wanted = Callable[[bytes], bool]


class Choice(NamedTuple):
    """The lines that are meant: of the logs whose names match, and of what is kept of these jobs' attempts."""

    pattern: str
    wanted: Wanted
    jobs: tuple[str, ...] = ()


def of_everything() -> Choice:
    return Choice("*.log", _everything)


def of_job(word: str) -> Choice | None:
    """The lines about a job, across all services; None for what names none."""
    match = _JOB.fullmatch(word)
    if match is None:
        return None
    kinds = _SUBMITTED if match[1] in (None, *_SUBMITTED) else (match[1],)
    return Choice("*.log", _about(kinds, match[2]), tuple(f"{kind}-{match[2]}" for kind in kinds))


def of_service(home: Home, name: str) -> Choice:
    """The lines of a service's log.

    Raises:
        NotFoundError: there is none.
    """
    choice = Choice(f"{glob.escape(name)}.log", _everything)
    if not logs_in(home.logs, choice.pattern):
        known = ", ".join(path.stem for path in logs_in(home.logs, "*.log")) or "none yet"
        raise NotFoundError(f"there is no log of {name!r} in {home.logs}", mend=f"there are: {known}")
    return choice


def newest_of(home: Home, choice: Choice, ends: Mapping[Path, int], lines: int) -> list[LogLine]:
    """The last ``lines`` lines that are meant, with what was kept of the jobs' attempts, which may be older than all
    logs; no line twice. ``ends`` as for :func:`newest`.
    """
    found = newest(ends, lines, choice.wanted)
    paths = [path for job in choice.jobs for path in logs_in(home.logs / JOBS_FOLDER, f"{job}.*.log")]
    if not paths:
        return found
    kept = newest(sizes(paths), lines, _everything)
    known = {line.raw for line in found}
    both = sorted([*(line for line in kept if line.raw not in known), *found], key=lambda line: line.at)
    return both[-lines:] if lines else []


def sizes(paths: Iterable[Path]) -> dict[Path, int]:
    """How large each is now; of one that is gone, nothing."""
    found = {}
    for path in paths:
        try:
            found[path] = path.stat().st_size
        except FileNotFoundError:
            continue  # rotated away this very moment
    return found


def _everything(_line: bytes) -> bool:
    return True


def _about(kinds: tuple[str, ...], number: str) -> Wanted:
    """Lines that name a job of this number and one of the kinds, whatever the field is called."""
    named = re.compile(rb'"(?:%b)-%b"' % ("|".join(kinds).encode(), number.encode()))
    return lambda line: named.search(line) is not None


def logs_in(folder: Path, pattern: str) -> list[Path]:
    """The present file of every log in the folder whose name matches, by name."""
    return [] if os.sep in pattern else sorted(folder.glob(pattern))


def newest(ends: Mapping[Path, int], lines: int, wanted: Wanted) -> list[LogLine]:
    """The last ``lines`` wanted lines of all the logs together, in the order of their times.

    Args:
        ends: for each log's present file, up to which byte.
        lines: how many at most.
        wanted: which lines count.
    """
    if not lines:
        return []
    found = [line for path, end in ends.items() for line in _newest_of(path, end, lines, wanted)]
    found.sort(key=lambda line: line.at)
    return found[-lines:]


def _newest_of(path: Path, end: int, lines: int, wanted: Wanted) -> list[LogLine]:
    """From the present file and, as far as needed, from the rotated ones (``.1`` is the youngest of them)."""
    kept: list[bytes] = []
    for file in _generations(path):
        try:
            with file.open("rb") as stream:
                content = stream.read(end if file == path else -1)
        except FileNotFoundError:
            continue  # rotated away this very moment
        tail = deque(filter(wanted, content.splitlines()), maxlen=lines - len(kept))
        kept = [*tail, *kept]
        if len(kept) >= lines:
            break
    return list(_parsed(kept))


def _generations(path: Path) -> list[Path]:
    def age(file: Path) -> int:
        match = _ROTATED.search(file.name)
        return int(match[1] or 0) if match else 0

    return sorted((file for file in path.parent.glob(f"{path.name}*") if _ROTATED.search(file.name)), key=age)


def _parsed(lines: Iterable[bytes]) -> Iterator[LogLine]:
    at = ""
    for line in lines:
        text = line.rstrip(b"\r\n")
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            at = str(record.get("at", at))
        else:
            record = None  # it belongs to the line before it
        yield LogLine(at, text.decode("utf-8", "backslashreplace"), record)


class Tail:
    """A log's end as it grows. Rotation is followed: the old file is read to its end before the new one is opened."""

    def __init__(self, path: Path, wanted: Wanted, *, from_start: bool = False) -> None:
        self.path = path
        self._wanted = wanted
        self._stream: BinaryIO | None = None
        self._rest = b""
        self._open()
        if self._stream is not None and not from_start:
            self._stream.seek(0, os.SEEK_END)

    @property
    def position(self) -> int:
        """How many bytes of the present file have been passed."""
        return 0 if self._stream is None else self._stream.tell()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None,
                 _traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read(self) -> list[LogLine]:
        """The wanted whole lines that have come since."""
        content = self._rest + (self._stream.read() if self._stream is not None else b"")
        if self._was_replaced():
            self.close()
            self._open()
            content += self._stream.read() if self._stream is not None else b""
        *whole, self._rest = content.split(b"\n")
        return list(_parsed(line for line in whole if self._wanted(line)))

    def _open(self) -> None:
        try:
            self._stream = self.path.open("rb")
        except FileNotFoundError:
            self._stream = None

    def _was_replaced(self) -> bool:
        if self._stream is None:
            return True
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._stream.fileno())
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino) or there.st_size < self._stream.tell()
