"""Answers are judged by the question alone: right ones are exact, and nothing else is, whatever it looks like."""

import copy
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainq.syllo import puzzles, texts
from trainq.syllo.checking import MAX_CHARACTERS, MOST_WITHOUT_CONTRACT, check, words_of

PUZZLE = puzzles.make(4, 11, 0)  # six words, two red herrings
QUESTION, ANSWER = texts.question(PUZZLE), texts.answer(PUZZLE)
WORDS = len(PUZZLE.words)

# A puzzle of the system before this one: its clues are not in the list.
OLDER = """SYLLO Puzzle syllo_train_00001
Solve it.
Word slots:
1. ___ ___ — when snow falls, of the four
2. ___ ___ ___ — what Clio is the muse of
3. ___ ___ — it burns down on the altar
Note: one red herring.
Syllable bank (shuffled):
ter | his | can | win | dle | to | mo | ry
Output contract:
- JSON
"""
OLDER_ANSWER = {
    "solutions": [{"ans_num": 1, "syllables": ["win", "ter"], "answer": "WINTER"},
                  {"ans_num": 2, "syllables": ["his", "to", "ry"], "answer": "HISTORY"},
                  {"ans_num": 3, "syllables": ["can", "dle"], "answer": "CANDLE"}],
    "inventory_check": {
        "total_tiles": 8, "usage": {"ter": 1, "his": 1, "can": 1, "win": 1, "dle": 1, "to": 1, "mo": 1, "ry": 1},
        "used": {"win": 1, "ter": 1, "his": 1, "to": 1, "ry": 1, "can": 1, "dle": 1}, "unused_tiles": ["mo"],
        "status": "All target words completed; red herrings unused: mo."},
}


@pytest.mark.parametrize("level", range(1, 11))
def test_the_reference_of_every_level_is_exact(level: int) -> None:
    for seed in range(4):
        puzzle = puzzles.make(level, seed, 7)
        verdict = check(texts.question(puzzle), texts.answer(puzzle))
        assert verdict.faults == ()
        assert verdict.exact
        assert verdict.credit == 1.0


def test_the_answer_to_another_puzzle_is_worth_about_nothing() -> None:
    made = [puzzles.make(5, 2, index) for index in range(20)]
    verdicts = [check(texts.question(one), texts.answer(other)) for one in made for other in made if one is not other]
    assert not any(verdict.exact for verdict in verdicts)
    assert sum(verdict.credit for verdict in verdicts) / len(verdicts) < 0.02


def changed(change: Callable[[Any], object]) -> str:
    answer = copy.deepcopy(orjson.loads(ANSWER))
    change(answer)
    return orjson.dumps(answer).decode()


Change = Callable[[Any], object]


@pytest.mark.parametrize("change", [
    lambda a: a["solutions"].reverse(),
    lambda a: a["solutions"][0].update(answer=a["solutions"][0]["answer"].lower()),
    lambda a: a["solutions"][0]["syllables"].reverse(),
    lambda a: a["solutions"][0].update(syllables=[a["solutions"][0]["answer"].lower()]),
    lambda a: a["solutions"][0].update(syllables="no list"),
    lambda a: a["solutions"][0].update(syllables=[1, None]),
    lambda a: a["solutions"][0].update(why="because"),
    lambda a: a["solutions"].append({"ans_num": 99, "syllables": [], "answer": "X"}),
    lambda a: a["solutions"].append("more"),
    lambda a: a.update(analysis={}),
    lambda a: a.pop("inventory_check"),
    lambda a: a.update(inventory_check=[]),
    lambda a: a["inventory_check"].pop("status"),
    lambda a: a["inventory_check"].update(status="  "),
    lambda a: a["inventory_check"].update(total_tiles=a["inventory_check"]["total_tiles"] + 1),
    lambda a: a["inventory_check"].update(total_tiles=float(a["inventory_check"]["total_tiles"])),
    lambda a: a["inventory_check"]["usage"].popitem(),
    lambda a: a["inventory_check"]["used"].update(zzz=0),
    lambda a: a["inventory_check"]["used"].update({next(iter(a["inventory_check"]["used"])): True}),
    lambda a: a["inventory_check"].update(used=[]),
    lambda a: a["inventory_check"]["unused_tiles"].pop(),
    lambda a: a["inventory_check"].update(unused_tiles=["zz", 4]),
    lambda a: a["inventory_check"].update(unused_tiles="none"),
])
def test_all_words_right_and_the_contract_broken_has_most_of_the_credit(change: Change) -> None:
    verdict = check(QUESTION, changed(change))
    assert not verdict.exact
    assert verdict.faults
    assert verdict.credit == pytest.approx(MOST_WITHOUT_CONTRACT)


