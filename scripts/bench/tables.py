"""Numbers of several rounds as a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from statistics import median


def machine() -> str:
    """On what it was measured, without the machine's name."""
    return f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} processors"


def lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of text in Markdown; the first column to the left, the others to the right."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    body = ["| " + " | ".join(cell.rjust(width) if at else cell.ljust(width)
                              for at, (cell, width) in enumerate(zip(row, widths, strict=True))) + " |"
            for row in table]
    rule = "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|"
    return [body[0], rule, *body[1:]]


def spread(values: Sequence[float], digits: int = 3) -> list[str]:
    """Rounds, smallest, median and largest, as cells."""
    return [str(len(values)), *(f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))]
