"""The list of words: what each of them consists of, how common it is, and the clue that means it and no other.

A line of ``words.tsv`` is syllables (joined by ``-``; together they are the word), its Zipf value, its clue. The Zipf
value is the logarithm to base 10 of how often a word comes in a billion words of English (van Heuven and others, 2014),
as the package ``wordfreq`` has it, to two decimals: 7 is "that", 4 one in ten million. Where dictionaries differ in
a word's syllables, it follows the hyphenation patterns of TeX, with the breaks of a single letter that those leave out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import msgspec
from blake3 import blake3


class Word(msgspec.Struct, frozen=True):
    """A word of the list, in lower case."""

    word: str
    syllables: tuple[str, ...]
    zipf: float
    clue: str


@functools.cache
def all_words() -> tuple[Word, ...]:
    """The whole list, by the alphabet."""
    return tuple(_word(*line.split("\t")) for line in _content().decode().splitlines())


@functools.cache
def digest() -> str:
    """BLAKE3 of the list: what is right by it is so under this digest alone."""
    return blake3(_content()).hexdigest()


def _content() -> bytes:
    return Path(__file__).with_name("words.tsv").read_bytes()


def _word(syllables: str, zipf: str, clue: str) -> Word:
    pieces = tuple(syllables.split("-"))
    return Word("".join(pieces), pieces, float(zipf), clue)


@functools.cache
def by_clue() -> Mapping[str, Word]:
    """Each word under its clue."""
    return {word.clue: word for word in all_words()}


@functools.cache
def by_syllable() -> Mapping[str, tuple[Word, ...]]:
    """Under each syllable the words that have it."""
    found: dict[str, list[Word]] = {}
    for word in all_words():
        for syllable in dict.fromkeys(word.syllables):
            found.setdefault(syllable, []).append(word)
    return {syllable: tuple(words) for syllable, words in found.items()}