@pytest.mark.parametrize("change", [
    lambda a: a["solutions"].pop(),
    lambda a: a["solutions"].append(a["solutions"][0]),
    lambda a: a["solutions"].append({**a["solutions"][0], "answer": "ANOTHER"}),
    lambda a: a["solutions"][2].update(answer="PLAUSIBLE", syllables=["plau", "si", "ble"]),
    lambda a: a["solutions"][2].update(answer=7),
    lambda a: a["solutions"][2].pop("answer"),
    lambda a: a["solutions"][2].update(ans_num=True),
    lambda a: a["solutions"][2].update(ans_num=3.0),
    lambda a: a["solutions"][2].pop("ans_num"),
])
def test_a_slot_that_is_wrong_missing_or_guessed_twice_has_no_credit(change: Change) -> None:
    verdict = check(QUESTION, changed(change))
    assert not verdict.exact
    assert verdict.credit == pytest.approx(MOST_WITHOUT_CONTRACT * (WORDS - 1) / WORDS)


@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here it is: {}", "{} Done.", "{{}} then {}", "{{'a': 1}} {}"])
def test_words_around_the_object_break_the_contract_and_no_more(around: str) -> None:
    verdict = check(QUESTION, around.replace("{{", "\0").replace("}}", "\1").replace("{}", ANSWER)
                    .replace("\0", "{").replace("\1", "}"))
    assert verdict.faults == ("there is something around the JSON object",)
    assert verdict.credit == pytest.approx(MOST_WITHOUT_CONTRACT)


def test_white_space_around_it_is_nothing() -> None:
    assert check(QUESTION, f"\n {ANSWER}\n").exact


def test_a_key_that_comes_twice_is_no_answer() -> None:
    """Readers differ in which of the two counts: the one that is looked at here must not be the one that suits."""
    assert check(QUESTION, f'{{"solutions": [], {ANSWER[1:]}').credit == 0


@pytest.mark.parametrize("answer", [
    "", "WINTER", "{", "[]", "null", '{"solutions": {}}', '{"solutions": NaN}', '{"solutions": 1e999, "x": Infinity}',
    "[" * 30_000, '{"solutions": ' + "[" * 30_000, '{"a":' * 6_000, "{" * 30_000, '{"solutions": ' + "9" * 30_000 + "}",
    "x" * (MAX_CHARACTERS + 1), '{"solutions": "\\ud800"}', "\ud800{", '{"solutions": []}'])
def test_what_is_no_answer_is_worth_nothing_and_told_in_no_time(answer: str) -> None:
    start = time.monotonic()
    verdict = check(QUESTION, answer)
    assert verdict.credit == 0
    assert not verdict.exact
    assert verdict.faults
    assert time.monotonic() - start < 2


