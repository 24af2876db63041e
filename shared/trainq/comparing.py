"""Two checkpoints on the suites that both were scored on: how far apart they are, how sure that is, and on which rows.

Only what lies in ``evaluations/`` is read: nothing is scored here, and the broker need not run. Two results are
compared row by row if they are of the same rows of the same suite, by the same version of a scorer; of several pairs
the one is taken that was computed in the same way, in the largest batches. A difference is the second one's gain, as
everywhere (:mod:`trainq.promoting`).

``python -m trainq.comparing`` does it in a child of the command line, which may not import scipy: one JSON object
(:class:`Question`) on stdin, one on stdout, a :class:`Report` or ``{"error": ...}``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from trainq import evaluations, significance, suites
from trainq.config import Home
from trainq.errors import InputError, NotFoundError, TrainqError, UsageError
from trainq.evaluations import Evaluation, EvaluationFacts, RowResult
from trainq.promoting import Difference
from trainq.suites import Suite

NO_NOISE = "noise not measured: there are no batches of other shapes"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked: ``first`` and ``second`` are names of checkpoints; of each suite at most ``rows`` that
    became right, and as many that became wrong, are shown."""

    home: str
    first: str
    second: str
    rows: Annotated[int, Meta(ge=0)] = 0
    confidence: Annotated[float, Meta(gt=0, lt=1)] = 0.95


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A row that one answers rightly and the other does not. ``became_right``: it is the second one that does.

    ``place``, ``prompt`` and ``reference`` are empty where the suite is gone, or another one by now.
    """

    row: int
    became_right: bool
    first: str
    second: str
    place: str = ""
    prompt: str = ""
    reference: str = ""


class OnSuite(msgspec.Struct, frozen=True, kw_only=True):
    """Both on one suite. ``difference`` is None where their rows are not the same; ``note`` says what is not as usual.

    ``became_right`` and ``became_wrong`` count rows of answers that are wholly right.
    """

    suite: str
    kind: str
    first: EvaluationFacts
    second: EvaluationFacts
    difference: Difference | None
    note: str
    became_right: int
    became_wrong: int
    changed: list[Changed]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the child answers. ``only_first`` and ``only_second`` are suites that the other one was not scored on."""

    first: str
    second: str
    have_same_weights: bool
    suites: list[OnSuite]
    only_first: list[str]
    only_second: list[str]


def judged(found: Evaluation, confidence: float) -> Evaluation:
    """The result with its mean and its interval."""
    values = found.values()
    mean = float(values.mean())
    interval = (significance.mean_interval(values, confidence) if found.facts.kind == "loss"
                else significance.score_interval(mean, len(values), confidence))
    facts = msgspec.structs.replace(found.facts, n=len(values), mean=mean, low=interval.low, high=interval.high,
                                    confidence=confidence)
    return Evaluation(facts=facts, rows=found.rows)


def difference(before: Evaluation, after: Evaluation, *, noise: float | None, confidence: float, margin: float = 0.0,
               alpha: float = 0.01) -> Difference | None:
    """The gain from one to the other on a suite; None if they are not of the same rows.

    ``noise`` is as measured, or None: it was not, which the difference's method says, and 0 stands in its place.
    """
    if evaluations.rows_digest(before) != evaluations.rows_digest(after):
        return None
    compare = significance.compare_losses if before.facts.kind == "loss" else significance.compare_scores
    found = compare(before.values(), after.values(), noise=noise or 0.0, margin=margin, alpha=alpha,
                    confidence=confidence)
    return found if noise is not None else msgspec.structs.replace(found, method=f"{found.method}; {NO_NOISE}")


def noise_of(scorings: Iterable[EvaluationFacts]) -> float | None:
    """What of a score is noise: how far scorings of one checkpoint in batches of different shapes, or on different
    devices, lie apart.

    None if they are all of one shape: few rows, or a vocabulary so large that each goes by itself. A pass beside
    itself differs in nothing, and would measure nothing.
    """
    means = {(facts.method.device, facts.shapes): facts.mean for facts in scorings}
    return significance.measured_noise(list(means.values())) if len(means) > 1 else None


def answer(question: Question) -> Report:
    """Compare them.

    Raises:
        NotFoundError: one was never scored, or there is no suite on which both were.
        DamageError, NewerFormatError, StorageError: a result cannot be read.
    """
    home = Home(Path(question.home))
    known = evaluations.facts_of(home)
    weights = [_weights(home, name, known) for name in (question.first, question.second)]
    own = [[facts for facts in known if facts.weights_digest == digest] for digest in weights]
    for name, each in zip((question.first, question.second), own, strict=True):
        if not each:
            raise NotFoundError(f"{name} was never scored", mend=f"trainq evaluate {name} --wait")
    names = [{facts.suite for facts in each} for each in own]
    pairs = [pair for suite in sorted(names[0] & names[1]) if (pair := _pair(suite, own[0], own[1])) is not None]
    if not pairs:
        raise NotFoundError(f"{question.first} and {question.second} were not scored on the same suite",
                            mend=f"trainq evaluate {question.first}, and trainq evaluate {question.second}")
    return Report(
        first=question.first, second=question.second, have_same_weights=weights[0] == weights[1],
        suites=[_compared(home, first, second, own[0], question) for first, second in pairs],
        only_first=sorted(names[0] - names[1]), only_second=sorted(names[1] - names[0]))


