"""The rules of [guard], by numbers alone."""

from __future__ import annotations

import msgspec
import pytest

from trainq.config import GuardSettings
from trainq.ml import guards
from trainq.ml.guards import (
    LEAST_STEPS,
    OUT_OF_BAND,
    SKIPPED,
    History,
    Judged,
    LeftOut,
    Reaction,
    State,
    after_non_finite,
)
from trainq.ml.metrics import StepMetrics

RULES = GuardSettings(non_finite_in_a_row=3, max_skipped_share=0.5, band_factor=2.0, band_margin=0.5, band_steps=3,
                      spike_factor=10.0, settle_steps=4, window_steps=32)


def react(skipped: set[int], job_step: int, head_step: int = 0, planned: int = 100,
          good: set[int] | None = None) -> tuple[Reaction, list[int]]:
    answer = after_non_finite(RULES, LeftOut(skipped, good or set()), job_step=job_step, head_step=head_step,
                              planned=planned)
    return answer.reaction, list(answer.steps)


def test_the_first_and_the_second_are_left_out_and_the_third_goes_back() -> None:
    assert react(set(), 7, 4) == (Reaction.SKIP, [7])
    assert react({7}, 8, 4) == (Reaction.SKIP, [8])
    assert react({7, 8}, 9, 4) == (Reaction.ROLL_BACK, [4, 5, 6, 7, 8, 9])
    assert react({7, 8}, 10, 4) == (Reaction.SKIP, [10]), "a step went well in between"


def test_a_head_in_the_middle_of_the_row_is_gone_back_to_all_the_same() -> None:
    assert react({7, 8}, 9, 9) == (Reaction.ROLL_BACK, [9])
    assert react({7, 8, 9}, 10, 9)[0] is Reaction.FAIL


def test_behind_a_line_that_was_taken_back_one_is_left_out_and_the_third_in_a_row_fails() -> None:
    back = {7, 8, 9}
    assert react(back, 10, good={4, 5, 6})[0] is Reaction.FAIL, "at once behind it"
    assert react(back, 12, good={4, 5, 6}) == (Reaction.SKIP, [12])
    assert react({*back, 12, 13}, 14, good={4, 5, 6})[0] is Reaction.FAIL
    assert react({12, 13}, 14, good={4})[0] is Reaction.FAIL, "whatever it was taken back for"


def test_of_the_good_ones_so_many_are_left_out_with_a_roll_back_as_the_share_has_room_for() -> None:
    answers = [after_non_finite(RULES, LeftOut({7, 8}), job_step=9, head_step=head, planned=10) for head in (0, 7, 9)]
    assert [answer.reaction for answer in answers] == [Reaction.ROLL_BACK] * 3, "wherever the last checkpoint was"
    assert [list(answer.steps) for answer in answers] == [[5, 6, 7, 8, 9], [7, 8, 9], [9]]
    assert [sorted(answer.good) for answer in answers] == [[5, 6], [], []]
    assert "the last 5 steps are left out, 2 good ones among them" in answers[0].reason
    assert react({1, 7, 8}, 9, 0, 10) == (Reaction.ROLL_BACK, [6, 7, 8, 9]), "one is left out already"
    assert react({0, 2, 4, 6, 8}, 9, 0, 10)[0] is Reaction.FAIL


def test_a_step_that_spoils_the_weights_is_left_out_as_one_of_so_many() -> None:
    answer = guards.after_bad_weights(RULES, LeftOut({5}, {4, 6}), job_step=7, planned=100)
    assert (answer.reaction, list(answer.steps), answer.good) == (Reaction.SKIP, [7], frozenset())
    none = msgspec.structs.replace(RULES, max_skipped_share=0.0)
    every = msgspec.structs.replace(RULES, max_skipped_share=1.0)
    for rules, planned in ((none, 100), (RULES, 3), (every, 2)):
        assert guards.after_bad_weights(rules, LeftOut({0}), job_step=1, planned=planned).reaction is Reaction.FAIL


def test_who_spoils_the_weights_counts_for_the_share_and_is_none_of_the_bad_ones_in_a_row() -> None:
    spoils = LeftOut({5}, frozenset(), {6, 7})
    assert after_non_finite(RULES, spoils, job_step=8, head_step=0, planned=100).reaction is Reaction.SKIP
    assert after_non_finite(RULES, LeftOut({5}, frozenset(), {6, 7}), job_step=8, head_step=0,
                            planned=7).reaction is Reaction.FAIL, "4 of 7"
    row = LeftOut({10, 11}, frozenset(), {5, 6, 7, 9})
    answer = after_non_finite(RULES, row, job_step=12, head_step=8, planned=100)
    assert (answer.reaction, list(answer.steps), sorted(answer.good)) == (
        Reaction.ROLL_BACK, [8, 9, 10, 11, 12], [8]), "it is the first time that the line is taken back"


def test_no_job_ends_with_nothing_trained() -> None:
    every = msgspec.structs.replace(RULES, max_skipped_share=1.0)
    for planned, left_out in ((1, set[int]()), (2, {0})):
        answer = after_non_finite(every, LeftOut(left_out), job_step=len(left_out), head_step=0, planned=planned)
        assert answer.reaction is Reaction.FAIL
    answer = after_non_finite(every, LeftOut({7, 8}), job_step=9, head_step=0, planned=10)
    assert list(answer.steps) == list(range(1, 10))


