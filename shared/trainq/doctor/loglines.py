"""What the logs say of late: errors, service by service. Only the end of each file is read."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from trainq.doctor.findings import Finding, Subject, ok, warn

TAIL_BYTES = 256 * 1024
RECENT_SECONDS = 24 * 3600.0
_MOST_CHARACTERS = 200


def recent_errors(subject: Subject) -> Iterator[Finding]:
    """Which services have logged errors in the last day, how many, and the newest."""
    now, clean = time.time(), 0
    for path in log_files(subject.home.logs):
        errors = [record for record in records(path) if record.get("level") == "error"
                  and now - _wall(record) < RECENT_SECONDS]
        if not errors:
            clean += 1
            continue
        newest = errors[-1]
        said = str(newest.get("error") or newest.get("reason") or newest.get("detail") or "")
        text = f"{newest.get('event', '')}{f': {said}' if said else ''}"[:_MOST_CHARACTERS]
        yield warn("logs", f"{path.stem}: {len(errors)} errors in the last day, the newest at {newest.get('at', '?')}: "
                   f"{text}", f"trainq logs {path.stem}")
    if clean:
        yield ok("logs", f"{clean} without an error in the last day")


def log_files(folder: Path) -> list[Path]:
    """The present log of each service, by name."""
    try:
        return sorted(folder.glob("*.log"))
    except OSError:
        return []


def records(path: Path) -> list[dict[str, Any]]:
    """The JSON objects among a log's last lines, in order."""
    found = []
    for line in tail(path).splitlines():
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