def _weights(home: Home, name: str, known: Sequence[EvaluationFacts]) -> str:
    """The digest of a checkpoint's weights, also of one that was removed since it was scored."""
    path = home.checkpoints / name
    if path.is_dir():
        return evaluations.weights_digest(path)
    found = [facts.weights_digest for facts in known if facts.checkpoint == name]
    if not found:
        raise NotFoundError(f"there is no {name} in checkpoints/, and no score of it",
                            mend="trainq scores shows what was scored")
    return found[-1]


def _pair(suite: str, first: Sequence[EvaluationFacts],
          second: Sequence[EvaluationFacts]) -> tuple[EvaluationFacts, EvaluationFacts] | None:
    """The results of both that are to be compared: of the suite as it was last scored, by one version of a scorer."""
    found = [(one, other) for one in first for other in second
             if one.suite == other.suite == suite and one.suite_digest == other.suite_digest
             and one.scorer_version == other.scorer_version]
    newest = max(found, key=lambda pair: pair[1].created_at, default=None)
    return max((pair for pair in found if newest and pair[1].suite_digest == newest[1].suite_digest),
               key=lambda pair: (pair[0].method == pair[1].method, pair[0].method.rules, pair[1].method.batch_rows,
                                 pair[0].method.batch_rows, pair[1].created_at), default=None)


def _compared(home: Home, first: EvaluationFacts, second: EvaluationFacts, of_first: Sequence[EvaluationFacts],
              question: Question) -> OnSuite:
    before, after = (judged(evaluations.read(home, facts.key), question.confidence) for facts in (first, second))
    # What the same weights score in other batches is no difference.
    again = [facts for facts in of_first if facts.suite_digest == first.suite_digest
             and facts.scorer_version == first.scorer_version and facts.method.rules == first.method.rules
             and facts.method.libraries == first.method.libraries]
    gain = difference(before, after, noise=noise_of(again), confidence=question.confidence)
    notes = [] if gain is not None else ["not of the same rows: what fits into one model does not fit into the other"]
    notes += [] if first.method == second.method else [
        "not in the same batches, on the same device, or with the same libraries"]
    changed = list(_changes(before.rows, after.rows))
    suite = _suite(home, first) if changed and question.rows else None
    shown = [each for right in (True, False)
             for each in [each for each in changed if each.became_right is right][:question.rows]]
    return OnSuite(
        suite=first.suite, kind=first.kind, first=before.facts, second=after.facts, difference=gain,
        note="; ".join(notes), became_right=sum(each.became_right for each in changed),
        became_wrong=sum(not each.became_right for each in changed), changed=[_placed(each, suite) for each in shown])


def _changes(before: Sequence[RowResult], after: Sequence[RowResult]) -> Iterator[Changed]:
    """The rows of which one has a wholly right answer and the other has not."""
    of_before = {row.row: row for row in before if row.score is not None}
    for row in after:
        old = of_before.get(row.row)
        if old is not None and row.score is not None and (old.score == 1.0) is not (row.score == 1.0):
            yield Changed(row=row.row, became_right=row.score == 1.0, first=old.answer or "", second=row.answer or "")


def _suite(home: Home, facts: EvaluationFacts) -> Suite | None:
    """The suite as it was scored, if it is still that."""
    try:
        suite = suites.load(home.suites / facts.suite)
    except (InputError, NotFoundError):
        return None
    return suite if suite.digest == facts.suite_digest else None


def _placed(changed: Changed, suite: Suite | None) -> Changed:
    if suite is None:
        return changed
    case = next(case for case in suite.cases() if case.row == changed.row)
    return msgspec.structs.replace(changed, place=suite.rows[changed.row].place, reference=case.reference,
                                   prompt=case.prompt[-1].content if case.prompt else "")


def main() -> int:
    """Entry point of the child; gives the exit code."""
    try:
        said: object = answer(msgspec.json.decode(sys.stdin.buffer.read(), type=Question))
        code = 0
    except msgspec.MsgspecError as error:
        said, code = {"error": f"not a question: {error}"}, UsageError.exit_code
    except TrainqError as error:
        said, code = {"error": str(error)}, error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
