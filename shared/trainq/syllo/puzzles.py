"""A puzzle from (level, seed, index): the same on every machine, with one solution.

The *overlap* of a puzzle is the share of its words' tiles whose syllable more than one of its words has. Words are
drawn so that it comes near to what the level allows and not above. Of the tiles of a puzzle:

* none of its words can be laid in a second way with as many tiles (so "na-tion-al" and "ra-tio-nal" never meet);
* a red herring is in none of its words, and with the other tiles makes no word of the list that would fit a slot.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from trainq.draws import Draws
from trainq.syllo import words
from trainq.syllo.levels import LEVELS, Level
from trainq.syllo.words import Word

# Of so many words that were drawn the one is taken that brings the overlap nearest to its limit: with more of them
# the same few words would come in every puzzle.
_CANDIDATES = 48
# So many sets of words are tried for one that can be laid in one way only; nine in ten can.
_ATTEMPTS = 200


class Puzzle(msgspec.Struct, frozen=True, kw_only=True):
    """A puzzle and its solution; ``bank`` holds all tiles in the order that they are shown in."""

    level: Level
    seed: int
    index: int
    words: tuple[Word, ...]
    red_herrings: tuple[str, ...]
    bank: tuple[str, ...]
    overlap: float

    @property
    def puzzle_id(self) -> str:
        return f"syllo_l{self.level.number:02d}_s{self.seed}_{self.index:05d}"


def make(level: int, seed: int, index: int) -> Puzzle:
    """The puzzle of this level (from 1), seed and index.

    Raises:
        ValueError: there is no such level.
    """
    if not 1 <= level <= len(LEVELS):
        raise ValueError(f"there is no level {level}: they count from 1 to {len(LEVELS)}")
    asked = LEVELS[level - 1]
    draws = Draws("syllo", level, seed, index)
    for _ in range(_ATTEMPTS):
        chosen = _words(asked, draws)
        tiles = [tile for word in chosen for tile in word.syllables]
        if overlap(chosen) > asked.max_overlap or any(_ways(word, set(tiles)) > 1 for word in chosen):
            continue
        herrings = _red_herrings(chosen, tiles, asked.red_herrings, draws)
        if len(herrings) == asked.red_herrings:
            return Puzzle(level=asked, seed=seed, index=index, words=tuple(chosen), red_herrings=tuple(herrings),
                          bank=tuple(draws.shuffled([*tiles, *herrings])), overlap=round(overlap(chosen), 4))
    raise AssertionError(f"the word list is too small for level {level}")  # the tests make some of each


@functools.cache
def pool(level: Level) -> tuple[Word, ...]:
    """The words that a puzzle of this level may have."""
    return tuple(word for word in words.all_words() if word.zipf >= level.min_zipf
                 and level.fewest_syllables <= len(word.syllables) <= level.most_syllables)


def overlap(chosen: Sequence[Word]) -> float:
    """The share of the words' tiles whose syllable more than one of them has."""
    having = Counter(tile for word in chosen for tile in set(word.syllables))
    return sum(having[tile] > 1 for word in chosen for tile in word.syllables) / sum(
        len(word.syllables) for word in chosen)


def _words(level: Level, draws: Draws) -> list[Word]:
    there = pool(level)
    chosen = [draws.pick(there)]
    while len(chosen) < level.word_count:
        candidates = [word for word in draws.sample(there, _CANDIDATES) if word not in chosen]
        shares = [overlap([*chosen, word]) for word in candidates]
        fitting = [share for share in shares if share <= level.max_overlap]
        wanted = max(fitting) if fitting else min(shares)
        chosen.append(candidates[shares.index(wanted)])
    return draws.shuffled(chosen)


def _red_herrings(chosen: Sequence[Word], tiles: Sequence[str], count: int, draws: Draws) -> list[str]:
    """So many tiles that belong to no word and help to make none; fewer where there are not so many."""
    if not count:
        return []
    lengths = {len(word.syllables) for word in chosen}
    bank, found = Counter(tiles), list[str]()
    for tile in draws.shuffled(words.by_syllable()):
        if tile in bank:
            continue
        bank[tile] += 1
        makes_another = any(len(word.syllables) in lengths and Counter(word.syllables) <= bank
                            for word in words.by_syllable()[tile])
        if makes_another or any(_ways(word, bank) > 1 for word in chosen):
            del bank[tile]
            continue
        found.append(tile)
        if len(found) == count:
            break
    return found


def _ways(word: Word, tiles: Collection[str]) -> int:
    """In how many ways the word is laid with as many tiles as it has syllables, were there enough of each tile."""
    text, length = word.word, len(word.syllables)
    # ways[place][n]: the first `place` letters with n tiles.
    ways = [[0] * (length + 1) for _ in range(len(text) + 1)]
    ways[0][0] = 1
    for start in range(len(text)):
        for tile in tiles if any(ways[start]) else ():
            if text.startswith(tile, start):
                for used in range(length):
                    ways[start + len(tile)][used + 1] += ways[start][used]
    return ways[len(text)][length]
