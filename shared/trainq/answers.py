"""Answers that a machine can check without asking anybody: what a row's own metadata says is right.

The last assistant turn of a row with a number in ``metadata.answer`` has that number behind ``####``, which is the
convention of GSM8K (Cobbe et al. 2021, arXiv:2110.14168). A row that marks no answer is not judged.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

_MARKED = re.compile(r"####\s*(-?[\d.,]*\d)")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def check_row(row: dict[str, Any]) -> str:
    """Why the answer of a training row is wrong; empty if it is right, or cannot be checked."""
    metadata = row.get("metadata")
    wanted = _number(str(metadata.get("answer", ""))) if isinstance(metadata, dict) else None
    said = _last_answer(row)
    if wanted is None or said is None:
        return ""
    marked = _MARKED.findall(said)
    found = _number(marked[-1]) if marked else None
    if found is None:
        return ""  # it does not say where its answer is
    return "" if found == wanted else "the number behind #### is not the one in its metadata"


def _last_answer(row: dict[str, Any]) -> str | None:
    turns = row.get("messages")
    if isinstance(turns, list):
        for turn in reversed(turns):
            if isinstance(turn, dict) and turn.get("role") == "assistant":
                content = turn.get("content")
                return content if isinstance(content, str) else None
    said = row.get("completion", row.get("output"))
    return said if isinstance(said, str) else None


def _number(text: str) -> Decimal | None:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
