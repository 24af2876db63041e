"""Where in a line of JSON a value stands: a second, slower parse, for lines that are reported and never for good ones.

The line is known to be valid JSON; only positions are asked here.
"""

from __future__ import annotations

import contextlib
import json
from typing import TypeAlias

# From the row down to a value: the key at each object, the position (from 0) at each list.
RowPath: TypeAlias = tuple[str | int, ...]


def path_name(path: RowPath) -> str:
    """A path as people write it: ``messages[1].content``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def column_of(text: str, path: RowPath) -> int:
    """The column, in characters from 1, at which the value under ``path`` starts.

    If the value is not there, it is the column of the last thing on the way to it that is. Of a key that stands twice
    the last counts, as in every parser used here.
    """
    decoder = json.JSONDecoder()
    position = _skip(text, 0)
    # Nested deeper than this parser goes: the place of what contains the value must do.
    with contextlib.suppress(RecursionError):
        for step in path:
            found = _member(decoder, text, position, step)
            if found is None:
                break
            position = found
    return position + 1


def _member(decoder: json.JSONDecoder, text: str, start: int, step: str | int) -> int | None:
    """Where the member ``step`` of the object or list that starts at ``start`` has its value."""
    found = None
    position, number = _skip(text, start + 1), 0
    while text[position] not in "]}":
        key: str | int = number
        if text[start] == "{":
            key, position = decoder.raw_decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
        if key == step:
            found = position
        position = _skip(text, decoder.raw_decode(text, position)[1])
        if text[position] == ",":
            position, number = _skip(text, position + 1), number + 1
    return found


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
