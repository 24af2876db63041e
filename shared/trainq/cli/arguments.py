"""Argument types: from one word of the command line to a valid value, or a clear mistake."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import Any

from trainq.errors import UsageError
from trainq.ids import is_id

_GENERATION = re.compile(r"g\d{6,18}-s\d{8,18}", re.ASCII)
MAX_EPOCHS = 1000  # as in [train] epochs


def job_id(word: str) -> str:
    """A job's id; a bare number means the train job of that number."""
    job = f"train-{word}" if word.isdecimal() else word
    if not is_id(job):
        raise ArgumentTypeError(f"{word!r} is no job id; they look like train-7")
    return job


def generation(word: str) -> str:
    """A generation's name, as its directory has it."""
    if not _GENERATION.fullmatch(word):
        raise ArgumentTypeError(f"{word!r} is no generation; they look like g000042-s00001200")
    return word


def text(word: str) -> str:
    """Words that a message can carry; a command line may hold bytes that are no UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError("it is not valid UTF-8") from None
    return word


def natural(word: str) -> int:
    """A whole number, 0 or more."""
    if not (word.isascii() and word.isdecimal() and len(word) < 19):
        raise ArgumentTypeError(f"{word!r} is not a whole number")
    return int(word)


def positive(word: str) -> int:
    """A whole number, 1 or more."""
    number = natural(word)
    if number < 1:
        raise ArgumentTypeError("it must be at least 1")
    return number


_SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_DURATION_SECONDS = 30 * 86_400  # as the protocol has it


def duration(word: str) -> float:
    """``90s``, ``30m``, ``2h`` or ``1d``, in seconds."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", word, re.ASCII)
    seconds = float(found[1]) * _SECONDS_OF[found[2]] if found else 0.0
    if not 0 < seconds <= MAX_DURATION_SECONDS:
        raise ArgumentTypeError(f"{word!r} is no time up to 30 days; they look like 90s, 30m, 2h or 1d")
    return seconds


def epochs(word: str) -> int:
    """How many times a file is gone through."""
    number = positive(word)
    if number > MAX_EPOCHS:
        raise ArgumentTypeError(f"it must be at most {MAX_EPOCHS}")
    return number


def override(word: str) -> tuple[str, Any]:
    """``learning_rate=1e-4``: a setting of [train] that a job is to have otherwise, and its value."""
    from trainq.config import parse_override

    name, equals, value = (part.strip() for part in text(word).partition("="))
    if not (name and equals and value):
        raise ArgumentTypeError(f"{word!r} is not name=value; write learning_rate=1e-4")
    try:
        return name, parse_override(name, value)
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from error


def column_map(word: str) -> dict[str, str]:
    """``prompt=question,completion=answer``: for each field the column that holds it."""
    from trainq.samples import RowJudge

    mapping: dict[str, str] = {}
    for pair in text(word).split(","):
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not (field and equals and column):
            raise ArgumentTypeError(f"{pair!r} is not field=column; write prompt=question,completion=answer")
        if field in mapping:
            raise ArgumentTypeError(f"it gives two columns for {field!r}")
        mapping[field] = column
    try:
        RowJudge(mapping)
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from error
    return mapping
