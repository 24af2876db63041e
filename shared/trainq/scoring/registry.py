"""The scorers by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainq.errors import InputError
from trainq.scoring.base import Scorer
from trainq.scoring.command import Command
from trainq.scoring.exact import Exact
from trainq.scoring.final_number import FinalNumber
from trainq.scoring.puzzles import Syllo

_SCORERS: dict[str, Callable[[Mapping[str, Any], Path], Scorer]] = {
    FinalNumber.name: lambda options, _: FinalNumber(options),
    Exact.name: lambda options, _: Exact(options),
    Syllo.name: lambda options, _: Syllo(options),
    Command.name: Command,
}

# What tells right answers from wrong ones, where a generator makes questions of which that is known.
OF_GENERATORS: Mapping[str, str] = {"syllo": Syllo.name, "arithmetic": FinalNumber.name}


def names() -> tuple[str, ...]:
    """How scorers are called."""
    return tuple(_SCORERS)


def make(name: str, options: Mapping[str, Any], folder: Path) -> Scorer:
    """The scorer of that name.

    Args:
        name: one of :func:`names`.
        options: its own.
        folder: the suite's; what a scorer needs besides lies there.

    Raises:
        InputError: there is no such scorer, or its options are not as they must be.
    """
    made = _SCORERS.get(name)
    if made is None:
        near = difflib.get_close_matches(name, _SCORERS, n=1)
        raise InputError(f"there is no scorer {name[:40]!r}", field="scorer",
                         mend=f"did you mean {near[0]}?" if near else f"known are: {', '.join(_SCORERS)}")
    return made(options, folder)
