"""Whether the champion moves, from numbers. Pure: comparisons in, a verdict with its reasons out.

The sources are in ``docs/adr``: why this test, why two criteria, what a guard is. Rules:

* A difference is always the challenger's gain: of a loss, how much smaller it is (nats a trained token); of a score,
  how much larger (0 to 1). It is of the same rows, one by one.
* A suite shows that the challenger is better if both hold: it is significant (the one-sided p value, that the gain is
  no larger than the measured noise, is below alpha after Holm's correction over all deciding suites), and it is worth
  it (the gain that was seen is at least the margin; the margin is never smaller than the noise).
* A deciding suite shows that it is worse if the same holds of the loss; a suite that only guards, if the fall that was
  seen is moreover above its limit. That is a regression: an alarm, whatever the mode.
* A guard is passed when the fall *can* not be as large as the limit: so says the lower end of the gain's interval, also
  if the noise was all in the challenger's favour. Few rows make a wide interval, so they never pass a guard; they do
  not raise an alarm either.
* Other rows, another digest of the suite, a number that is none, too few rows: nothing is shown, and no guard passed.
* Whoever has forgotten what was mastered is not promoted, however much it has gained elsewhere: a level that goes down
  by its score (:mod:`trainq.curriculum`) is against it. That is no regression: the champion may be no better there.
* A marked checkpoint is never promoted. Without a champion the first that was scored on every suite becomes it.

Whoever is promoted has no regression: the two exclude each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec


class Mode(StrEnum):
    """What follows when a challenger deserves it: it is promoted, a person is asked, nothing."""

    AUTO = "auto"
    ASK = "ask"
    OFF = "off"


class Action(StrEnum):
    """What is to be done: the champion moves; a person is asked to let it; it stays."""

    PROMOTE = "promote"
    PROPOSE = "propose"
    KEEP = "keep"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint. ``weights_digest`` is who it is; ``marks`` say what was wrong with its state, nothing if empty."""

    checkpoint: str
    weights_digest: str
    marks: tuple[str, ...] = ()


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint on a suite: the mean over its ``n`` rows (of losses in nats a trained token, or of scores 0 to 1).

    ``low`` and ``high`` are the two-sided interval at ``confidence``; ``evaluation_key`` says what was computed how,
    ``rows_digest`` which rows count.
    """

    evaluation_key: str
    suite_digest: str
    rows_digest: str
    n: int
    mean: float
    low: float
    high: float
    confidence: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What ``trainq.significance`` found between two models over the same ``n`` rows, as the challenger's gain.

    ``deviation`` is the standard deviation of the rows' gains, ``deviation_high`` its upper limit at 95 %, which plans
    are made with; ``noise`` the largest difference between scorings of the incumbent. ``p_better`` belongs to "the gain
    is no larger than the noise", ``p_worse`` to "the fall is no larger than the noise". ``rows_needed`` is for a
    challenger that is twice the margin better; 0 where it was not computed.
    """

    n: int
    mean: float
    deviation: float
    deviation_high: float
    low: float
    high: float
    confidence: float
    noise: float
    p_better: float
    p_worse: float
    method: str
    rows_needed: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Challenger against champion on one suite. ``difference`` is None where the rows were not the same."""

    suite: str
    kind: str
    champion: Score
    challenger: Score
    difference: Difference | None


class SuiteRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite is for: it decides, it guards (``limit`` is how far it may fall), or both.

    One that does neither is no reason for a promotion; that it falls significantly is one against it.

    ``margin``: a smaller gain is not worth it; ``margin`` and ``limit`` are in the unit of the suite's mean.
    """

    suite: str
    deciding: bool
    margin: float
    limit: float | None = None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How the champion moves. ``alpha`` is for all deciding suites together; fewer than ``least_rows`` show nothing."""

    suites: tuple[SuiteRule, ...]
    mode: Mode = Mode.ASK
    alpha: float = 0.01
    least_rows: int = 100


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one suite shows, with the numbers that it was decided by.

    The p values are those after Holm's correction. ``guarded``: it has a limit; ``passed``: the fall is surely within.
    """

    suite: str
    deciding: bool
    guarded: bool
    shown: bool
    better: bool
    worse: bool
    passed: bool
    reason: str
    margin: float
    p_better: float = 1.0
    p_worse: float = 1.0
    comparison: Comparison | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of the champion. ``deserves`` is the answer of the numbers, ``action`` that of the mode, too.

    ``first``: it becomes one where there was none. ``regressed``: the challenger is significantly worse. ``reasons``
    are for people: those for it if it deserves it, else those against it.
    """

    challenger: Candidate
    champion: Candidate | None
    action: Action
    deserves: bool
    first: bool
    regressed: bool
    reasons: tuple[str, ...]
    mode: Mode
    alpha: float
    least_rows: int
    findings: tuple[Finding, ...] = ()


def decide(challenger: Candidate, champion: Candidate, comparisons: Sequence[Comparison], rules: Rules,
           forgotten: Sequence[str] = ()) -> Verdict:
    """The verdict over a challenger; comparisons on a suite that no rule names are passed over.

    ``forgotten`` says of each level that goes down by its score why.
    """
    if challenger.weights_digest == champion.weights_digest:
        same = [f"{challenger.checkpoint} has the champion's weights"]
        return _verdict(challenger, champion, rules, same, (), regressed=False, findings=())
    findings = _findings({comparison.suite: comparison for comparison in comparisons}, rules)
    is_better = any(finding.better for finding in findings)
    against = [_marked(challenger)] if challenger.marks else []
    against += forgotten
    against += [finding.reason for finding in findings
                if finding.worse or (finding.guarded and not finding.passed) or (finding.deciding and not is_better)]
    if not is_better and not against:
        against.append("no suite decides")
    return _verdict(challenger, champion, rules, against, [finding.reason for finding in findings],
                    regressed=any(finding.worse for finding in findings), findings=findings)


def decide_first(challenger: Candidate, scored: Mapping[str, Score], rules: Rules) -> Verdict:
    """The verdict where there is no champion yet. ``scored`` is the challenger's score by suite.

    However few rows a suite has: nobody loses the place, and the next one has to show more.
    """
    missing = [rule.suite for rule in rules.suites
               if rule.suite not in scored or not math.isfinite(scored[rule.suite].mean)]
    against = [_marked(challenger)] if challenger.marks else []
    against += [f"it was not scored on {suite}" for suite in missing]
    if not any(rule.deciding for rule in rules.suites):
        against.append("no suite decides")
    return _verdict(challenger, None, rules, against, ["there was no champion"], regressed=False, findings=())


def _verdict(challenger: Candidate, champion: Candidate | None, rules: Rules, against: Sequence[str],
             favour: Sequence[str], *, regressed: bool, findings: tuple[Finding, ...]) -> Verdict:
    deserves = not against
    said = tuple(favour) if deserves else tuple(against)
    action = Action.KEEP
    if deserves and rules.mode is Mode.OFF:
        said = (*said, "promotion is off")
    elif deserves:
        action = Action.PROMOTE if rules.mode is Mode.AUTO else Action.PROPOSE
    return Verdict(challenger=challenger, champion=champion, action=action, deserves=deserves,
                   first=champion is None and deserves, regressed=regressed, reasons=said, mode=rules.mode,
                   alpha=rules.alpha, least_rows=rules.least_rows, findings=findings)


def _findings(comparisons: Mapping[str, Comparison], rules: Rules) -> tuple[Finding, ...]:
    unshown = {rule.suite: _unshown(comparisons.get(rule.suite), rules) for rule in rules.suites}
    seen = {suite: comparisons[suite].difference for suite, why in unshown.items() if not why}
    # The family is what the rules name, not what could be shown: it must not shrink when an evaluation is missing.
    deciding = [rule.suite for rule in rules.suites if rule.deciding]
    better = holm({suite: one.p_better if (one := seen.get(suite)) else 1.0 for suite in deciding})
    worse = holm({rule.suite: one.p_worse if (one := seen.get(rule.suite)) else 1.0 for rule in rules.suites})
    return tuple(_finding(rule, unshown[rule.suite], comparisons.get(rule.suite), better.get(rule.suite, 1.0),
                          worse[rule.suite], rules) for rule in rules.suites)


def _finding(rule: SuiteRule, unshown: str, comparison: Comparison | None, p_better: float, p_worse: float,
             rules: Rules) -> Finding:
    guarded = rule.limit is not None
    if unshown or comparison is None or comparison.difference is None:
        return Finding(suite=rule.suite, deciding=rule.deciding, guarded=guarded, shown=False, better=False,
                       worse=False, passed=False, reason=f"{rule.suite}: {unshown}", margin=rule.margin,
                       comparison=comparison)
    seen = comparison.difference
    margin = max(rule.margin, seen.noise)
    tolerated = margin if rule.deciding else max(margin, rule.limit or 0.0)
    better = rule.deciding and p_better < rules.alpha and seen.mean >= margin
    worse = p_worse < rules.alpha and -seen.mean >= tolerated
    fall = seen.noise - seen.low
    passed = rule.limit is not None and fall < rule.limit
    says = [_better(seen, margin, p_better, better, rules)] if rule.deciding and not worse else []
    if worse:
        says.append(f"it is worse, p {p_worse:.2g}")
    if rule.limit is not None and not passed:
        says.append(f"it may have fallen by {fall:.4g}, the limit is {rule.limit:.4g}")
    elif rule.limit is not None:
        says.append(f"a fall by the limit of {rule.limit:.4g} is ruled out")
    said = "; ".join(says) or "no sign of a fall"
    return Finding(suite=rule.suite, deciding=rule.deciding, guarded=guarded, shown=True, better=better, worse=worse,
                   passed=passed, reason=f"{rule.suite}: {_numbers(seen)}: {said}", margin=margin, p_better=p_better,
                   p_worse=p_worse, comparison=comparison)


def _better(seen: Difference, margin: float, p_better: float, better: bool, rules: Rules) -> str:
    if better:
        return f"better, p {p_better:.2g}, margin {margin:.4g}"
    if p_better >= rules.alpha:
        needed = f"; {seen.rows_needed} rows would show twice the margin" if seen.rows_needed > seen.n else ""
        return f"not shown to be better, p {p_better:.2g} against {rules.alpha:.4g}{needed}"
    return f"better by less than the margin of {margin:.4g}"


def _numbers(seen: Difference) -> str:
    return (f"{seen.mean:+.4g} on {seen.n} rows, {100 * seen.confidence:.3g} % between {seen.low:+.4g} "
            f"and {seen.high:+.4g}")


def _unshown(comparison: Comparison | None, rules: Rules) -> str:
    """Why a comparison shows nothing; empty if it does."""
    if comparison is None:
        return "not compared"
    one, other, seen = comparison.champion, comparison.challenger, comparison.difference
    if one.suite_digest != other.suite_digest:
        return "not comparable: the suite's digest is another one"
    if one.rows_digest != other.rows_digest or one.n != other.n or seen is None or seen.n != one.n:
        return "not comparable: the rows are not the same"
    if not all(map(math.isfinite, (one.mean, other.mean, seen.mean, seen.deviation, seen.low, seen.high, seen.noise,
                                   seen.p_better, seen.p_worse))):
        return "not comparable: a number is none"
    if seen.n < rules.least_rows:
        return f"{seen.n} rows show nothing, {rules.least_rows} are the least"
    return ""


def _marked(challenger: Candidate) -> str:
    return f"{challenger.checkpoint} is marked: {', '.join(challenger.marks)}"


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p values after Holm's step-down correction: below alpha are those that may be rejected together.

    Of one alone nothing is taken. The chance of any false rejection is at most alpha, however the suites depend on each
    other. S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979) 65-70.
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for place, (suite, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_value))
        corrected[suite] = largest
    return corrected