@pytest.mark.parametrize(("planned", "reaction"), [(1, Reaction.FAIL), (2, Reaction.SKIP), (100, Reaction.SKIP)])
def test_more_than_a_share_of_the_job_fails(planned: int, reaction: Reaction) -> None:
    assert react(set(), 0, 0, planned)[0] is reaction


def test_no_more_are_left_out_than_fit_into_a_message() -> None:
    reaction, steps = react({20_000, 20_001}, 20_002, 0, 10**6)
    assert (reaction, len(steps), steps[-1]) == (Reaction.ROLL_BACK, guards.MOST_SKIPPED, 20_002)
    assert react(set(range(0, 4 * guards.MOST_NOT_FINITE, 4)), 10**5, planned=10**6)[0] is Reaction.FAIL


def test_a_file_with_too_little_to_train() -> None:
    rules = GuardSettings(min_trained_share=0.01)
    assert guards.masking_fault(10, 1000, rules) == ""
    assert "9 of its 1000 tokens" in guards.masking_fault(9, 1000, rules)
    assert guards.masking_fault(0, 1000, GuardSettings(min_trained_share=0.0)) == ""


def step(number: int, loss: float, judged: Judged, norm: float | None = 1.0) -> StepMetrics:
    return StepMetrics(step=number, job_step=number, loss=loss, learning_rate=0.1, grad_norm=norm, tokens=1,
                       trained_tokens=1, seconds=0.1, grad_spike=judged.grad_spike, out_of_band=judged.out_of_band)


def test_nothing_is_said_before_there_are_steps_enough() -> None:
    history = History(RULES, [])
    for _ in range(LEAST_STEPS - 1):
        assert history.judge(1.0, 1.0) == Judged(grad_spike=False, out_of_band=0)
    assert history.judge(100.0, 100.0) == Judged(grad_spike=False, out_of_band=0), "with 15 there is no median yet"
    assert history.judge(100.0, 100.0) == Judged(grad_spike=True, out_of_band=1)


def test_spikes_and_the_band() -> None:
    history = History(RULES, [])
    for _ in range(LEAST_STEPS):
        history.judge(1.0, 1.0)
    assert history.judge(1.0, 10.0) == Judged(grad_spike=False, out_of_band=0), "ten times is not above ten times"
    assert history.judge(1.0, 10.1) == Judged(grad_spike=True, out_of_band=0)
    assert history.judge(2.5, 1.0) == Judged(grad_spike=False, out_of_band=0)
    assert [history.judge(2.6, 1.0).out_of_band for _ in range(12)] == list(range(1, 13)), "it stays out of its band"
    assert history.judge(2.5, 1.0).out_of_band == 0


def test_a_loss_that_stays_high_is_the_lines_level_some_time() -> None:
    history = History(RULES, [])
    for _ in range(LEAST_STEPS):
        history.judge(1.0, 1.0)
    counts = [history.judge(9.0, 1.0).out_of_band for _ in range(60)]
    accepted = guards.ACCEPTED_AFTER * RULES.band_steps
    back = counts.index(0)
    assert counts[:back] == list(range(1, back + 1))
    assert accepted + LEAST_STEPS <= back <= accepted + RULES.window_steps
    assert set(counts[back:]) == {0}
    assert history.judge(19.0, 1.0).out_of_band == 1, "and what leaves that is seen again"


def test_a_history_that_is_read_back_judges_as_the_one_that_went_on() -> None:
    losses = [1.0 + index % 7 / 10 for index in range(60)] + [9.0] * 5 + [1.1] * 3 + [9.0] * 40
    # Of what overflowed in fp16 there is no norm, also in the middle of a whole window.
    norms = [None if index % 3 == 0 else 1.0 + index % 5 + 40 * (index > 50) for index in range(len(losses))]
    whole, lines = History(RULES, []), list[StepMetrics]()
    for number, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        # As from the file, where a number is its shortest text.
        back = [msgspec.json.decode(msgspec.json.encode(line), type=StepMetrics) for line in reversed(lines)]
        judged = whole.judge(loss, norm)
        assert History(RULES, back).judge(loss, norm) == judged, number
        lines.append(step(number, loss, judged, norm))
    assert any(line.grad_spike for line in lines)
    assert max(line.out_of_band for line in lines) > guards.ACCEPTED_AFTER * RULES.band_steps
    assert lines[-1].out_of_band == 0


def test_a_state_is_marked_until_enough_steps_went_well() -> None:
    well = Judged(grad_spike=False, out_of_band=0)
    state = State((), 0).after_skip(10, RULES)
    assert state == State((SKIPPED,), 14)
    assert state.after_step(13, well, RULES).marks == (SKIPPED,)
    assert state.after_step(14, well, RULES) == State((), 0)
    bad = state.after_step(13, Judged(grad_spike=False, out_of_band=3), RULES)
    assert bad == State((SKIPPED, OUT_OF_BAND), 18)
    assert bad.after_step(14, Judged(grad_spike=False, out_of_band=4), RULES).settled_at == 19
    assert State((), 0).after_step(5, Judged(grad_spike=True, out_of_band=2), RULES) == State((), 0)


def test_with_nothing_to_settle_only_the_bad_step_itself_is_marked() -> None:
    rules = msgspec.structs.replace(RULES, settle_steps=0)
    assert State((), 0).after_skip(10, rules) == State((), 0)
    bad = State((), 0).after_step(10, Judged(grad_spike=False, out_of_band=3), rules)
    assert bad.marks == (OUT_OF_BAND,)
    assert bad.after_step(11, Judged(grad_spike=False, out_of_band=0), rules) == State((), 0)
