"""From one word of a person's to a valid value, or a clear mistake: what the command line and HTTP take alike."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from trainq.errors import UsageError
from trainq.ids import is_digest, is_id

HEAD = "head"

_GENERATION = re.compile(r"g\d{6,18}-s\d{8,18}", re.ASCII)
_NUMBER = re.compile(r"g?(\d{1,18})(-s\d{8,18})?", re.ASCII)
_SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_DURATION_SECONDS = 30 * 86_400  # as the protocol has it


def job_id(word: str) -> str:
    """A job's id; a bare number means the train job of that number.

    Raises:
        UsageError: it is none; so do all of these.
    """
    job = f"train-{word}" if word.isdecimal() else word
    if not is_id(job):
        raise UsageError(f"{word!r} is no job id; they look like train-7")
    return job


def generation(word: str) -> str:
    """A generation's name, as its directory has it."""
    if not _GENERATION.fullmatch(word):
        raise UsageError(f"{word!r} is no generation; they look like g000042-s00001200")
    return word


def generation_number(word: str) -> int | None:
    """The number of a generation, by that or by its name; None for :data:`HEAD`."""
    if word == HEAD:
        return None
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise UsageError(f"{word!r} is no generation; they look like g000042-s00001200, 42, or {HEAD}")
    return int(match[1])


def digest(word: str) -> str:
    """A BLAKE3 digest."""
    if not is_digest(word):
        raise UsageError(f"{word!r} is no digest: 64 lower-case hexadecimal digits")
    return word


def text(word: str) -> str:
    """Words that a message can carry; what comes from outside may hold bytes that are no UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError("it is not valid UTF-8") from None
    return word


def duration(word: str) -> float:
    """``90s``, ``30m``, ``2h`` or ``1d``, in seconds; 30 days at most."""
    seconds = _span(word)
    if not 0 < seconds <= MAX_DURATION_SECONDS:
        raise UsageError(f"{word!r} is no time up to 30 days; they look like 90s, 30m, 2h or 1d")
    return seconds


def age(word: str) -> float:
    """As :func:`duration`, however long ago."""
    seconds = _span(word)
    if not seconds:
        raise UsageError(f"{word!r} is no time; they look like 90s, 30m, 2h or 90d")
    return seconds


def moment(word: str, now: float) -> float:
    """A time that has been, in seconds since 1970: ``3d`` ago, ``2026-07-30``, ``2026-07-30 14:05`` (local, or with an
    offset). ``now`` is that of the clock.
    """
    if seconds := _span(word):
        return now - seconds
    try:
        return datetime.fromisoformat(word).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{word!r} is no time; they look like 3d, 2026-07-30 or '2026-07-30 14:05'") from error


def _span(word: str) -> float:
    """The seconds of a time; 0 for what is none."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", word, re.ASCII)
    return float(found[1]) * _SECONDS_OF[found[2]] if found else 0.0


def override(word: str) -> tuple[str, Any]:
    """``learning_rate=1e-4``: a setting of [train] that a job is to have otherwise, and its value."""
    from trainq.config import parse_override

    name, equals, value = (part.strip() for part in text(word).partition("="))
    if not (name and equals and value):
        raise UsageError(f"{word!r} is not name=value; write learning_rate=1e-4")
    return name, parse_override(name, value)


def column_map(word: str) -> dict[str, str]:
    """``prompt=question,completion=answer``: for each field the column that holds it."""
    from trainq.samples import RowJudge

    mapping: dict[str, str] = {}
    for pair in text(word).split(","):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not (field and equals and column):
            raise UsageError(f"{pair!r} is not field=column; write prompt=question,completion=answer")
        if field in mapping:
            raise UsageError(f"it gives two columns for {field!r}")
        mapping[field] = column
    RowJudge(mapping)
    return mapping
