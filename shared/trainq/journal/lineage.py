"""Which generations descend from which, and which jobs each of them holds.

A generation descends from the one before it, except at a fork: the first generation after the line went back, because
newer ones were damaged or because somebody restored an earlier state. So the ancestors of a generation are a few spans
of numbers, and the jobs that it holds are those that were trained in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import apsw

# SQLite's largest integer: above every generation.
_TOP = 2**63 - 1


class Span(NamedTuple):
    """The generations from ``first`` to ``last``, both of them counted."""

    first: int
    last: int


def covers(spans: Iterable[Span], generation: int) -> bool:
    """Whether the generation is in one of ``spans``."""
    return any(span.first <= generation <= span.last for span in spans)


def note_fork(connection: apsw.Connection, first: int, source: int) -> None:
    """Generation ``first`` descends from ``source``, and not from the one before it."""
    connection.execute("INSERT OR REPLACE INTO forks VALUES (?, ?)", (first, source))


def note_trained(connection: apsw.Connection, generation: int, key: int) -> None:
    """The job of that key was trained to its end in ``generation``. Never undone: the generation may be a snapshot."""
    connection.execute("INSERT OR REPLACE INTO trained VALUES (?, ?)", (generation, key))


def ancestry(forks: Iterable[tuple[int, int]], generation: int) -> list[Span]:
    """The spans of ``generation`` and all that it descends from, oldest first.

    Args:
        forks: (first generation, the one that it descends from) of each fork.
        generation: whose ancestors.
    """
    spans: list[Span] = []
    last = generation
    for first, source in sorted(forks, reverse=True):
        if first <= last:
            spans.append(Span(first, last))
            last = min(source, first - 1)
    spans.append(Span(0, last))
    return spans[::-1]


def descendants(forks: Iterable[tuple[int, int]], newest: int, generation: int) -> list[Span]:
    """The spans of ``generation`` and all that descends from it up to ``newest``, oldest first."""
    spans: list[Span] = []
    first, source = 0, 0
    for following, next_source in [*sorted(forks), (newest + 1, 0)]:
        # The generations from ``first`` to ``last`` descend from each other.
        last = min(following - 1, newest)
        if first <= generation <= last:
            spans.append(Span(generation, last))
        elif generation < first <= last and covers(spans, min(source, first - 1)):
            spans.append(Span(first, last))
        first, source = following, next_source
    return spans


def holes(spans: Iterable[Span]) -> list[Span]:
    """The generations that are in none of ``spans`` (oldest first)."""
    found, after = [], 0
    for span in spans:
        if after < span.first:
            found.append(Span(after, span.first - 1))
        after = span.last + 1
    return [*found, Span(after, _TOP)]
