"""Numbers of several rounds as a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from statistics import mean, median, stdev


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


# The 95 % point of Student's t distribution, one-sided, for 1 to 30 degrees of freedom (any table of it).
_T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753, 1.746,
        1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697)


def mean_and_lower(values: Sequence[float], digits: int = 3) -> list[str]:
    """The mean of independent rounds and its one-sided lower 95 % bound, as cells; of one round there is no bound."""
    if len(values) < 2:
        return [f"{values[0]:.{digits}f}", "-"]
    t95 = _T95[min(len(values) - 1, len(_T95)) - 1]
    return [f"{mean(values):.{digits}f}", f"{mean(values) - t95 * stdev(values) / len(values) ** 0.5:.{digits}f}"]
