"""Evaluation: a checkpoint is scored on suites, and beside another one; what is known already is not computed again.

``python -m trainq.ml.evaluating`` does it in a child of whoever must not import torch: one JSON object
(:class:`Request`) on stdin, one on stdout, an :class:`trainq.evaluations.EvaluationReport` or ``{"error": ...,
"code": ...}``. How far it is goes to stderr, as JSON lines.

Rules:

- A suite's scorer proves itself (:func:`trainq.scoring.prove`) before any row of any suite is scored. A suite whose
  scorer cannot, or that is not as it must be, is refused, which hinders no other.
- So does each checkpoint's template and tokenizer, with that scorer (:mod:`trainq.ml.references`): the references, as
  they are trained and decoded, must score 1 and be no longer than an answer may be.
- The model meets what it was trained on: template, mask and tokens are those of the preparer, prompts end with what the
  template puts before an answer, and answers are decoded whole, from the new tokens alone.
- A row that does not fit into the model is left out, and said to be. A row that was not finished in time is an error,
  and never a 0.
- Weights are computed with as they lie in the checkpoint, in evaluation mode, without gradients.
"""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import torch

from trainq import __version__, comparing, evaluations, manifests, oneshot, scoring, suites
from trainq.clock import SystemClock
from trainq.config import Home
from trainq.errors import InputError, MemoryShortError, NoGpuError, UsageError
from trainq.evaluations import (
    Evaluation,
    EvaluationFacts,
    EvaluationReport,
    Method,
    RowResult,
    SuiteScore,
)
from trainq.ml import answering, determinism, foreseeing, model, references, subjects
from trainq.ml.subjects import Opened, Subject
from trainq.promoting import Comparison
from trainq.scoring import Proof
from trainq.suites import Suite
from trainq.textcodec import EncodedRow

