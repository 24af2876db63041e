"""Verdicts: what the scores of a checkpoint mean, in the words of the journal. Pure: scores in, findings out.

The decisions themselves are :mod:`trainq.promoting`'s and :mod:`trainq.curriculum`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from trainq import curriculum, promoting
from trainq.config import CurriculumSettings, PromotionSettings
from trainq.curriculum import Judged, Ladder, LevelScore, LevelSuite, Standing
from trainq.errors import UsageError
from trainq.evaluations import EvaluationFacts, EvaluationReport, SuiteScore
from trainq.messages import (
    MAX_COMPARISONS_BYTES,
    MAX_REPORT_BYTES,
    EvaluationFindings,
    Judgement,
    Learning,
    LevelVerdict,
    Score,
    check_size,
)
from trainq.promoting import Action, Candidate, Mode, Rules, SuiteRule, Verdict

# The name in [promotion] suites of what the evaluator makes itself.
HELD_OUT = "held-out"
_MOST_REASON_CHARACTERS, _MOST_REASONS = 4096, 100


class Level(NamedTuple):
    """A suite has the fixed problems of this ``level`` of a generator, which has ``levels`` and begins at ``first``."""

    generator: str
    level: int
    levels: int
    first: int


class Subject(NamedTuple):
    """What was scored: a checkpoint, and what is wrong with its state."""

    checkpoint: str
    marks: tuple[str, ...]


def rules_of(settings: PromotionSettings, limits: Mapping[str, float | None], held_out: str) -> Rules:
    """How the champion moves, by the configuration and the suites that there are ({suite: how far it may fall}).

    ``held_out`` is the suite that is meant by ``held-out``, where a person has not made one of that name.

    All of them, whether they were scored or not: what was not scored has not been shown, and lets nobody pass.
    """
    deciding = [held_out if suite == HELD_OUT and suite not in limits and held_out else suite
                for suite in settings.suites]
    guarding = [suite for suite, limit in limits.items() if limit is not None and suite not in deciding]
    return Rules(
        suites=tuple(SuiteRule(suite=suite, deciding=suite in deciding, margin=settings.margin,
                               limit=limits.get(suite)) for suite in dict.fromkeys((*deciding, *guarding))),
        mode=Mode(settings.mode), alpha=settings.alpha, least_rows=settings.min_rows)


def findings(report: EvaluationReport, subject: Subject, champion: str | None, known: Learning,
             levels: Mapping[str, Level | None], rules: Rules, ladder: CurriculumSettings,
             undecided: str = "") -> EvaluationFindings:
    """What the broker is to record.

    Args:
        report: the scores, beside the champion's where there is one.
        subject: what was scored.
        champion: who was champion when the scoring began, with whom it was compared (empty: nobody); None where it is
            not to be judged, because not all suites were scored.
        known: what the journal knows now, with what it knows of these weights.
        levels: the suites that were scored, with the level of those that are of one.
        rules: how the champion moves (:func:`rules_of`).
        ladder: how levels do.
        undecided: why there is no suite that is meant by ``held-out``, if there is none.

    Raises:
        UsageError: so many suites decide or guard that no judgement holds their numbers.
    """
    moves = _levels(report, subject, known, levels, ladder) if ladder.enabled else ()
    forgotten = [f"{move.generator} goes back to level {move.after}: {move.reason}" for move in moves
                 if move.after < move.before]
    return EvaluationFindings(
        weights=report.weights_digest, scores=tuple(_score(each.facts) for each in report.scores), levels=moves,
        judgement=None if champion is None else _judgement(report, subject, champion, rules, forgotten, undecided))


def facts(found: EvaluationFindings, refused: Mapping[str, str]) -> dict[str, Any]:
    """The result of an evaluation for programs; ``refused`` as in :func:`summary`.

    Raises:
        UsageError: there are more suites than a result can tell of.
    """
    told = {"report": msgspec.to_builtins(found), "refused": dict(refused)}
    _refuse_large(told, MAX_REPORT_BYTES, f"the scores on {len(found.scores)} suites", "have fewer suites in suites/")
    return told


def summary(checkpoint: str, found: EvaluationFindings, refused: Mapping[str, str]) -> str:
    """The result of an evaluation in words; ``refused`` says of each suite that was not scored why."""
    said = [f"{checkpoint} is scored on {len(found.scores)} suite{'' if len(found.scores) == 1 else 's'}"]
    if found.judgement is not None:
        said.append(f"{found.judgement.outcome}: {'; '.join(found.judgement.reasons)}")
    said += [f"{suite} is refused: {why}" for suite, why in refused.items()]
    return "; ".join(said)[:_MOST_REASON_CHARACTERS]


def _score(facts: EvaluationFacts) -> Score:
    return Score(suite=facts.suite, suite_digest=facts.suite_digest, kind=facts.kind, scorer=facts.scorer, n=facts.n,
                 mean=facts.mean, low=facts.low, high=facts.high, confidence=facts.confidence, seed=facts.seed,
                 evaluation=facts.key, truncated=facts.truncated, left_out=facts.left_out, credit=facts.credit)


def _judgement(report: EvaluationReport, subject: Subject, champion: str, rules: Rules, forgotten: Sequence[str],
               undecided: str) -> Judgement | None:
    if champion == subject.checkpoint:
        return None
    challenger = Candidate(checkpoint=subject.checkpoint, weights_digest=report.weights_digest, marks=subject.marks)
    if not champion:
        verdict = promoting.decide_first(challenger, {each.facts.suite: each.score for each in report.scores}, rules)
    else:
        compared = [each.comparison for each in report.scores if each.comparison is not None]
        verdict = promoting.decide(
            challenger, Candidate(checkpoint=champion, weights_digest=report.against_digest), compared, rules,
            forgotten)
    # The cause goes before what follows of it: status shows the first reason alone.
    needs_held_out = any(rule.deciding and rule.suite == HELD_OUT for rule in rules.suites)
    reasons = [undecided] if undecided and needs_held_out and not verdict.deserves else []
    reasons += verdict.reasons
    if champion and not report.against_digest:
        reasons.append(f"{champion} is not in checkpoints/ any more, so nothing can be compared with it: "
                       "trainq promote makes another one champion")
    comparisons = tuple(msgspec.to_builtins(finding) for finding in verdict.findings)
    _refuse_large({"comparisons": comparisons}, MAX_COMPARISONS_BYTES,
                  f"the comparisons on the {len(comparisons)} suites that decide or guard",
                  "leave limit out of the suite.toml of those that need not guard")
    needed = {rule.suite for rule in rules.suites}
    reasons += [f"{suite} is refused: {why}" for suite, why in report.refused.items() if suite in needed]
    return Judgement(
        champion=champion, outcome=_outcome(verdict), regressed=verdict.regressed,
        reasons=tuple(reason[:_MOST_REASON_CHARACTERS] for reason in reasons[:_MOST_REASONS]),
        comparisons=comparisons)


def _refuse_large(told: dict[str, Any], limit_bytes: int, what: str, mend: str) -> None:
    try:
        check_size(told, limit_bytes, what)
    except ValueError as error:
        raise UsageError(f"too many suites: {error}", mend=mend) from error


def _outcome(verdict: Verdict) -> str:
    if verdict.first and verdict.action is Action.PROMOTE:
        return "first"
    return verdict.action.value


def _levels(report: EvaluationReport, subject: Subject, known: Learning, levels: Mapping[str, Level | None],
            settings: CurriculumSettings) -> tuple[LevelVerdict, ...]:
    """What each score on a level's problems does; the lower level first, so that a fall is seen before a rise."""
    rules = Ladder(up=settings.up, down=settings.down, least_rows=settings.min_problems)
    standings: dict[str, Standing] = {}
    verdicts: list[LevelVerdict] = []
    for each, of in sorted(_of_levels(report.scores, levels), key=lambda pair: (pair[1].generator, pair[1].level)):
        standing = standings.get(of.generator) or _standing(of, known)
        score = LevelScore(
            generator=of.generator, level=of.level, suite=each.facts.suite, suite_digest=each.facts.suite_digest,
            n=each.facts.n, score=each.facts.mean, low=each.facts.low, high=each.facts.high,
            confidence=each.facts.confidence, checkpoint=subject.checkpoint, weights_digest=report.weights_digest,
            evaluation_key=each.facts.key, marks=subject.marks)
        judged = curriculum.judge(standing, score, rules)
        if judged.standing != standing:
            verdicts.append(LevelVerdict(
                generator=of.generator, level=of.level, before=standing.level, after=judged.standing.level,
                suite=each.facts.suite, suite_digest=each.facts.suite_digest, n=each.facts.n, score=each.facts.mean,
                low=each.facts.low, high=each.facts.high, confidence=each.facts.confidence, evaluation=each.facts.key,
                reason=judged.reason[:_MOST_REASON_CHARACTERS]))
        standings[of.generator] = judged.standing
    return tuple(verdicts)


def _of_levels(scores: Sequence[SuiteScore],
               levels: Mapping[str, Level | None]) -> list[tuple[SuiteScore, Level]]:
    return [(each, of) for each in scores if (of := levels.get(each.facts.suite)) is not None]


def _standing(of: Level, known: Learning) -> Standing:
    """Where a generator is, as the journal has it."""
    level = next((each.level for each in known.levels if each.generator == of.generator), None)
    return Standing(
        generator=of.generator, levels=of.levels, level=level if level is not None else of.first,
        suites=tuple(LevelSuite(level=number, suite_digest=digest)
                     for number, digest in sorted(known.level_suites.get(of.generator, {}).items())),
        judged=tuple(Judged(level=each.level, weights_digest=each.weights, moved=each.moved)
                     for each in known.judged if each.generator == of.generator))
