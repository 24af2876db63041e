"""The word list is what it says: checked against a hyphenation library and against the frequencies of words."""

import re

import pyphen
import wordfreq

from trainq.syllo import words

ALL = words.all_words()


def test_there_are_enough_of_every_length_and_each_is_there_once() -> None:
    assert len(ALL) >= 850
    assert [word.word for word in ALL] == sorted({word.word for word in ALL})
    assert {len(word.syllables) for word in ALL} == {2, 3, 4, 5, 6}


def test_syllables_are_lower_case_letters_and_together_the_word() -> None:
    for word in ALL:
        assert "".join(word.syllables) == word.word
        assert all(re.fullmatch("[a-z]+", syllable) for syllable in word.syllables), word


def test_a_clue_is_short_means_one_word_and_does_not_say_it() -> None:
    assert len({word.clue for word in ALL}) == len(ALL) == len(words.by_clue())
    for word in ALL:
        assert 3 <= len(word.clue) <= 60, word
        assert word.clue == word.clue.strip()
        assert word.clue.isascii()
        assert word.word not in re.findall("[a-z]+", word.clue.lower()), word
        # What the format of a puzzle separates with.
        assert "|" not in word.clue


def test_no_break_of_the_hyphenation_library_lies_inside_a_syllable() -> None:
    """Its patterns leave breaks out, of single letters above all; where they have one, it is here, too."""
    library = pyphen.Pyphen(lang="en_US")
    for word in ALL:
        ends = {sum(map(len, word.syllables[:count])) for count in range(len(word.syllables))}
        assert set(library.positions(word.word)) <= ends, (word.syllables, library.inserted(word.word))


def test_the_rarity_is_that_of_wordfreq() -> None:
    for word in ALL:
        assert abs(wordfreq.zipf_frequency(word.word, "en") - word.zipf) < 0.006, word


def test_a_syllable_leads_to_the_words_that_have_it() -> None:
    found = words.by_syllable()
    assert {word.word for word in found["tion"]} == {word.word for word in ALL if "tion" in word.syllables}
    assert words.by_clue()["the coldest season"].syllables == ("win", "ter")
