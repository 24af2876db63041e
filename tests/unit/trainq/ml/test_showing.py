"""A row for people: what is trained is marked, nothing in it moves a terminal, and it is short."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainq.ml import showing
from trainq.shards import ShardRow


def shown(text: str, trained: Sequence[bool]) -> str:
    row = ShardRow(np.array([ord(character) for character in text]), np.array(trained, dtype=np.bool_), b"", 7)
    return showing.row(row, lambda ids: "".join(map(chr, ids)))


def test_what_is_trained_is_marked() -> None:
    assert shown("ask:yes.", [False] * 4 + [True] * 3 + [False]) == "ask:[[yes]]."
    assert shown("ask:yes.", [False] * 8) == "ask:yes."


def test_it_is_printable() -> None:
    assert shown("a\x1b[2J\u202e\n\ud800", [True] * 8) == "[[a\\x1b[2J\\u202e\\n\\ud800]]"


def test_it_is_short_and_shows_where_training_begins() -> None:
    text = "p" * 5000 + "a" * 5000
    seen = shown(text, [False] * 5000 + [True] * 5000)
    assert seen.startswith("...p")
    assert "p[[a" in seen
    assert seen.endswith("...")
    assert len(seen) <= showing.CHARACTERS_SHOWN + 10
    assert len(shown("\x00" * 96, [True] * 96)) <= showing.CHARACTERS_SHOWN + 3


def test_what_decodes_to_nothing_says_so() -> None:
    row = ShardRow(np.array([1, 2]), np.array([False, False]), b"", 7)
    assert showing.row(row, lambda _: "") == "nothing"
