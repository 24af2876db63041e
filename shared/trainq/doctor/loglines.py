"""What the logs say of late: errors, service by service. Only the end of each is read, and said so."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from trainq.doctor.findings import Finding, Subject, ok, warn

TAIL_BYTES = 256 * 1024
RECENT_SECONDS = 24 * 3600.0
_MOST_CHARACTERS = 200
_LAST_DAY = "in the last day"


def recent_errors(subject: Subject) -> Iterator[Finding]:
    """Which services have logged errors in the last day, or since the oldest line that was read; and the newest."""
    now, clean = time.time(), []
    for path in log_files(subject.home.logs):
        read = records(path)
        since = _since(read, now)
        errors = [record for record in read if record.get("level") == "error" and now - _wall(record) < RECENT_SECONDS]
        if not errors:
            clean.append((path.stem, since))
            continue
        newest = errors[-1]
        said = str(newest.get("error") or newest.get("reason") or newest.get("detail") or "")
        text = f"{newest.get('event', '')}{f': {said}' if said else ''}"[:_MOST_CHARACTERS]
        yield warn("logs", f"{path.stem}: {len(errors)} errors {since}, the newest at {newest.get('at', '?')}: "
                   f"{text}", f"trainq logs {path.stem}")
    whole = sum(since == _LAST_DAY for _, since in clean)
    parts = [f"{whole} {_LAST_DAY}"] if whole else []
    parts += [f"{name} {since}" for name, since in clean if since != _LAST_DAY]
    if parts:
        yield ok("logs", f"without an error: {', '.join(parts)}")


def _since(read: list[dict[str, Any]], now: float) -> str:
    """How far back it was read, in words: a day at the most."""
    times = [wall for record in read if (wall := _wall(record))]
    if not times:
        return "in what was read (no line with a time)"
    if now - min(times) >= RECENT_SECONDS:
        return _LAST_DAY
    return f"since {datetime.fromtimestamp(min(times), UTC).isoformat(timespec='seconds')}, the oldest line read"


def log_files(folder: Path) -> list[Path]:
    """The present log of each service, by name."""
    try:
        return sorted(folder.glob("*.log"))
    except OSError:
        return []


def before(path: Path) -> Path:
    """The file that a log was renamed to when it was full."""
    return path.with_name(f"{path.name}.1")


def newest_attempts(folder: Path, most: int) -> list[Path]:
    """What is kept of the newest attempts at jobs (:mod:`trainq.logs`), by attempt: first lines, then the last ones."""
    changed: dict[str, float] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, end = entry.name.rpartition(".log")[0].rpartition(".")
                if dot and end in ("first", "last") and entry.is_file(follow_symlinks=False):
                    changed[stem] = max(changed.get(stem, 0.0), entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        pass
    newest = sorted(changed, key=lambda stem: (changed[stem], stem))[-most:]
    paths = [folder / f"{stem}.{end}" for stem in newest for end in ("first.log", "last.log.1", "last.log")]
    return [path for path in paths if path.is_file()]


def records(path: Path) -> list[dict[str, Any]]:
    """The JSON objects among a log's last lines, in order; where it has just gone round, also of the one before."""
    found = []
    try:
        left_bytes = TAIL_BYTES - path.stat().st_size
    except OSError:
        left_bytes = 0
    earlier = tail(before(path), left_bytes) if left_bytes > 0 else b""
    for line in (*earlier.splitlines(), *tail(path).splitlines()):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def last_line(path: Path) -> str:
    """The last line that is not empty, cut; nothing if it cannot be read."""
    lines = [line for line in tail(path).decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return lines[-1].strip()[:_MOST_CHARACTERS] if lines else ""


def tail(path: Path, most_bytes: int = TAIL_BYTES) -> bytes:
    """The end of a file, from the beginning of a line on; nothing if it is no file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""  # a FIFO would be waited for
        with path.open("rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - most_bytes)
            stream.seek(start)
            content = stream.read(most_bytes)
    except (OSError, ValueError):
        return b""
    return content[content.find(b"\n") + 1:] if start else content


def _wall(record: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("at", ""))).timestamp()
    except ValueError:
        return 0.0
