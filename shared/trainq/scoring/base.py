"""What scorers have in common: what they are given, what they give, and how their options are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from trainq.errors import InputError
from trainq.samples import Message

Options = TypeVar("Options", bound=msgspec.Struct)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is to be scored: what was asked, and the answer that is right.

    ``row`` is its place in its suite, counted from 0; ``metadata`` what it says about itself.
    """

    row: int
    prompt: tuple[Message, ...]
    reference: str
    metadata: dict[str, Any] = {}


class Score(NamedTuple):
    """What an answer is worth, between 0 and 1; ``credit`` is for what is half right, where a scorer knows of that."""

    value: float
    credit: float | None = None


class Scorer(Protocol):
    """Scores the answers to rows.

    Attributes:
        name: how suites call it.
        version: another one with every change that gives some answer another score, also one of what it knows.
        chance: how often, at most, an answer that is wrong counts as right by luck.
    """

    name: str
    version: str
    chance: float

    def said(self, reference: str) -> str:
        """What a reference comes to: where this is equal, one is as right an answer as the other."""

    def lure(self, case: Case) -> str:
        """A wrong answer that looks as right as can be; empty where the scorer knows of none."""

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        """One score for each case and its answer.

        Raises:
            InputError: it cannot be told.
        """


def read_options(given: Mapping[str, Any], options: type[Options]) -> Options:
    """A scorer's options, checked.

    Raises:
        InputError: one of them is not known, or not as it must be.
    """
    for name in sorted(given.keys() - set(options.__struct_fields__)):
        known = ", ".join(options.__struct_fields__) or "it has none"
        raise InputError("no such option of this scorer", field=f"options.{name}", mend=f"known are: {known}")
    try:
        return msgspec.convert(dict(given), options)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        raise InputError(reason, field=f"options.{place.rstrip('`')}" if place else "options",
                         mend="correct it") from error
