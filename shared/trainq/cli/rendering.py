"""Words, numbers and tables for people. Pure: nothing is read, nothing written, the clock's value comes in."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from trainq.cli.console import printable

_SEPARATOR = "  "
_MIN_COLUMN = 8
# Where not even that fits: what a cell must have to say anything.
_LEAST_COLUMN = 3
# Beside names this narrow nothing fits into a line any more; values then stand in lines of their own.
_MIN_VALUE = 20


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
    """How many columns of a terminal ``text`` takes (Unicode Standard Annex 11; what is written over takes none)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.category(char) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(char) in "WF"
               else 1 for char in text)


def cut(text: str, columns: int) -> str:
    """``text`` in at most ``columns`` columns; an ellipsis stands for what was cut."""
    if columns_of(text) <= columns:
        return text
    if columns < 1:
        return ""
    kept, used = "", 1
    for char in text:
        used += columns_of(char)
        if used > columns:
            break
        kept += char
    return kept + "…"


def fold(text: str, columns: int) -> list[str]:
    """``text`` in lines of at most ``columns`` columns each, broken at spaces where there are some."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if columns_of(longer) <= columns:
            line = longer
            continue
        if line:
            lines.append(line)
        line = ""
        for char in word:
            if columns_of(line) + columns_of(char) > columns:
                lines.append(line)
                line = ""
            line += char
    return [*lines, line]


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """``text`` filled with spaces to ``columns`` columns, before it if ``right``."""
    space = " " * (columns - columns_of(text))
    return space + text if right else text + space


class Column(NamedTuple):
    """A table's column. ``paint`` colours a padded cell.

    When the terminal is narrow ``flexible`` ones give way first, ``spare`` ones are left out next, the last one first,
    and in the end all are cut.
    """

    title: str
    flexible: bool = False
    right: bool = False
    paint: Callable[[str], str] | None = None
    spare: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines of a table, the titles first, no wider than ``width`` columns (None: as wide as it wants).

    Cells are escaped here. A column without any content is left out.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    wants = [max(columns_of(column.title), *(columns_of(row[at]) for row in cells), 0)
             for at, column in enumerate(columns)]
    used = [at for at in range(len(columns)) if any(row[at] for row in cells)]
    if width is not None:
        used = _without_spare(used, wants, columns, width)
    columns, cells = [columns[at] for at in used], [[row[at] for at in used] for row in cells]
    widths = [wants[at] for at in used]
    if width is not None:
        _shrink(widths, columns, width - len(_SEPARATOR) * (len(columns) - 1))
    lines: list[str] = []
    for row in [[column.title for column in columns], *cells]:
        plain = [pad(cut(cell, room), room, right=column.right)
                 for cell, room, column in zip(row, widths, columns, strict=True)]
        if width is not None and columns_of(_SEPARATOR.join(plain).rstrip()) > width:
            lines.append(cut(_SEPARATOR.join(plain), width))  # too many columns even so; without colours
            continue
        if lines:
            plain = [column.paint(cell) if column.paint else cell for cell, column in zip(plain, columns, strict=True)]
        lines.append(_SEPARATOR.join(plain).rstrip())
    return lines


def _without_spare(used: list[int], wants: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Leave spare columns out, the last one first, until the rest fits with its flexible cells at their least."""
    used = list(used)
    for at in reversed([at for at in used if columns[at].spare]):
        least = sum(min(wants[each], _MIN_COLUMN) if columns[each].flexible else wants[each] for each in used)
        if least + len(_SEPARATOR) * (len(used) - 1) <= width:
            break
        used.remove(at)
    return used


def _shrink(widths: list[int], columns: Sequence[Column], room: int) -> None:
    """Take columns from the widest flexible cells, and only when those are at their least from the others."""
    flexible, everyone = [at for at, column in enumerate(columns) if column.flexible], list(range(len(columns)))
    for candidates, least in ((flexible, _MIN_COLUMN), (everyone, _MIN_COLUMN), (everyone, _LEAST_COLUMN)):
        while sum(widths) > room and candidates:
            widest = max(candidates, key=lambda at: widths[at])
            if widths[widest] <= least:
                break
            widths[widest] -= 1


def facts(pairs: Sequence[tuple[str, str]], width: int | None = None) -> list[str]:
    """``name  value`` lines with the values under one another; pairs without a value are left out.

    With a ``width`` longer values are broken, and go on under their beginning; nothing is lost.
    """
    shown = [(name, printable(value)) for name, value in pairs if value]
    indent = max((columns_of(name) for name, _ in shown), default=0) + len(_SEPARATOR)
    if width is None:
        return [f"{pad(name, indent)}{value}" for name, value in shown]
    if width - indent < _MIN_VALUE:
        return [line for name, value in shown for line in (*([cut(name, width)] if name else []), *fold(value, width))]
    return [f"{pad(name if at == 0 else '', indent)}{part}" for name, value in shown
            for at, part in enumerate(fold(value, width - indent))]
