"""What scores mean: in the words of the journal, with nothing lost between the decision and the record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.evaluator import verdicts
from services.evaluator.verdicts import Level, Subject
from trainq import messages, promoting
from trainq.config import CurriculumSettings, PromotionSettings
from trainq.errors import UsageError
from trainq.evaluations import EvaluationFacts, EvaluationReport, Method, SuiteScore
from trainq.jobs import ChampionMove, ChampionView, JudgedLevel, LevelView
from trainq.messages import EvaluationFindings, Learning, TaskResult
from trainq.promoting import Comparison, Difference, Score

FIRST, SECOND = "g000002-s00000020", "g000003-s00000030"
WEIGHTS, OTHERS = "c" * 64, "d" * 64
KNOWN = Learning(champion=None, previous="", judgement=None, proposal="", levels=(), level_suites={}, judged=(),
                 locks={}, checkpoint=SECOND, trained=3)
CHAMPION = ChampionView(seq=9, checkpoint=FIRST, before="", how=ChampionMove.FIRST, reason="r", by="evaluate-1", at=1.0)
LEVEL = Level("arithmetic", 1, 10, 1)


def score_of(mean: float, *, n: int = 400, digest: str = "a" * 64) -> Score:
    return Score(evaluation_key="e" * 64, suite_digest=digest, rows_digest="f" * 64, n=n, mean=mean, low=mean - 0.01,
                 high=mean + 0.01, confidence=0.95)


def scored(suite: str = "held-out", mean: float = 2.0, *, kind: Any = "loss", gain: float | None = None,
           limit: float | None = None, low: float | None = None, high: float | None = None) -> SuiteScore:
    """A score; with a ``gain`` of the challenger's beside the champion."""
    score = score_of(mean)
    facts = EvaluationFacts(
        key="e" * 64, suite=suite, suite_digest="a" * 64, kind=kind, checkpoint=SECOND, weights_digest=WEIGHTS,
        method=Method(rules=1, batch_rows=8, device="cpu"), n=400, mean=mean, low=mean - 0.01 if low is None else low,
        high=mean + 0.01 if high is None else high, confidence=0.95, seed=0, left_out=3, tokens=9, seconds=1.0,
        created_at=1.0, created_by="test", truncated=5, credit=0.25)
    comparison = None
    if gain is not None:
        p_better, p_worse = (1e-9, 1.0) if gain > 0 else (1.0, 1e-9)
        comparison = Comparison(
            suite=suite, kind=kind, champion=score_of(mean + gain), challenger=score, difference=Difference(
                n=400, mean=gain, deviation=0.1, deviation_high=0.1, low=gain - 0.001, high=gain + 0.001,
                confidence=0.95, noise=0.0, p_better=p_better, p_worse=p_worse, method="paired"))
    return SuiteScore(facts=facts, score=score, was_known=False, limit=limit, comparison=comparison)


def champion_of(known: Learning) -> str:
    return known.champion.checkpoint if known.champion is not None else ""


def findings(*scores: SuiteScore, known: Learning = KNOWN, marks: tuple[str, ...] = (), promotion: Any = None,
             levels: dict[str, Level | None] | None = None, **ladder: Any) -> EvaluationFindings:
    report = EvaluationReport(checkpoint=SECOND, weights_digest=WEIGHTS, scores=list(scores),
                              against_digest=OTHERS if known.champion else "")
    limits = {each.facts.suite: each.limit for each in scores}
    rules = verdicts.rules_of(promotion or PromotionSettings(), limits, "")
    found = verdicts.findings(report, Subject(SECOND, marks), champion_of(known), known,
                              levels or dict.fromkeys(limits), rules, CurriculumSettings(**ladder))
    return msgspec.convert(msgspec.to_builtins(found), EvaluationFindings)


def with_champion(**changes: Any) -> Learning:
    return msgspec.structs.replace(KNOWN, champion=CHAMPION, **changes)


def outcome(found: EvaluationFindings) -> tuple[str, str, bool]:
    assert found.judgement is not None
    return found.judgement.champion, found.judgement.outcome, found.judgement.regressed


def test_where_there_is_no_champion_the_first_that_is_scored_becomes_it() -> None:
    found = findings(scored())
    assert outcome(found) == ("", "first", False)
    assert [(each.suite, each.mean, each.n) for each in found.scores] == [("held-out", 2.0, 400)]
    assert [(each.truncated, each.left_out, each.credit) for each in found.scores] == [(5, 3, 0.25)]
    assert outcome(findings(scored(), marks=("loss_band",))) == ("", "keep", False)
    assert outcome(findings(scored(), promotion=PromotionSettings(mode="ask"))) == ("", "propose", False)


def test_a_better_one_is_promoted_and_the_numbers_are_in_the_record() -> None:
    found = findings(scored(gain=0.2), known=with_champion())
    assert outcome(found) == (FIRST, "promote", False)
    assert found.judgement is not None
    (finding,) = found.judgement.comparisons
    assert finding["comparison"]["difference"]["mean"] == 0.2
    assert "better" in found.judgement.reasons[0]