def test_clues_that_the_list_does_not_know_are_judged_by_structure() -> None:
    right = check(OLDER, orjson.dumps(OLDER_ANSWER).decode())
    assert (right.exact, right.unknown, check(QUESTION, ANSWER).unknown) == (True, (1, 2, 3), ())
    assert check(OLDER, "").unknown == (1, 2, 3)
    answer = copy.deepcopy(OLDER_ANSWER)
    solutions: Any = answer["solutions"]
    solutions[0].update(syllables=["mo", "ter"], answer="MOTER")  # as good as any, for who does not know the clue
    solutions[1].update(syllables=["his", "to"], answer="HISTO")
    solutions[2].update(syllables=["can", "dor"], answer="CANDOR")
    given = orjson.dumps(answer).decode()
    assert check(OLDER, given).credit == pytest.approx(MOST_WITHOUT_CONTRACT / 3)
    # Who knows a word has it demanded.
    known = check(OLDER, given, {1: "winter"})
    assert (known.credit, known.unknown) == (0.0, (2, 3))
    assert "slot 1: 'MOTER' is not the word that is known of the slot" in known.faults
    assert check(OLDER, orjson.dumps(OLDER_ANSWER).decode(), words_of(given)).credit == 0.0


@pytest.mark.parametrize(("answer", "found"), [
    (orjson.dumps(OLDER_ANSWER).decode(), {1: "WINTER", 2: "HISTORY", 3: "CANDLE"}),
    ('{"solutions": [{"ans_num": 1, "answer": "A"}, {"ans_num": 1, "answer": "B"}]}', {}),
    ('{"solutions": [{"ans_num": 2, "answer": 3}, 7]}', {}),
    ('{"solutions": [{"ans_num": true, "answer": "A"}]}', {}), ('{"solutions": {}}', {}), ("", {}),
    ("x" * (MAX_CHARACTERS + 1), {})])
def test_the_words_of_an_answer_are_those_that_it_says_once(answer: str, found: dict[int, str]) -> None:
    assert words_of(answer) == found


def test_a_tile_is_used_once_for_each_time_that_it_is_in_the_bank() -> None:
    answer = copy.deepcopy(OLDER_ANSWER)
    solutions: Any = answer["solutions"]
    solutions[0].update(syllables=["win", "win"], answer="WINWIN")
    faults = check(OLDER, orjson.dumps(answer).decode()).faults
    assert "the tile 'win' is used 2 times, and is in the bank 1 times" in faults


def test_a_question_that_is_none_says_so() -> None:
    verdict = check("What is 3 + 4?", ANSWER)
    assert verdict.credit == 0
    assert verdict.faults == ("the question is no SYLLO puzzle: it has no line 'Word slots:'",)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 40) | st.floats() | st.sampled_from(["win", "WINTER", "", "to"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["solutions", "ans_num", "syllables", "answer", "inventory_check", "used", "usage", "unused_tiles"]), inner,
        max_size=4), max_leaves=12)


@settings(max_examples=30, deadline=None)
@given(question=st.sampled_from([QUESTION, OLDER, "", "Word slots:"]) | st.text(max_size=60),
       answer=st.text(max_size=80) | st.fixed_dictionaries(
           {"solutions": st.lists(_JSON | st.fixed_dictionaries({"ans_num": st.integers(0, 4), "answer": _JSON,
                                                                 "syllables": _JSON}), max_size=4)},
           optional={"inventory_check": _JSON}).map(lambda thing: orjson.dumps(thing).decode()))
def test_no_text_makes_it_raise(question: str, answer: str) -> None:
    verdict = check(question, answer)
    assert 0 <= verdict.credit <= 1
    assert verdict.exact == (verdict.credit == 1) == (not verdict.faults)
    assert "\n".join(verdict.faults).encode()


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, len(ANSWER) - 1), what=st.sampled_from(["", "x", '"', "{", "]", "1", "\0", "é"]))
def test_no_change_of_a_character_stays_exact_but_in_the_status(at: int, what: str) -> None:
    answer = ANSWER[:at] + what + ANSWER[at + 1:]
    verdict = check(QUESTION, answer)
    in_status = at >= ANSWER.index('"status"') + len('"status":"')
    assert in_status or answer == ANSWER or not verdict.exact
