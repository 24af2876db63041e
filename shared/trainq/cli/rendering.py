"""Words, numbers and tables for people. Pure: nothing is read, nothing written, the clock's value comes in."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from trainq.cli.console import printable

_SEPARATOR = "  "
_MIN_COLUMN = 8


def duration(seconds: float) -> str:
    """A span for people, in its two greatest units: ``0.4 s``, ``12 s``, ``1 m 12 s``, ``2 h 5 m``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for limit, large, small, names in ((3600, 60, 1, "m s"), (86_400, 3600, 60, "h m")):
        if whole < limit:
            major, minor = names.split()
            return f"{whole // large} {major} {whole % large // small} {minor}"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def moment(wall: float | None) -> str:
    """Seconds since 1970 as local time, ``2026-07-30 14:05:09``; empty for none."""
    if not wall:
        return ""
    return datetime.fromtimestamp(wall).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(size_bytes: int) -> str:
    """``512 B``, ``3.4 MiB``."""
    amount, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{size_bytes} B" if unit == "B" else f"{amount:.1f} {unit}"


def count(number: float) -> str:
    """``950``, ``12.3k``, ``4.5M``."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


def columns_of(text: str) -> int:
    """How many columns of a terminal ``text`` takes (Unicode Standard Annex 11; combining characters take none)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
               for char in text)


def cut(text: str, columns: int) -> str:
    """``text`` in at most ``columns`` columns; an ellipsis stands for what was cut."""
    if columns_of(text) <= columns:
        return text
    kept, used = "", 1
    for char in text:
        used += columns_of(char)
        if used > columns:
            break
        kept += char
    return kept + "…"


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """``text`` filled with spaces to ``columns`` columns, before it if ``right``."""
    space = " " * (columns - columns_of(text))
    return space + text if right else text + space


class Column(NamedTuple):
    """A table's column. ``flexible`` ones give way when the terminal is narrow; ``paint`` colours a padded cell."""

    title: str
    flexible: bool = False
    right: bool = False
    paint: Callable[[str], str] | None = None


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines of a table, the titles first, no wider than ``width`` columns (None: as wide as it wants).

    Cells are escaped here. A column without any content is left out.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    used = [at for at in range(len(columns)) if any(row[at] for row in cells)]
    columns, cells = [columns[at] for at in used], [[row[at] for at in used] for row in cells]
    widths = [max(columns_of(column.title), *(columns_of(row[at]) for row in cells))
              for at, column in enumerate(columns)]
    if width is not None:
        _shrink(widths, columns, width - len(_SEPARATOR) * (len(columns) - 1))
    lines: list[str] = []
    for row in [[column.title for column in columns], *cells]:
        plain = [pad(cut(cell, room), room, right=column.right)
                 for cell, room, column in zip(row, widths, columns, strict=True)]
        if lines:
            plain = [column.paint(cell) if column.paint else cell for cell, column in zip(plain, columns, strict=True)]
        lines.append(_SEPARATOR.join(plain).rstrip())
    return lines


def _shrink(widths: list[int], columns: Sequence[Column], room: int) -> None:
    """Take columns from the widest flexible cells, and only when those are at their least from the others."""
    for candidates in ([at for at, column in enumerate(columns) if column.flexible], list(range(len(columns)))):
        while sum(widths) > room and candidates:
            widest = max(candidates, key=lambda at: widths[at])
            if widths[widest] <= _MIN_COLUMN:
                break
            widths[widest] -= 1


def facts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """``name  value`` lines with the values under one another; pairs without a value are left out."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    width = max((columns_of(name) for name, _ in shown), default=0)
    return [f"{pad(name, width)}  {value}" for name, value in shown]