def test_a_worse_one_is_kept_out_and_said_to_be_worse() -> None:
    assert outcome(findings(scored(gain=-0.2), known=with_champion())) == (FIRST, "keep", True)


def test_what_was_not_scored_lets_nobody_pass() -> None:
    """A suite that decides, or guards, and is missing from the evaluation has shown nothing."""
    assert outcome(findings(scored("mine", gain=0.2), known=with_champion())) == (FIRST, "keep", False)


def test_which_suites_decide_and_which_guard() -> None:
    def rules(limits: dict[str, float | None], *deciding: str) -> list[tuple[str, bool, float | None]]:
        settings = PromotionSettings(suites=deciding or ("held-out",))
        return [(rule.suite, rule.deciding, rule.limit)
                for rule in verdicts.rules_of(settings, limits, "held-out-sums-l02").suites]

    made = {"held-out-sums-l02": None, "guard": 0.1, "watched": None}
    assert rules(made) == [("held-out-sums-l02", True, None), ("guard", False, 0.1)]
    assert rules({"held-out": None, **made})[0] == ("held-out", True, None), "a person's own"
    assert rules(made, "guard") == [("guard", True, 0.1)]
    assert rules(made, "gone") == [("gone", True, None), ("guard", False, 0.1)]


def test_a_guarded_suite_that_may_have_fallen_too_far_keeps_it_out() -> None:
    found = findings(scored(gain=0.2), scored("guard", gain=-0.2, limit=0.1), known=with_champion())
    assert outcome(found)[1] == "keep"
    passed = findings(scored(gain=0.2), scored("guard", gain=-0.001, limit=0.1), known=with_champion())
    assert outcome(passed)[1] == "promote"


def test_many_suites_may_guard_and_too_many_are_refused_with_what_mends_it() -> None:
    def guarded(number: int) -> EvaluationFindings:
        guards = [scored(f"a-suite-that-guards-{at:03d}", gain=-0.00123456789, limit=0.1) for at in range(number)]
        return findings(scored(gain=0.2), *guards, known=with_champion())

    found = guarded(120)
    assert outcome(found)[1] == "promote"
    made = TaskResult(summary="scored", facts=verdicts.facts(found, {}))
    asked = messages.Complete(request_id="r", job="evaluate-1", token=1, result=made, worker="evaluator", session="s")
    heard = messages.decode_request(messages.encode(asked))
    assert isinstance(heard, messages.Complete)
    assert isinstance(heard.result, TaskResult)
    assert msgspec.convert(heard.result.facts["report"], EvaluationFindings) == found
    with pytest.raises(UsageError, match=r"too many suites: the comparisons on the 251 suites .*leave limit out"):
        guarded(250)
    many = [scored(f"a-suite-that-is-only-watched-{at:03d}") for at in range(900)]
    with pytest.raises(UsageError, match=r"too many suites: the scores on 900 suites .*have fewer suites"):
        verdicts.facts(findings(*many), {})


def test_the_champion_is_not_compared_with_itself() -> None:
    champion = msgspec.structs.replace(CHAMPION, checkpoint=SECOND)
    assert findings(scored(), known=msgspec.structs.replace(KNOWN, champion=champion)).judgement is None


def mastered(low: float = 0.9) -> SuiteScore:
    return scored("arithmetic-l01", 0.95, kind="generate", low=low, high=0.99)


def test_a_mastered_level_goes_up_once_for_the_same_weights() -> None:
    levels: dict[str, Level | None] = {"arithmetic-l01": LEVEL, "held-out": None}
    (moved,) = findings(mastered(), levels=levels).levels
    assert (moved.generator, moved.level, moved.before, moved.after, moved.low) == ("arithmetic", 1, 1, 2, 0.9)
    again = msgspec.structs.replace(
        KNOWN, levels=(LevelView(generator="arithmetic", level=2, checkpoint=SECOND, evaluation="e", at=1.0),),
        level_suites={"arithmetic": {1: "a" * 64}},
        judged=(JudgedLevel(generator="arithmetic", level=1, suite_digest="a" * 64, weights=WEIGHTS, moved=True),))
    assert findings(mastered(), known=again, levels=levels).levels == (), "a redraw moves nothing"


@pytest.mark.parametrize(("low", "enabled", "after"), [(0.79, True, [1]), (0.9, False, [])])
def test_what_is_not_surely_mastered_stays_and_nothing_moves_where_it_is_off(low: float, enabled: bool,
                                                                             after: list[int]) -> None:
    found = findings(mastered(low), levels={"arithmetic-l01": LEVEL}, enabled=enabled)
    assert [each.after for each in found.levels] == after


