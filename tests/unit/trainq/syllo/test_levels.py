"""The levels begin and end where they should, and get harder from one to the next."""

from itertools import pairwise

from trainq.syllo import puzzles
from trainq.syllo.levels import COUNT, LEVELS, Level


def test_the_first_and_the_last() -> None:
    assert len(LEVELS) == COUNT == 10
    assert LEVELS[0] == Level(number=1, difficulty="easy", word_count=4, fewest_syllables=2, most_syllables=3,
                              min_zipf=5.5, max_overlap=0.0, red_herrings=0)
    assert LEVELS[-1] == Level(number=10, difficulty="hard", word_count=10, fewest_syllables=4, most_syllables=6,
                               min_zipf=2.0, max_overlap=0.8, red_herrings=6)


def test_no_level_is_easier_than_the_one_before() -> None:
    for lower, upper in pairwise(LEVELS):
        assert upper.number == lower.number + 1
        assert (upper.word_count, upper.fewest_syllables, upper.most_syllables, upper.red_herrings) >= (
            lower.word_count, lower.fewest_syllables, lower.most_syllables, lower.red_herrings)
        assert upper.min_zipf < lower.min_zipf
        assert upper.max_overlap > lower.max_overlap


def test_each_level_has_words_for_very_many_puzzles() -> None:
    for level in LEVELS:
        assert len(puzzles.pool(level)) >= 60, level
