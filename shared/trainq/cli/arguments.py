"""Argument types: from one word of the command line to a valid value, or a clear mistake."""

from __future__ import annotations

import functools
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

from trainq import words
from trainq.errors import UsageError

MAX_EPOCHS = 1000  # as in [train] epochs

Value = TypeVar("Value")


def _argument(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """``parse`` for argparse, which wants an error of its own."""
    @functools.wraps(parse)
    def parsed(word: str) -> Value:
        try:
            return parse(word)
        except UsageError as error:
            raise ArgumentTypeError(str(error)) from error

    return parsed


job_id = _argument(words.job_id)
generation = _argument(words.generation)
generation_number = _argument(words.generation_number)
digest = _argument(words.digest)
text = _argument(words.text)
duration = _argument(words.duration)
age = _argument(words.age)
override = _argument(words.override)
column_map = _argument(words.column_map)


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


def epochs(word: str) -> int:
    """How many times a file is gone through."""
    number = positive(word)
    if number > MAX_EPOCHS:
        raise ArgumentTypeError(f"it must be at most {MAX_EPOCHS}")
    return number
