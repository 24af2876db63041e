"""A row of a file for people: decoded, what is trained of it marked, printable and short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from trainq.shards import ShardRow

# Around what is trained.
BEGIN, END = "[[", "]]"
# Enough to see a prompt and the beginning of its answer.
TOKENS_SHOWN = 96
CHARACTERS_SHOWN = 400


def row(shown: ShardRow, decode: Callable[[Sequence[int]], str]) -> str:
    """The row's text, with what is trained in double square brackets; "nothing" where it has none that can be shown.

    Args:
        shown: the row; of a long one a piece around the first trained token.
        decode: token ids to text.
    """
    flags = [bool(flag) for flag in shown.trained]
    first = flags.index(True) if True in flags else 0
    start = max(0, first - TOKENS_SHOWN // 2)
    piece = list(zip(shown.token_ids.tolist(), flags, strict=True))[start:start + TOKENS_SHOWN]
    text = "..." if start else ""
    for trained, pairs in groupby(piece, key=lambda pair: pair[1]):
        decoded = _printable(decode([token for token, _ in pairs]))
        text += f"{BEGIN}{decoded}{END}" if trained else decoded
    rest = "..." if start + TOKENS_SHOWN < len(flags) else ""
    if len(text) > CHARACTERS_SHOWN:
        text, rest = text[:CHARACTERS_SHOWN], "..."
    return (text + rest) or "nothing"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
                   for character in text)
