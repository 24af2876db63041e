"""The quality of a file: what is measured of its rows, and the band that follows from it. Pure.

Rules:

- A measure is a count, and depends on the rows alone. It lies beside the shard and is no part of it: what is found in
  rows may be looked for otherwise one day, and the shard must come out the same then. The band follows from the
  measures and the limits of ``[gate]`` each time it is asked for.
- The band of a file is that of its worst measure. Secrets are warned of, and make no band.
- A row that stands in an evaluation suite, or nearly so in the file's own held-out rows, is refused whatever the band.
  The latter is no fault of the file: which of its rows are held out is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from trainq.config import GateSettings

SHOWN_LINES = 20


def measures_name(shard: str) -> str:
    """How the file with the measures is called that lies beside a shard of this name."""
    return f"{shard}.quality.json"


class Band(StrEnum):
    """How good a file is, the best first."""

    EXCELLENT = "excellent"
    GOOD = "good"
    DEGRADED = "degraded"
    POOR = "poor"


_BANDS = tuple(Band)


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of rows, but for ``p95_tokens``: 95 % of the rows that were encoded have at most so many tokens.

    ``overlap`` are refused because they stand in a suite, ``near_held_out`` because they are nearly a held-out row of
    the file; both are among the report's rejected ones. ``damaged`` have damaged text, by kind in ``damage``.
    ``checkable`` rows say in their metadata what is right; ``wrong`` are those with another answer. ``secrets`` are
    rows with something that looks like one, by kind. The lines of the first rows of each sort follow.
    """

    overlap: int
    damaged: int
    damage: dict[str, int]
    checkable: int
    wrong: int
    secrets: dict[str, int]
    p95_tokens: int
    damaged_lines: tuple[int, ...] = ()
    wrong_lines: tuple[int, ...] = ()
    secret_lines: tuple[int, ...] = ()
    near_held_out: int = 0

    @property
    def refused(self) -> int:
        """Of the report's rejected rows those that are no bad ones."""
        return self.overlap + self.near_held_out


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a report the band follows from, besides the measures: rows, and tokens of the file's own rows."""

    read: int
    rejected: int
    duplicate: int
    long: int
    tokens: int
    trained_tokens: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The band with its reasons, the worst first, and what people should look at whatever the band."""

    band: Band
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def is_bad(self) -> bool:
        """Whether people should look at the file."""
        return self.band in (Band.DEGRADED, Band.POOR)


class Measuring:
    """Counts while a file is read; memory does not grow with it."""

    def __init__(self, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._overlap = self._near_held_out = self._damaged = self._checkable = self._wrong = 0
        self._damage: dict[str, int] = {}
        self._secrets: dict[str, int] = {}
        self._lengths: dict[int, int] = {}
        self._damaged_lines, self._wrong_lines, self._secret_lines = list[int](), list[int](), list[int]()

    def overlapping(self) -> None:
        """A row was refused because it stands in a suite."""
        self._overlap += 1

    def nearly_held_out(self) -> None:
        """A row was refused because it is nearly one of the file's held-out ones."""
        self._near_held_out += 1

    def encoded(self, tokens: int) -> None:
        """A row has so many tokens; what is above the window counts as one more than that."""
        length = min(tokens, self._most_tokens + 1)
        self._lengths[length] = self._lengths.get(length, 0) + 1

    def text(self, line: int, damage: tuple[str, ...], secrets: tuple[str, ...]) -> None:
        """What is wrong with the text of a good row."""
        for kind in damage:
            self._damage[kind] = self._damage.get(kind, 0) + 1
        for kind in secrets:
            self._secrets[kind] = self._secrets.get(kind, 0) + 1
        self._damaged += bool(damage)
        _note(self._damaged_lines, line, wanted=bool(damage))
        _note(self._secret_lines, line, wanted=bool(secrets))

    def answer(self, line: int, *, is_right: bool) -> None:
        """The answer of a good row was checked."""
        self._checkable += 1
        self._wrong += not is_right
        _note(self._wrong_lines, line, wanted=not is_right)

    def measures(self) -> Measures:
        """What was counted."""
        return Measures(overlap=self._overlap, damaged=self._damaged, damage=dict(sorted(self._damage.items())),
                        checkable=self._checkable, wrong=self._wrong, secrets=dict(sorted(self._secrets.items())),
                        p95_tokens=self._p95(), damaged_lines=tuple(self._damaged_lines),
                        wrong_lines=tuple(self._wrong_lines), secret_lines=tuple(self._secret_lines),
                        near_held_out=self._near_held_out)

    def _p95(self) -> int:
        left = -(-95 * sum(self._lengths.values()) // 100)
        for length, rows in sorted(self._lengths.items()):
            left -= rows
            if left <= 0:
                return length
        return 0


def _note(lines: list[int], line: int, *, wanted: bool) -> None:
    if wanted and len(lines) < SHOWN_LINES:
        lines.append(line)


def judge(counts: Counts, measures: Measures, gate: GateSettings) -> Verdict:
    """The band of a file with these counts and measures."""
    found = sorted(_judged(counts, measures, gate), key=lambda each: -each[0])
    worst = found[0][0] if found else 0
    warnings = tuple(f"{rows} row{'' if rows == 1 else 's'} with what looks like {_a(kind)} {kind}"
                     f"{_lines(measures.secret_lines)}" for kind, rows in measures.secrets.items())
    return Verdict(band=_BANDS[worst], reasons=tuple(reason for _, reason in found), warnings=warnings)


def _judged(counts: Counts, measures: Measures, gate: GateSettings) -> Iterator[tuple[int, str]]:
    """(band, reason) of each measure that is not excellent."""
    rejected = counts.rejected - measures.refused
    told = (
        ("rejected", rejected, counts.read, "rows are bad"),
        ("overlap", measures.overlap, counts.read, "rows stand in an evaluation suite, and are left out"),
        ("wrong", measures.wrong, measures.checkable,
         f"answers that can be checked are wrong{_lines(measures.wrong_lines)}"),
        ("damaged", measures.damaged, counts.read,
         f"rows have damaged text ({', '.join(measures.damage)}){_lines(measures.damaged_lines)}"),
        ("duplicate", counts.duplicate, counts.read, "rows are duplicates"),
        ("long", counts.long, counts.read, "rows are longer than the window"),
        ("untrained", counts.tokens - counts.trained_tokens, counts.tokens, "tokens are in no answer"),
    )
    for name, part, whole, words in told:
        share = part / whole if whole else 0.0
        limits = getattr(gate, name)
        band = sum(share > limit for limit in limits)
        if band:
            yield band, f"{part} of {whole} {words} ({share:.1%}; [gate] {name} {limits[band - 1]:.1%})"


def _a(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _lines(lines: tuple[int, ...]) -> str:
    """Where the first of them stand."""
    if not lines:
        return ""
    shown = ", ".join(map(str, lines[:3]))
    return f", line{'s' if len(lines) > 1 else ''} {shown}{' ...' if len(lines) > 3 else ''}"
