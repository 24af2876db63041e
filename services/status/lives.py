"""The services' lives: how often each was begun anew, what memory it takes, and the last error that it has logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import orjson

from trainq.figures import ABSENT, Life, ServiceError, ServiceStatus

# As much of a log as is read at once; an error is in its last part, or was said long ago.
_MOST_READ_BYTES = 64 * 1024
_MOST_CHARACTERS = 500
_MIB = 1 << 20
_ERROR = b'"level":"error"'


class Lives:
    """Owned by the main thread. ``before``: what a former life of this process had seen."""

    def __init__(self, logs: Path, before: Mapping[str, Life]) -> None:
        self._logs = logs
        self._lives = dict(before)
        # Up to which byte each log was read.
        self._read: dict[str, int] = {}

    @property
    def lives(self) -> dict[str, Life]:
        """By service."""
        return self._lives

    def note(self, services: Sequence[ServiceStatus], sessions: Mapping[str, str]) -> bool:
        """Count new lives; ``sessions`` are those that the broker has heard of. Whether there was one."""
        changed = False
        for service in services:
            life, session = self._lives.get(service.name, Life()), sessions.get(service.name, "")
            if service.state != ABSENT and session and session != life.session:
                self._lives[service.name] = msgspec.structs.replace(
                    life, session=session, memory_bytes=None, restarts=life.restarts + bool(life.session))
                changed = True
        return changed

    def measured(self, memory: Mapping[str, int]) -> None:
        """What each takes, in bytes; kept to the MiB, for the rest is noise."""
        for name, size_bytes in memory.items():
            self._lives[name] = msgspec.structs.replace(
                self._lives.get(name, Life()), memory_bytes=-(-size_bytes // _MIB) * _MIB)

    def read_logs(self, names: Sequence[str]) -> None:
        """Look for errors in what was logged since the last call."""
        for name in names:
            error = self._last_error(name)
            if error is not None:
                self._lives[name] = msgspec.structs.replace(self._lives.get(name, Life()), last_error=error)

    def _last_error(self, name: str) -> ServiceError | None:
        path = self._logs / f"{name}.log"
        try:
            with path.open("rb") as stream:
                end = stream.seek(0, 2)
                begin = self._read.get(name, 0)
                if begin > end:
                    begin = 0  # a new file since
                if begin == end:
                    return None
                stream.seek(max(begin, end - _MOST_READ_BYTES))
                content = stream.read(_MOST_READ_BYTES)
        except OSError:
            return None  # no log yet, or none that can be read; the picture of everything else goes on
        whole = content.rfind(b"\n") + 1
        self._read[name] = end - len(content) + whole
        lines = [line for line in content[:whole].splitlines() if _ERROR in line]
        return next((found for line in reversed(lines) if (found := _error(line)) is not None), None)


def _error(line: bytes) -> ServiceError | None:
    """The error that a line of a log tells of; None if it is torn, or of another form."""
    try:
        record = orjson.loads(line)
        at = datetime.fromisoformat(record["at"]).timestamp()
        traceback = str(record.get("traceback", "")).strip().rpartition("\n")[2]
        said = record.get("error") or record.get("reason") or traceback
        text = ": ".join(str(part) for part in (record["event"], said) if part)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return ServiceError(at=at, text=text[:_MOST_CHARACTERS])
