"""Whether the champion moves: comparisons in, verdicts with reasons out."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainq import promoting
from trainq.promoting import Action, Candidate, Comparison, Difference, Mode, Rules, Score, SuiteRule

CHAMPION = Candidate(checkpoint="g000001-s00000100", weights_digest="a")
CHALLENGER = Candidate(checkpoint="g000002-s00000200", weights_digest="b")
SCORE = Score(evaluation_key="k", suite_digest="d", rows_digest="r", n=1000, mean=0.5, low=0.47, high=0.53,
              confidence=0.95)
DECIDES = SuiteRule(suite="loss", deciding=True, margin=0.02)
GUARDS = SuiteRule(suite="gsm8k", deciding=False, margin=0.0, limit=0.05)


def compared(suite: str = "loss", mean: float = 0.03, half: float = 0.02, n: int = 1000, **changes: Any) -> Comparison:
    """A gain with its interval; p is small where the interval says so."""
    fields = {"p_better": 1e-4 if mean - half > 0 else 0.3 if mean > 0 else 0.9,
              "p_worse": 1e-4 if mean + half < 0 else 0.3 if mean < 0 else 0.9,
              "noise": 0.0, "low": mean - half, "high": mean + half, **changes}
    difference = Difference(n=n, mean=mean, deviation=0.3, deviation_high=0.33, confidence=0.95, method="m", **fields)
    score = msgspec.structs.replace(SCORE, n=n)
    return Comparison(suite=suite, kind="loss", champion=score, challenger=score, difference=difference)


def rules(*suites: SuiteRule, mode: Mode = Mode.AUTO) -> Rules:
    return Rules(suites=suites or (DECIDES,), mode=mode)


def test_a_significant_gain_above_the_margin_moves_the_champion() -> None:
    verdict = promoting.decide(CHALLENGER, CHAMPION, [compared()], rules())
    assert (verdict.action, verdict.deserves, verdict.first, verdict.regressed) == (Action.PROMOTE, True, False, False)
    assert verdict.reasons == (
        "loss: +0.03 on 1000 rows, 95 % between +0.01 and +0.05: better, p 0.0001, margin 0.02",)
    assert verdict.findings[0].comparison == compared()


@pytest.mark.parametrize(("mode", "action"), [
    (Mode.AUTO, Action.PROMOTE), (Mode.ASK, Action.PROPOSE), (Mode.OFF, Action.KEEP)])
def test_the_mode_says_what_follows(mode: Mode, action: Action) -> None:
    for verdict in (promoting.decide(CHALLENGER, CHAMPION, [compared()], rules(mode=mode)),
                    promoting.decide_first(CHALLENGER, {"loss": SCORE}, rules(mode=mode))):
        assert (verdict.action, verdict.deserves, verdict.mode) == (action, True, mode)
        assert ("promotion is off" in verdict.reasons) == (mode is Mode.OFF)
    kept = promoting.decide(CHALLENGER, CHAMPION, [compared(mean=0.0)], rules(mode=mode))
    assert (kept.action, kept.deserves) == (Action.KEEP, False)


@pytest.mark.parametrize(("change", "reason"), [
    ({"p_better": 0.01}, "not shown to be better, p 0.01 against 0.01"),
    ({"p_better": 0.3, "rows_needed": 4000}, "; 4000 rows would show twice the margin"),
    ({"mean": 0.0199, "half": 0.001}, "better by less than the margin of 0.02"),
    # The margin is never smaller than the noise.
    ({"noise": 0.031}, "better by less than the margin of 0.031"),
    ({"n": 99}, "loss: 99 rows show nothing, 100 are the least"),
    ({"n": 5}, "loss: 5 rows show nothing, 100 are the least"),
    ({"low": math.nan}, "not comparable: a number is none"),
    ({"p_better": math.nan}, "not comparable: a number is none")])
def test_what_is_not_shown_keeps_the_champion(change: dict[str, Any], reason: str) -> None:
    verdict = promoting.decide(CHALLENGER, CHAMPION, [compared(**change)], rules())
    assert (verdict.action, verdict.regressed) == (Action.KEEP, False)
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(("change", "reason"), [
    ({"suite_digest": "other"}, "the suite's digest is another one"), ({"rows_digest": "other"}, "not the same"),
    ({"n": 999}, "not the same"), ({"mean": math.inf}, "a number is none")])
def test_scores_of_other_rows_are_not_compared(change: dict[str, Any], reason: str) -> None:
    other = msgspec.structs.replace(compared(), challenger=msgspec.structs.replace(SCORE, **change))
    verdict = promoting.decide(CHALLENGER, CHAMPION, [other], rules())
    assert verdict.action is Action.KEEP
    assert verdict.reasons[0].startswith("loss: not comparable: ")
    assert reason in verdict.reasons[0]
    nothing = msgspec.structs.replace(compared(), difference=None)
    assert promoting.decide(CHALLENGER, CHAMPION, [nothing], rules()).action is Action.KEEP


def test_a_suite_of_the_rules_that_was_not_compared_is_missed_and_another_one_decides_nothing() -> None:
    verdict = promoting.decide(CHALLENGER, CHAMPION, [compared("other")], rules())
    assert verdict.reasons == ("loss: not compared",)
    missing = promoting.decide(CHALLENGER, CHAMPION, [compared()], rules(DECIDES, GUARDS))
    assert (missing.action, missing.reasons) == (Action.KEEP, ("gsm8k: not compared",))
    alone = promoting.decide(CHALLENGER, CHAMPION, [compared("gsm8k", mean=0.3)], rules(GUARDS))
    assert (alone.action, alone.reasons) == (Action.KEEP, ("no suite decides",))


@pytest.mark.parametrize(("guard", "passes", "says"), [
    ({"mean": 0.0, "half": 0.04}, True, "a fall by the limit of 0.05 is ruled out"),
    ({"mean": -0.01, "half": 0.039}, True, "ruled out"),
    # The same on few rows: nobody knows. A guard is not passed by that.
    ({"mean": -0.01, "half": 0.06}, False, "it may have fallen by 0.07, the limit is 0.05"),
    ({"mean": 0.01, "half": 0.0602}, False, "it may have fallen by 0.0502, the limit is 0.05"),
    ({"mean": 0.0, "half": 0.0, "n": 40}, False, "40 rows show nothing"),
    # The noise may have been in its favour.
    ({"mean": 0.0, "half": 0.04, "noise": 0.015}, False, "it may have fallen by 0.055"),
    # A fall that is significant, but surely within the limit, is what the limit is for.
    ({"mean": -0.02, "half": 0.01}, True, "ruled out"),
    ({"mean": -0.06, "half": 0.005}, False, "it is worse")])
def test_a_guard_is_passed_when_the_fall_is_surely_within_its_limit(guard: dict[str, Any], passes: bool,
                                                                    says: str) -> None:
    verdict = promoting.decide(CHALLENGER, CHAMPION, [compared(), compared("gsm8k", **guard)], rules(DECIDES, GUARDS))
    assert (verdict.action is Action.PROMOTE) == passes
    assert any(reason.startswith("gsm8k: ") and says in reason for reason in verdict.reasons)
    assert verdict.regressed == (says == "it is worse")


def test_a_significant_fall_is_a_regression_whatever_the_mode_and_the_marks() -> None:
    marked = msgspec.structs.replace(CHALLENGER, marks=("a batch was left out",))
    for mode in Mode:
        verdict = promoting.decide(marked, CHAMPION, [compared(mean=-0.05)], rules(mode=mode))
        assert (verdict.action, verdict.regressed) == (Action.KEEP, True)
        assert verdict.reasons[1].endswith("it is worse, p 0.0001")
    assert not promoting.decide(CHALLENGER, CHAMPION, [compared(mean=-0.05, n=50)], rules()).regressed
    assert not promoting.decide(CHALLENGER, CHAMPION, [compared(mean=-0.015, half=0.01)], rules()).regressed


def test_one_suite_that_is_better_does_not_outweigh_another_deciding_one_that_is_worse() -> None:
    other = msgspec.structs.replace(DECIDES, suite="other")
    verdict = promoting.decide(CHALLENGER, CHAMPION, [compared(), compared("other", mean=-0.05)],
                               rules(DECIDES, other))
    assert (verdict.action, verdict.regressed) == (Action.KEEP, True)
    assert [finding.better for finding in verdict.findings] == [True, False]


def test_several_deciding_suites_share_alpha() -> None:
    suites = tuple(msgspec.structs.replace(DECIDES, suite=name) for name in ("one", "two", "three"))
    alone = promoting.decide(CHALLENGER, CHAMPION, [compared("one", p_better=0.005)], rules(suites[0]))
    assert alone.action is Action.PROMOTE
    # The family is the rules', also where the others were not compared.
    for others in ([], [compared("two", mean=0.0), compared("three", mean=0.0)]):
        verdict = promoting.decide(CHALLENGER, CHAMPION, [compared("one", p_better=0.005), *others], rules(*suites))
        assert verdict.action is Action.KEEP
        assert verdict.findings[0].p_better == pytest.approx(0.015)
    assert promoting.decide(CHALLENGER, CHAMPION, [compared("one", p_better=0.003)],
                            rules(*suites)).action is Action.PROMOTE


def test_a_marked_checkpoint_and_the_champion_itself_are_never_promoted() -> None:
    marked = msgspec.structs.replace(CHALLENGER, marks=("a batch was left out",))
    for verdict in (promoting.decide(marked, CHAMPION, [compared()], rules()),
                    promoting.decide_first(marked, {"loss": SCORE}, rules())):
        assert (verdict.action, verdict.reasons) == (
            Action.KEEP, ("g000002-s00000200 is marked: a batch was left out",))
    again = msgspec.structs.replace(CHALLENGER, weights_digest=CHAMPION.weights_digest)
    verdict = promoting.decide(again, CHAMPION, [compared()], rules())
    assert (verdict.action, verdict.reasons) == (Action.KEEP, ("g000002-s00000200 has the champion's weights",))


def test_the_first_that_was_scored_on_every_suite_becomes_champion() -> None:
    few = msgspec.structs.replace(SCORE, n=5)
    verdict = promoting.decide_first(CHALLENGER, {"loss": few, "gsm8k": few}, rules(DECIDES, GUARDS))
    assert (verdict.action, verdict.first, verdict.reasons) == (Action.PROMOTE, True, ("there was no champion",))
    for scored in ({"loss": SCORE}, {"loss": SCORE, "gsm8k": msgspec.structs.replace(SCORE, mean=math.nan)}):
        verdict = promoting.decide_first(CHALLENGER, scored, rules(DECIDES, GUARDS))
        assert (verdict.action, verdict.first) == (Action.KEEP, False)
        assert verdict.reasons == ("it was not scored on gsm8k",)
    assert promoting.decide_first(CHALLENGER, {"gsm8k": SCORE}, rules(GUARDS)).reasons == ("no suite decides",)


def test_holm_is_the_step_down_procedure() -> None:
    # Sorted: 4 * 0.005, 3 * 0.01, then 2 * 0.03, and 0.04 may not be below it.
    assert promoting.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == {
        "d": pytest.approx(0.02), "a": pytest.approx(0.03), "c": pytest.approx(0.06), "b": pytest.approx(0.06)}
    assert promoting.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert promoting.holm({}) == {}


NUMBERS = st.floats(-0.2, 0.2)
COMPARED = st.builds(compared, suite=st.sampled_from(("loss", "gsm8k", "other")), mean=NUMBERS, half=st.floats(0, 0.2),
                     n=st.sampled_from((5, 99, 100, 5000)), noise=st.floats(0, 0.1), p_better=st.floats(0, 1),
                     p_worse=st.floats(0, 0.02))
SUITES = st.lists(st.builds(SuiteRule, suite=st.sampled_from(("loss", "gsm8k", "other")), deciding=st.booleans(),
                            margin=st.floats(0, 0.1), limit=st.none() | st.floats(0, 0.2)),
                  unique_by=lambda rule: rule.suite, max_size=3)


@given(st.lists(COMPARED, unique_by=lambda one: one.suite), SUITES, st.sampled_from(list(Mode)), st.booleans())
@settings(max_examples=60)
def test_whoever_deserves_it_has_fallen_nowhere_and_each_verdict_has_its_reason(
        comparisons: list[Comparison], suites: list[SuiteRule], mode: Mode, is_marked: bool) -> None:
    challenger = msgspec.structs.replace(CHALLENGER, marks=("bad",) if is_marked else ())
    verdict = promoting.decide(challenger, CHAMPION, comparisons, rules(*suites, mode=mode))
    assert verdict.reasons
    assert not (verdict.deserves and (verdict.regressed or is_marked))
    if verdict.deserves:
        assert any(finding.better and finding.p_better < 0.01 for finding in verdict.findings)
        for finding in verdict.findings:
            seen = finding.comparison.difference if finding.comparison else None
            assert not finding.guarded or (seen is not None and seen.n >= 100 and finding.passed)
    else:
        assert verdict.action is Action.KEEP
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=promoting.Verdict) == verdict
