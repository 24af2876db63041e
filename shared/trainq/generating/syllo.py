"""The generator ``syllo``: puzzles of :mod:`trainq.syllo`, each with its solution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainq.generating.base import GenerateRequest, chat, distinct, provenance, refuse_options
from trainq.syllo import levels, puzzles, texts
from trainq.syllo.puzzles import Puzzle

DATASET = "syllo"


class Syllo:
    """Ten levels; two puzzles of one file never ask for the same words. ``sample_index`` is the puzzle's index."""

    name = "syllo"
    version = "1"
    levels = levels.COUNT

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        """See :class:`trainq.generating.base.Generator`."""
        refuse_options(self, request)

        def made(index: int) -> tuple[str, Puzzle]:
            puzzle = puzzles.make(request.level, request.seed, index)
            return " ".join(sorted(word.word for word in puzzle.words)), puzzle

        for index, puzzle in distinct(self, request, made):
            yield {"messages": chat(texts.question(puzzle), texts.answer(puzzle)),
                   "metadata": {**provenance(self, request, index, DATASET), **texts.metadata(puzzle)}}
