"""At which level a generator works, and which one is next: scores in, moves out."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainq import curriculum
from trainq.curriculum import Ladder, LevelScore, Standing
from trainq.significance import score_interval

LADDER = Ladder()
START = Standing(generator="syllo", levels=10, level=3)


def scored(right: int, n: int = 100, *, level: int = 3, weights: str = "w1", **changes: Any) -> LevelScore:
    low, high = score_interval(right / n, n)
    fields: dict[str, Any] = {
        "generator": "syllo", "suite": f"syllo-{level}", "suite_digest": f"digest-{level}", "score": right / n,
        "low": low, "high": high, "confidence": 0.95, "checkpoint": f"checkpoint-{weights}",
        "evaluation_key": f"key-{weights}-{level}", **changes}
    return LevelScore(level=level, n=n, weights_digest=weights, **fields)


def test_a_level_is_mastered_when_the_lower_end_passes() -> None:
    # 88 of 100: the lower end is 0.802; 87: 0.790.
    up = curriculum.judge(START, scored(88), LADDER)
    assert up.move is not None
    assert (up.move.from_level, up.move.to_level, up.standing.level) == (3, 4, 4)
    assert (up.move.score, up.move.ladder) == (scored(88), LADDER)
    assert up.reason == "0.880 on 100 problems of level 3, 95 % between 0.802 and 0.930: mastered"
    kept = curriculum.judge(START, scored(87), LADDER)
    assert (kept.move, kept.standing.level) == (None, 3)
    assert kept.reason.endswith("not surely above 0.8")


def test_at_the_highest_level_it_stays() -> None:
    top = Standing(generator="syllo", levels=3, level=3)
    assert curriculum.judge(top, scored(100), LADDER).reason.endswith("mastered, and there is no higher level")


def test_the_level_below_that_is_lost_takes_it_down_and_the_present_one_that_is_hard_does_not() -> None:
    assert curriculum.judge(START, scored(0), LADDER).move is None
    down = curriculum.judge(START, scored(60, level=2), LADDER)
    assert down.move is not None
    assert (down.move.from_level, down.move.to_level) == (3, 2)
    assert down.reason.endswith("surely under 0.7, it is not mastered any more")
    # 61 of 100: the upper end is 0.69983; 62: 0.7091.
    assert curriculum.judge(START, scored(62, level=2), LADDER).move is None
    first = Standing(generator="syllo", levels=10, level=1)
    assert curriculum.judge(first, scored(0, level=1), LADDER).move is None
    assert curriculum.judge(first, scored(0, level=0), LADDER).move is None


@pytest.mark.parametrize(("change", "reason"), [
    ({"n": 5, "right": 5}, "5 problems say nothing, 100 are the least"),
    ({"n": 99, "right": 99}, "99 problems say nothing"),
    ({"level": 4}, "level 4 is neither the present one, 3, nor the one below"),
    ({"level": 1}, "level 1 is neither"),
    ({"generator": "arithmetic"}, "it is of arithmetic"),
    ({"marks": ("a batch was left out",)}, "is marked: a batch was left out"),
    ({"confidence": 0.5}, "an interval at 0.5 is not one at 0.95"),
    ({"low": math.nan}, "no score with its interval"), ({"score": 1.7}, "no score with its interval"),
    ({"low": 1.0}, "no score with its interval")])
def test_what_says_nothing_is_forgotten(change: dict[str, Any], reason: str) -> None:
    judged = curriculum.judge(START, scored(change.pop("right", 95), **change), LADDER)
    assert (judged.move, judged.standing) == (None, START)
    assert reason in judged.reason


def test_a_redraw_moves_nothing() -> None:
    unlucky = curriculum.judge(START, scored(85), LADDER).standing
    # Lucky with another seed, under another name, with other decoding, on other problems: the weights are the same.
    for again in (scored(95), scored(95, evaluation_key="other"), scored(95, checkpoint="g000009", suite="other"),
                  scored(95, suite_digest="other"), scored(950, n=1000)):
        judged = curriculum.judge(unlucky, again, LADDER)
        assert (judged.move, judged.standing) == (None, unlucky)
        assert "was judged on level 3 before" in judged.reason
    assert curriculum.judge(unlucky, scored(95, weights="w2"), LADDER).standing.level == 4


def test_weights_move_a_generator_once() -> None:
    up = curriculum.judge(START, scored(99), LADDER).standing
    for right in (99, 99):
        up = curriculum.judge(up, scored(right, level=4), LADDER).standing
        assert up.level == 4
    judged = curriculum.judge(curriculum.judge(START, scored(99), LADDER).standing, scored(99, level=4), LADDER)
    assert judged.reason == "checkpoint-w1 has moved syllo already"
    assert curriculum.judge(up, scored(99, level=4, weights="w2"), LADDER).standing.level == 5


def test_other_problems_are_a_new_beginning() -> None:
    standing = curriculum.judge(START, scored(50), LADDER).standing
    new = curriculum.judge(standing, scored(99, weights="w2", suite_digest="other"), LADDER)
    assert (new.move, new.standing.suites[0].suite_digest) == (None, "other")
    assert "a new beginning" in new.reason
    assert curriculum.judge(new.standing, scored(99, weights="w2", suite_digest="other"), LADDER).move is None
    assert curriculum.judge(new.standing, scored(99, weights="w3", suite_digest="other"), LADDER).move is not None


def test_no_accuracy_makes_it_flap() -> None:
    # 300 checkpoints of the same accuracy on level 3, whatever it is: at most two moves up from it and down to it.
    random = np.random.default_rng(5)
    for accuracy in np.linspace(0.55, 0.95, 9):
        standing, moves = START, 0
        for number in range(300):
            for level in (standing.level, standing.level - 1):
                right = random.binomial(100, {2: 0.95, 3: accuracy, 4: 0.2}[level])
                judged = curriculum.judge(standing, scored(int(right), level=level, weights=str(number)), LADDER)
                standing, moves = judged.standing, moves + (judged.move is not None)
                if judged.move is not None:
                    break
        assert moves <= 2, accuracy


def test_thresholds_that_are_the_wrong_way_round_do_not_let_it_flap() -> None:
    assert curriculum.judge(START, scored(85, level=2), Ladder(up=0.5, down=0.99)).move is None


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 120), st.sampled_from((100, 120)), st.integers(0, 9)),
                max_size=40))
@settings(max_examples=40)
def test_levels_move_by_one_within_their_bounds_and_once_for_the_same_weights(
        events: list[tuple[int, int, int, int]]) -> None:
    standing = Standing(generator="syllo", levels=5, level=2)
    movers: list[str] = []
    for level, right, n, weights in events:
        before = standing.level
        judged = curriculum.judge(standing, scored(min(right, n), n, level=level, weights=str(weights)), LADDER)
        standing = judged.standing
        assert 1 <= standing.level <= 5
        assert abs(standing.level - before) == (judged.move is not None)
        assert judged.reason
        movers += [str(weights)] if judged.move else []
    assert len(movers) == len(set(movers))
    assert msgspec.json.decode(msgspec.json.encode(standing), type=Standing) == standing


def test_what_is_remembered_is_bounded() -> None:
    standing = START
    for number in range(curriculum.MOST_JUDGED + 50):
        standing = curriculum.judge(standing, scored(50, weights=str(number)), LADDER).standing
    assert len(standing.judged) == curriculum.MOST_JUDGED


def test_shares_go_by_what_is_left_to_learn_and_none_is_under_the_floor() -> None:
    found = curriculum.shares({"syllo": 0.2, "arithmetic": 0.8, "new": None, "mastered": 1.0}, 0.1)
    assert found == {"syllo": pytest.approx(0.1 + 0.6 * 0.4), "arithmetic": pytest.approx(0.1 + 0.6 * 0.1),
                     "new": pytest.approx(0.1 + 0.6 * 0.5), "mastered": pytest.approx(0.1)}
    assert curriculum.shares({"one": 1.0, "two": 1.0}, 0.1) == {"one": 0.5, "two": 0.5}
    assert curriculum.shares({"one": 0.3, "two": 0.9}, 0.9) == {"one": 0.5, "two": 0.5}
    assert curriculum.shares({"one": 0.3}, 0.1) == {"one": 1.0}
    assert curriculum.shares({}, 0.1) == {}


def test_the_next_one_is_the_one_that_lacks_most_and_the_past_alone_decides() -> None:
    wanted = {"syllo": 0.6, "arithmetic": 0.3, "new": 0.1}
    past: list[str] = []
    for _ in range(40):
        past.append(curriculum.next_generator(wanted, past))
    assert past[:4] == ["syllo", "arithmetic", "new", "syllo"]
    assert Counter(past[-20:]) == {"syllo": 12, "arithmetic": 6, "new": 2}
    assert curriculum.next_generator(wanted, past[-25:]) == curriculum.next_generator(wanted, past)


@given(st.lists(st.floats(0, 1) | st.none(), min_size=1, max_size=30), st.floats(0, 0.2),
       st.lists(st.integers(0, 40), max_size=40))
@settings(max_examples=40, deadline=None)
def test_nobody_starves(scores: list[float | None], floor: float, before: list[int]) -> None:
    wanted = curriculum.shares({f"g{number}": score for number, score in enumerate(scores)}, floor)
    assert sum(wanted.values()) == pytest.approx(1)
    assert min(wanted.values()) >= min(floor, 1 / len(scores)) - 1e-9
    past = [f"g{number}" for number in before]
    window = max(curriculum.WINDOW, 2 * len(wanted))
    for _ in range(window + 2 * len(wanted)):
        past.append(curriculum.next_generator(wanted, past))
    for start in range(len(before), len(past) - window - len(wanted) + 1):
        assert set(wanted) <= set(past[start:start + window + len(wanted)])


def test_old_successes_do_not_count_for_ever() -> None:
    # A generator that was all there was for long is not kept waiting by it, nor are those that no one wants any more.
    wanted = {"old": 0.5, "new": 0.5}
    past = ["old"] * 500 + ["gone"] * 10
    following: list[str] = []
    for _ in range(40):
        following.append(curriculum.next_generator(wanted, [*past, *following]))
    assert following[0] == "new"
    assert abs(following[-20:].count("old") - 10) <= 1
