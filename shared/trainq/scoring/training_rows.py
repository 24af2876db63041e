"""Rows of training files whose answer a machine can check: those that say so themselves, in their metadata.

``metadata.dataset`` that begins with ``syllo``: the puzzle is checked, if it can be read, and if the word of each of
its slots is known: by the list, or else by the label that ``metadata.words`` has for the clue. Where a word is not
known, any tiles would do, and nothing can be said. ``metadata.answer`` that is a number: an answer that marks one with
``####`` must mark this one. Every other row is not checkable, which is no fault: where nothing is marked, the last
number need not be what the row answers with, and nobody is to be accused for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import orjson

from trainq.jsonl import Line
from trainq.samples import BadRow, ChatSample, RowJudge, Sample
from trainq.scoring import final_number, puzzles
from trainq.syllo import checking, texts

_MOST_FAULTS = 3


def check_row(row: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> str:
    """Why the answer in a row of a training file is wrong; empty if it is right, or cannot be checked.

    Args:
        row: as it stands in the file, in any format of :mod:`trainq.samples`. One that is no sample is not checked.
        mapping: ``data.map``, if the file has other columns.
    """
    metadata = row.get("metadata")
    if not isinstance(metadata, dict) or not _is_checkable(metadata):
        return ""
    content = orjson.dumps(row)
    sample = RowJudge(mapping or {}).judge(Line(1, content, len(content)))
    return "" if isinstance(sample, BadRow) else check_sample(sample, metadata) or ""


def check_sample(sample: Sample, metadata: Mapping[str, Any]) -> str | None:
    """As :func:`check_row`, of a row that was read already; None if it cannot be checked.

    The last answer of a chat is checked.
    """
    if not isinstance(sample, ChatSample) or not _is_checkable(metadata):
        return None
    last = max(at for at, message in enumerate(sample.messages) if message.role == "assistant")
    answer = sample.messages[last].content
    if _is_puzzle(metadata):
        return _check_puzzle(puzzles.puzzle_of(sample.messages[:last]), answer, metadata)
    wanted = _number(metadata)
    found = final_number.marked_number(answer)
    if wanted is None or found is None or found == wanted:
        return ""
    return f"the number behind #### is {found}, and its metadata say {metadata['answer']}"


def _is_checkable(metadata: Mapping[str, Any]) -> bool:
    """Whether a row with these metadata may have an answer that :func:`check_sample` can judge."""
    return _is_puzzle(metadata) or _number(metadata) is not None


def _check_puzzle(puzzle: str, answer: str, metadata: Mapping[str, Any]) -> str | None:
    asked = texts.read(puzzle)
    if isinstance(asked, str):
        return None  # whatever it is: a puzzle of other rules is no wrong one
    labels = _labels(metadata.get("words"))
    verdict = checking.check(puzzle, answer, {number: labels[slot.clue] for number, slot in enumerate(asked.slots, 1)
                                              if slot.clue in labels})
    if verdict.unknown:
        return None
    faults = "; ".join(verdict.faults[:_MOST_FAULTS])
    return "" if verdict.exact else f"the puzzle is not solved: {faults or 'it is no right answer'}"


def _labels(words: Any) -> dict[str, str]:
    """The words that a row's metadata have, by their clues; none for a clue of two words."""
    found: dict[str, set[str]] = {}
    for word in words if isinstance(words, list) else ():
        clue, label = (word.get("definition"), word.get("label")) if isinstance(word, dict) else (None, None)
        if isinstance(clue, str) and isinstance(label, str):
            found.setdefault(clue.strip(), set()).add(label.strip())
    return {clue: label for clue, labels in found.items() if len(labels) == 1 for label in labels}


def _is_puzzle(metadata: Mapping[str, Any]) -> bool:
    dataset = metadata.get("dataset")
    return isinstance(dataset, str) and dataset.lower().startswith("syllo")


def _number(metadata: Mapping[str, Any]) -> Fraction | None:
    """The number that ``metadata.answer`` is; None where it is anything else, or more than a number."""
    answer = metadata.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, int | float | str):
        return None
    return final_number.only_number(str(answer))