def test_whoever_has_forgotten_a_mastered_level_is_not_promoted_for_what_it_gained_elsewhere() -> None:
    second = LevelView(generator="arithmetic", level=2, checkpoint=FIRST, evaluation="e", at=1.0)
    suites: dict[str, Level | None] = {"held-out": None, "arithmetic-l01": LEVEL}

    def judged(low: float, high: float, known: Learning) -> EvaluationFindings:
        below = scored("arithmetic-l01", (low + high) / 2, kind="generate", low=low, high=high)
        return findings(scored(gain=2.0), below, known=known, levels=suites)

    there = with_champion(levels=(second,))
    found = judged(0.1, 0.3, there)
    assert outcome(found) == (FIRST, "keep", False)
    assert found.judgement is not None
    assert found.judgement.reasons[0].startswith("arithmetic goes back to level 1: 0.200 on 400 problems of level 1")
    assert [(each.before, each.after) for each in found.levels] == [(2, 1)]
    assert outcome(judged(0.5, 0.75, there)) == (FIRST, "promote", False), "it may still be mastered"
    assert outcome(judged(0.1, 0.3, with_champion())) == (FIRST, "promote", False), "it never was"
    assert outcome(judged(0.1, 0.3, msgspec.structs.replace(there, champion=None))) == ("", "first", False)


def test_the_mode_is_one_of_those_that_decide() -> None:
    assert {mode.value for mode in promoting.Mode} == {"auto", "ask", "off"}


def test_nobody_becomes_champion_while_a_suite_is_refused_that_decides_or_guards() -> None:
    for guards, wanted in ((0.1, "keep"), (None, "promote")):
        limits = {"held-out": None, "half": guards}
        rules = verdicts.rules_of(PromotionSettings(), limits, "")
        report = EvaluationReport(checkpoint=SECOND, weights_digest=WEIGHTS, scores=[scored(gain=0.2)],
                                  refused={"half": "it says 0.5"}, against=FIRST, against_digest=OTHERS)
        found = verdicts.findings(report, Subject(SECOND, ()), FIRST, with_champion(), dict.fromkeys(limits), rules,
                                  CurriculumSettings())
        assert outcome(found) == (FIRST, wanted, False)
        assert found.judgement is not None
        assert ("half is refused: it says 0.5" in found.judgement.reasons) is (guards is not None)
        assert verdicts.summary(SECOND, found, report.refused).startswith(f"{SECOND} is scored on 1 suite; {wanted}: ")
        assert verdicts.summary(SECOND, found, report.refused).endswith("half is refused: it says 0.5")


def test_a_champion_that_is_gone_hinders_no_score_and_is_said_to_be_gone() -> None:
    rules = verdicts.rules_of(PromotionSettings(), {"held-out": None}, "")
    report = EvaluationReport(checkpoint=SECOND, weights_digest=WEIGHTS, scores=[scored()])
    found = verdicts.findings(report, Subject(SECOND, ()), FIRST, with_champion(), {"held-out": None}, rules,
                              CurriculumSettings())
    assert outcome(found) == (FIRST, "keep", False)
    assert found.judgement is not None
    assert "trainq promote makes another one champion" in found.judgement.reasons[-1]


def test_it_is_judged_beside_whom_it_was_compared_with_whoever_is_champion_by_now() -> None:
    report = EvaluationReport(checkpoint=SECOND, weights_digest=WEIGHTS, scores=[scored(gain=0.2)], against=FIRST,
                              against_digest=OTHERS)
    rules = verdicts.rules_of(PromotionSettings(), {"held-out": None}, "")
    other = msgspec.structs.replace(CHAMPION, checkpoint="g000009-s00000090")
    known = msgspec.structs.replace(KNOWN, champion=other)
    found = verdicts.findings(report, Subject(SECOND, ()), FIRST, known, {"held-out": None}, rules,
                              CurriculumSettings())
    assert outcome(found)[0] == FIRST
    partly = verdicts.findings(report, Subject(SECOND, ()), None, known, {"held-out": None}, rules,
                               CurriculumSettings())
    assert partly.judgement is None, "of some suites nothing is decided"


def test_where_nothing_can_decide_the_first_reason_says_why() -> None:
    report = EvaluationReport(checkpoint=SECOND, weights_digest=WEIGHTS, scores=[scored("mine")])

    def reasons(known: Learning, *deciding: str) -> tuple[str, ...]:
        rules = verdicts.rules_of(PromotionSettings(suites=deciding), {"mine": None}, "")
        found = verdicts.findings(report, Subject(SECOND, ()), champion_of(known), known, {"mine": None}, rules,
                                  CurriculumSettings(), "nothing can decide: because")
        assert found.judgement is not None
        return found.judgement.reasons

    assert reasons(KNOWN, "held-out") == ("nothing can decide: because", "it was not scored on held-out")
    assert reasons(with_champion(), "held-out")[0] == "nothing can decide: because"
    assert reasons(KNOWN, "mine") == ("there was no champion",)
