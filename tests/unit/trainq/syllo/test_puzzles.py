"""A puzzle is what its level asks for, has one solution, and is the same whenever it is made."""

from collections import Counter
from collections.abc import Iterator

import pytest

from trainq.syllo import puzzles, words
from trainq.syllo.levels import LEVELS
from trainq.syllo.puzzles import Puzzle

MADE = [puzzles.make(level, seed, 5) for level in range(1, 11) for seed in range(3)]


@pytest.fixture(params=MADE, ids=lambda puzzle: puzzle.puzzle_id)
def puzzle(request: pytest.FixtureRequest) -> Puzzle:
    made: Puzzle = request.param
    return made


def test_it_is_what_its_level_asks_for(puzzle: Puzzle) -> None:
    level = puzzle.level
    assert len(set(puzzle.words)) == level.word_count
    for word in puzzle.words:
        assert level.fewest_syllables <= len(word.syllables) <= level.most_syllables
        assert word.zipf >= level.min_zipf
    assert len(puzzle.red_herrings) == level.red_herrings
    assert 0 <= puzzle.overlap <= level.max_overlap
    tiles = [tile for word in puzzle.words for tile in word.syllables]
    assert Counter(puzzle.bank) == Counter(tiles) + Counter(puzzle.red_herrings)
    shared = [tile for tile in tiles if sum(tile in word.syllables for word in puzzle.words) > 1]
    assert puzzle.overlap == pytest.approx(len(shared) / len(tiles), abs=1e-4)


def laid(text: str, count: int, bank: "Counter[str]") -> Iterator[tuple[str, ...]]:
    """Every way to lay ``text`` with so many tiles of the bank."""
    if not count:
        if not text:
            yield ()
        return
    for tile in [tile for tile, there in bank.items() if there and text.startswith(tile)]:
        for rest in laid(text[len(tile):], count - 1, bank - Counter([tile])):
            yield tile, *rest


def test_each_word_can_be_laid_in_one_way(puzzle: Puzzle) -> None:
    for word in puzzle.words:
        assert set(laid(word.word, len(word.syllables), Counter(puzzle.bank))) == {word.syllables}


def test_a_red_herring_is_in_no_word_and_makes_none_that_fits_a_slot(puzzle: Puzzle) -> None:
    lengths = {len(word.syllables) for word in puzzle.words}
    herrings, bank = set(puzzle.red_herrings), Counter(puzzle.bank)
    assert not any(herrings & set(word.syllables) for word in puzzle.words)
    assert not [word for word in words.all_words() if len(word.syllables) in lengths
                and herrings & set(word.syllables) and Counter(word.syllables) <= bank]


def test_the_same_is_made_again_and_another_seed_or_index_makes_another() -> None:
    one = puzzles.make(7, 123, 4)
    assert puzzles.make(7, 123, 4) == one
    assert one.puzzle_id == "syllo_l07_s123_00004"
    assert {puzzles.make(7, 124, 4).words, puzzles.make(7, 123, 5).words} & {one.words} == set()


def test_the_harder_levels_come_near_to_the_overlap_that_they_allow() -> None:
    for level in LEVELS[2:]:
        overlaps = [puzzles.make(level.number, 1, index).overlap for index in range(8)]
        assert sum(overlaps) / len(overlaps) > level.max_overlap - 0.12, level


@pytest.mark.parametrize("level", [0, 11])
def test_there_is_no_other_level(level: int) -> None:
    with pytest.raises(ValueError, match="no level"):
        puzzles.make(level, 1, 1)
