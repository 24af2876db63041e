"""Chance out of a seed: the same for ever, even, and one stream apart from another."""

from collections import Counter

import pytest
from blake3 import blake3

from trainq.draws import Draws


def test_the_same_words_give_the_same_draws_for_ever() -> None:
    draws = Draws("level", 3, 17)
    assert [draws.below(1000) for _ in range(6)] == [724, 492, 28, 697, 847, 271]
    assert Draws("level", 3, 17).shuffled("abcdefgh") == ["e", "f", "c", "b", "h", "a", "d", "g"]
    stream = blake3(b"5:level1:32:17").digest(length=2048)
    draws = Draws("level", 3, 17)
    assert [draws.below(2**64) for _ in range(256)] == [
        int.from_bytes(stream[at:at + 8], "big") for at in range(0, 2048, 8)]


def test_words_that_read_alike_when_joined_are_two_streams() -> None:
    assert Draws("ab", "c").below(2**64) != Draws("a", "bc").below(2**64)
    assert Draws(12, 3).below(2**64) != Draws(1, 23).below(2**64)


def test_every_number_comes_about_as_often() -> None:
    draws = Draws("even")
    seen = Counter(draws.below(6) for _ in range(6000))
    assert sorted(seen) == [0, 1, 2, 3, 4, 5]
    # A count has a standard deviation of 29 about 1000.
    assert all(850 < count < 1150 for count in seen.values())


def test_both_ends_are_drawn_and_nothing_beyond() -> None:
    draws = Draws("ends")
    assert {draws.between(-1, 1) for _ in range(100)} == {-1, 0, 1}
    assert Draws("ends").below(1) == 0
    assert 0 <= Draws("ends").below(2**64) < 2**64


@pytest.mark.parametrize("end", [0, -1, 2**64 + 1])
def test_what_cannot_be_drawn_is_refused(end: int) -> None:
    with pytest.raises(ValueError, match="no draw below"):
        Draws("none").below(end)


def test_a_shuffle_keeps_all_and_a_sample_takes_each_place_once() -> None:
    things = ["a", "a", "b", "c"]
    draws = Draws("shuffle")
    assert sorted(draws.shuffled(things)) == things
    assert sorted(draws.sample(things, 9)) == things
    assert len(draws.sample(range(100), 10)) == len(set(draws.sample(range(100), 10))) == 10
    assert things == ["a", "a", "b", "c"]
    assert draws.pick(things) in things
    orders = Counter("".join(draws.shuffled("abc")) for _ in range(1200))
    assert len(orders) == 6
    assert all(140 < count < 260 for count in orders.values())