# Goes up with every change that makes other scores out of the same weights and suite.
RULES = 2
_ENCODED_AT_ONCE = 128
_TELL_SECONDS = 5.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked. ``parent`` is the pid of whoever asks: the child ends with it.

    ``checkpoint`` and ``against`` (empty: nothing) are generations in ``checkpoints/``, ``suites`` names in
    ``suites/``; those of them that are ``compared`` are scored on the other one, too. ``limit_seconds`` is for one
    suite on one of them, ``seed`` for the references that scorers are tried with; ``margin`` and ``alpha`` say how many
    rows a comparison takes (:mod:`trainq.significance`).
    """

    home: str
    checkpoint: str
    suites: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    against: str = ""
    compared: tuple[str, ...] = ()
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 16
    limit_seconds: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    device: Literal["cpu", "cuda"] = "cpu"
    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.95
    margin: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    seed: int = 0
    parent: int = 0


def evaluate(home: Home, request: Request) -> EvaluationReport:
    """Score a checkpoint on suites, and beside another one where that is asked.

    Raises:
        NotFoundError: there is no such checkpoint or suite.
        UsageError: what is asked makes no sense.
        DamageError: a checkpoint is not whole.
        MemoryShortError: so many rows at once do not fit.
        NoGpuError: there is none.
        StorageError, StorageFullError: the disk.
    """
    device = torch.device(request.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise NoGpuError("an evaluation is to be computed on a GPU, and torch finds none")
    run = _Run(home, request, device)
    own = Subject(home, request.checkpoint)
    other = Subject(home, request.against) if request.against else None
    rows = request.batch_rows
    # Another batching: what of a score is noise shows between the two.
    noise_rows = rows // 2 or 2
    compared = [suite for suite in run.scored if suite.name in request.compared]
    wanted = [(own, rows, suite) for suite in run.scored]
    if other is not None:
        wanted += [(other, each, suite) for each in (rows, noise_rows) for suite in compared]
    run.score(wanted)
    scores = []
    for suite in run.scored:
        found = run.result(own, rows, suite)
        comparison = None
        if other is not None and suite in compared:
            comparison = _compare(suite, found, run.result(other, rows, suite), run.result(other, noise_rows, suite),
                                  request)
        scores.append(SuiteScore(facts=found.facts, score=evaluations.score_of(found), limit=suite.limit,
                                 comparison=comparison, was_known=found.facts.key not in run.computed))
    return EvaluationReport(checkpoint=own.name, weights_digest=own.weights_digest, scores=scores, refused=run.refused,
                            against=other.name if other else "", against_digest=other.weights_digest if other else "")


class _Run:
    """The results of one request, those of the cache and those that are computed; ``refused`` says why a suite is."""

    def __init__(self, home: Home, request: Request, device: torch.device) -> None:
        self._home, self._request, self._device = home, request, device
        self._suites: list[Suite] = []
        self._proofs: dict[str, Proof] = {}
        self._results: dict[str, Evaluation] = {}
        self.computed: set[str] = set()
        self.refused: dict[str, str] = {}
        for name in dict.fromkeys(request.suites):
            with self._refusing(home.suites / name):
                self._suites.append(suites.load(home.suites / name))
        self._scorers = {suite.name: suite.make_scorer() for suite in self._suites if suite.kind == "generate"}

    @property
    def scored(self) -> list[Suite]:
        """The suites that were not refused."""
        return [suite for suite in self._suites if suite.name not in self.refused]

    @contextlib.contextmanager
    def _refusing(self, path: Path) -> Iterator[None]:
        """Refuse the suite at ``path`` for what is wrong with it, and say where that is."""
        try:
            yield
        except (InputError, UsageError) as error:
            if isinstance(error, InputError):
                error = InputError(error.reason, file=error.file or str(path), line=error.line, column=error.column,
                                   field=error.field, mend=error.mend)
            self.refused[path.name] = str(error)

    def result(self, subject: Subject, batch_rows: int, suite: Suite) -> Evaluation:
        """One of those that were asked for, with the interval that is asked for.

        It bears this suite's name: a result is found by the content, which another suite may have, or had.
        """
        found = comparing.judged(self._results[self._key(subject, batch_rows, suite)], self._request.confidence)
        return Evaluation(facts=msgspec.structs.replace(found.facts, suite=suite.name), rows=found.rows)

    def score(self, wanted: Sequence[tuple[Subject, int, Suite]]) -> None:
        """Find or compute the result of each of these checkpoints, in batches of so many rows, on that suite."""
        missing: dict[str, tuple[Subject, int, Suite]] = {}
        for subject, batch_rows, suite in wanted:
            key = self._key(subject, batch_rows, suite)
            found = evaluations.find(self._home, key)
            if found is not None:
                self._results[key] = found
            else:
                missing.setdefault(key, (subject, batch_rows, suite))
        for suite in {suite.name: suite for _, _, suite in missing.values()}.values():
            self._prove(suite)
        for subject in {subject.name: subject for subject, _, _ in missing.values()}.values():
            self._score_one(subject, {key: each[1:] for key, each in missing.items() if each[0].name == subject.name
                                      and each[2].name not in self.refused})
        # A suite with the content of another one is scored with that one, and refused with it.
        for subject, batch_rows, suite in wanted:
            key = self._key(subject, batch_rows, suite)
            if key not in self._results and suite.name not in self.refused:
                self.refused[suite.name] = self.refused[missing[key][2].name]

    def _prove(self, suite: Suite) -> None:
        if suite.kind == "generate":
            with self._refusing(suite.path):
                self._proofs[suite.name] = scoring.prove(self._scorers[suite.name], suite.cases(), self._request.seed)

    def _score_one(self, subject: Subject, wanted: dict[str, tuple[int, Suite]]) -> None:
        if not wanted:
            return
        opened = Opened(subject, self._device)
        for key, (batch_rows, suite) in wanted.items():
            if suite.name in self.refused:
                continue
            began = time.monotonic()
            with self._refusing(suite.path):
                measured = self._rows(opened, suite, batch_rows)
                made = self._made(subject, opened, suite, batch_rows, measured, time.monotonic() - began)
                self._results[key] = evaluations.publish(self._home, made.facts, made.rows)
                self.computed.add(key)
            _free(self._device)

    def _rows(self, opened: Opened, suite: Suite, batch_rows: int) -> _Measured:
        deadline = time.monotonic() + self._request.limit_seconds
        try:
            if suite.kind == "loss":
                found = _foreseen(opened, suite, batch_rows, deadline)
            else:
                found = self._answered(opened, suite, batch_rows, deadline)
        except answering.TimeIsOverError as over:
            raise UsageError(f"the suite {suite.name} was not done after {self._request.limit_seconds:g} seconds: of "
                             f"{len(suite.rows)} rows {over.answered} were; nothing of it counts",
                             mend="allow it more time, more rows at once, or give the suite fewer rows") from over
        if sum(not row.left_out for row in found.rows) < 2:
            raise InputError("it takes two rows at least that fit into the model",
                             mend="shorten them, or use another model")
        return found

    def _answered(self, opened: Opened, suite: Suite, batch_rows: int, deadline: float) -> _Measured:
        """The results of a suite of answers: rows that fit are asked, and what was said is scored."""
        cases = suite.cases()
        references.check(references.Asked(opened.codec, answering.stop_ids(opened.model, opened.codec), opened.context,
                                          suite.max_new_tokens), self._scorers[suite.name], cases)
        said = subjects.ask(opened, [case.prompt for case in cases], max_new_tokens=suite.max_new_tokens,
                            batch_rows=batch_rows, deadline=deadline, told=_teller(suite.name, len(cases)))
        answered = [(case, answer) for case, answer in zip(cases, said, strict=True) if not isinstance(answer, str)]
        scores = self._scorers[suite.name].scores([case for case, _ in answered],
                                                  [answer.text for _, answer in answered]) if answered else []
        found = {case.row: RowResult(row=case.row, score=score.value, credit=score.credit, answer=answer.text,
                                     tokens=answer.tokens, truncated=answer.truncated)
                 for (case, answer), score in zip(answered, scores, strict=True)}
        found |= {case.row: RowResult(row=case.row, left_out=why)
                  for case, why in zip(cases, said, strict=True) if isinstance(why, str)}
        # Prompts are as long as ever; only by how many go together can one scoring differ from another.
        sizes = [min(batch_rows, len(answered) - start) for start in range(0, len(answered), batch_rows)]
        return _Measured([found[row] for row in sorted(found)], sizes)

    def _made(self, subject: Subject, opened: Opened, suite: Suite, batch_rows: int, measured: _Measured,
              seconds: float) -> Evaluation:
        results = measured.rows
        credits_ = [row.credit for row in results if row.credit is not None]
        facts = EvaluationFacts(
            key=self._key(subject, batch_rows, suite), suite=suite.name, suite_digest=suite.digest, kind=suite.kind,
            checkpoint=subject.name, weights_digest=subject.weights_digest, method=self._method(batch_rows),
            n=0, mean=0.0, low=0.0, high=0.0, confidence=0.0,
            seed=self._request.seed, left_out=sum(bool(row.left_out) for row in results),
            tokens=sum(row.tokens for row in results), seconds=seconds, created_at=SystemClock().wall(),
            created_by=f"trainq {__version__}", scorer=suite.scorer, scorer_version=self._version(suite),
            max_new_tokens=suite.max_new_tokens, truncated=sum(row.truncated for row in results),
            credit=math.fsum(credits_) / len(credits_) if credits_ else None, proof=self._proofs.get(suite.name),
            shapes=manifests.digest_bytes(msgspec.json.encode(measured.shapes)),
            versions=determinism.versions(adapted=opened.adapted), fingerprint=determinism.fingerprint(self._device))
        return comparing.judged(Evaluation(facts=facts, rows=list(results)), self._request.confidence)

    def _key(self, subject: Subject, batch_rows: int, suite: Suite) -> str:
        return evaluations.key_of(subject.weights_digest, suite, self._version(suite), self._method(batch_rows))

    def _version(self, suite: Suite) -> str:
        return self._scorers[suite.name].version if suite.kind == "generate" else ""

    def _method(self, batch_rows: int) -> Method:
        return Method(rules=RULES, batch_rows=batch_rows, device=self._request.device,
                      libraries=determinism.computing())


class _Measured(NamedTuple):
    """What became of each row, and the shapes of what went through the model."""

    rows: list[RowResult]
    shapes: list[Any]


def _foreseen(opened: Opened, suite: Suite, batch_rows: int, deadline: float) -> _Measured:
    """The results of a suite of losses: rows that fit, as the preparer makes them."""
    encoded: dict[int, EncodedRow] = {}
    found: list[RowResult] = []
    for start in range(0, len(suite.rows), _ENCODED_AT_ONCE):
        piece = suite.rows[start:start + _ENCODED_AT_ONCE]
        rows = opened.codec.encode_batch([row.sample for row in piece], opened.context)
        for number, (suite_row, row) in enumerate(zip(piece, rows, strict=True), start):
            if isinstance(row, InputError):
                raise InputError(f"{suite_row.place}: {row.reason}", field=row.field, mend=row.mend)
            if not row.whole or len(row.token_ids) > opened.context:
                found.append(RowResult(row=number, left_out=f"it is longer than the {opened.context} tokens that the "
                                                            "model takes"))
            elif not any(row.trained):
                raise InputError(f"{suite_row.place}: nothing in it is trained: it makes no token to learn",
                                 mend="look at the row and the chat template")
            else:
                encoded[number] = row
    fit = list(encoded.values())
    losses = foreseeing.losses(opened.model, fit, batch_rows=batch_rows, deadline=deadline,
                               told=_teller(suite.name, len(fit)))
    for number, foreseen in zip(encoded, losses, strict=True):
        if not math.isfinite(foreseen.loss):
            raise InputError(f"{suite.rows[number].place}: its loss is no finite number: the model is broken",
                             mend="evaluate an earlier checkpoint")
        found.append(RowResult(row=number, loss=foreseen.loss, tokens=foreseen.tokens))
    shapes = [(len(each.rows), each.tokens, each.at_once) for each in foreseeing.passes(opened.model, fit, batch_rows)]
    return _Measured(sorted(found, key=lambda result: result.row), shapes)


def _compare(suite: Suite, own: Evaluation, other: Evaluation, again: Evaluation, request: Request) -> Comparison:
    """The checkpoint as the challenger of the other one; ``again`` is that one in other batches."""
    difference = comparing.difference(other, own, noise=comparing.noise_of([other.facts, again.facts]),
                                      margin=request.margin, alpha=request.alpha, confidence=request.confidence)
    return Comparison(suite=suite.name, kind=suite.kind, champion=evaluations.score_of(other),
                      challenger=evaluations.score_of(own), difference=difference)


def _teller(suite: str, rows: int) -> Callable[[int], None]:
    """Says how far a suite is, to whoever reads stderr, now and then and at its end."""
    next_at = time.monotonic()

    def tell(done: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at or done == rows:
            next_at = time.monotonic() + _TELL_SECONDS
            sys.stderr.buffer.write(msgspec.json.encode({"event": "rows_scored", "suite": suite, "rows": done,
                                                         "of": rows}) + b"\n")
            sys.stderr.buffer.flush()

    return tell


def _free(device: torch.device) -> None:
    """Let go of what a suite has used; the next one begins with the model alone."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> int:
    """Entry point of the child; gives the exit code."""
    return oneshot.serve(Request, _answer, process="evaluation", doing="evaluating", adopts_orphans=True,
                         mistake=UsageError)


def _answer(request: Request) -> EvaluationReport:
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(request.threads)
    try:
        return evaluate(Home(Path(request.home)), request)
    except torch.OutOfMemoryError as error:
        raise MemoryShortError(f"the rows do not fit into the GPU's memory: {error}",
                               mend="ask for fewer at once (batch_rows)") from error


if __name__ == "__main__":
    sys.exit(main())
