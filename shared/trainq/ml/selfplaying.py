"""Self-play: the champion answers generated puzzles, a checker keeps what is right, and that becomes a file.

``python -m trainq.ml.selfplaying`` does it in a child of the datagen, asked and answering as
``trainq.generating.child`` does. Rules:

- The checker proves itself on the puzzles' own answers first (:func:`trainq.scoring.prove`).
- Answers are greedy, or drawn by the request's seed (``temperature``). Only those count that have the right result,
  that were worked out (a result alone may be luck, and a model that learns from its luck learns nonsense), and that the
  model ended by itself.
- Puzzles are asked in their order, in batches of one size. When the time is over those that were answered are what was
  asked: with that as the count, the same request gives the same file again.
- Fewer right answers than ``least_rows`` make no file, which is no error.

It computes on the processor, while that has nothing else to do where the request says ``idle``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
import torch

from trainq import files, leaks, scoring
from trainq.config import Home
from trainq.errors import InputError, UsageError
from trainq.generating import asked, producing, puzzles, registry, selfplay
from trainq.generating.asked import Written
from trainq.generating.base import GenerateRequest
from trainq.generating.puzzles import AnsweredBy, Puzzle
from trainq.generating.selfplay import Options
from trainq.jsonl import Line
from trainq.ml import determinism, model, subjects
from trainq.ml.answering import TimeIsOverError
from trainq.ml.subjects import Answer, Opened, Subject
from trainq.samples import BadRow, RowJudge
from trainq.scoring import Case, Scorer


class Request(asked.Request, frozen=True, kw_only=True):
    """What the child is asked: puzzles for the checkpoint ``champion``, at most ``limit_seconds`` long."""

    home: str
    champion: str
    limit_seconds: float


class Played(Written, frozen=True, kw_only=True):
    """What became of it.

    Of ``asked`` puzzles ``right`` were, and of ``lucky`` more the result alone; ``unfit`` more are too long for the
    model, and were not asked. Where ``rows`` is 0 there is no file, and ``reason`` says why. ``weights_digest`` is who
    has answered.
    """

    asked: int
    right: int
    lucky: int
    unfit: int
    weights_digest: str
    source: str
    source_version: str
    reason: str = ""


def play(request: Request) -> Played:
    """Ask, check, and publish what is right.

    Raises:
        NotFoundError: there is no such checkpoint, or no such generator to ask the puzzles of.
        UsageError: the request makes no sense, or nobody can check the answers.
        InputError: the puzzles cannot be made, or the checker cannot prove itself.
        DamageError: the checkpoint is not whole.
        StorageError, StorageFullError: the disk.
    """
    deadline = time.monotonic() + request.limit_seconds
    options = selfplay.read_options(request.options)
    source, scorer = registry.find(options.source), _scorer(options.source)
    wanted = GenerateRequest(count=request.count, level=request.level, seed=request.seed)
    producing.refuse(source, wanted)
    guarded = leaks.read_suites(Path(request.suites)) if request.suites else None
    drawn, left_out = puzzles.draw(source, wanted, guarded)
    if not drawn:
        raise InputError(f"all of the {left_out} puzzles stand in an evaluation suite",
                         mend="another level has more to give")
    cases = [Case(row=at, prompt=puzzle.prompt, reference=puzzle.reference, metadata=puzzle.metadata)
             for at, puzzle in enumerate(drawn)]
    scoring.prove(scorer, cases, request.seed)
    subject = Subject(Home(Path(request.home)), request.champion)
    seen = _seen(subject, cases, scorer, options, _Limits(request.seed, deadline), source.name)
    by = AnsweredBy(subject.name, subject.weights_digest, options.temperature)
    lines = list(_lines([(drawn[at], each) for at, each in enumerate(seen) if each.answer], by))
    fitting = sum(not each.is_unfit for each in seen)
    played = Played(rows=0, left_out=left_out, size_bytes=0, generator_version=selfplay.VERSION, asked=fitting,
                    right=len(lines), lucky=sum(each.is_lucky for each in seen), unfit=len(seen) - fitting,
                    weights_digest=subject.weights_digest, source=source.name, source_version=source.version)
    if len(lines) < options.least_rows:
        return msgspec.structs.replace(played, reason=_reason(played, len(drawn), options))
    content = b"".join(lines)
    files.write_file(Path(request.path), content)
    return msgspec.structs.replace(played, rows=len(lines), size_bytes=len(content))


def _scorer(source: str) -> Scorer:
    name = scoring.OF_GENERATORS.get(source)
    if name is None:
        raise UsageError(f"nobody can check answers to what {source} makes",
                         mend=f"self-play asks what these make: {', '.join(sorted(scoring.OF_GENERATORS))}")
    return scoring.make(name, {}, Path())


class _Seen(NamedTuple):
    """What came of a puzzle: the right answer, and to which attempt; or luck; or it was too long for the model."""

    answer: str = ""
    attempt: int = 0
    is_lucky: bool = False
    is_unfit: bool = False


class _Limits(NamedTuple):
    """What all answers are drawn by, and when the time is over (on the monotonic clock)."""

    seed: int
    deadline: float


def _seen(subject: Subject, cases: Sequence[Case], scorer: Scorer, options: Options, limits: _Limits,
          source: str) -> list[_Seen]:
    """What comes of the first of the puzzles, as many as there is time for."""
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(options.threads or max(1, (os.cpu_count() or 1) // 2))
    # numpy takes 32 bits of a seed.
    determinism.seed(limits.seed % 2**32)
    opened = Opened(subject, torch.device("cpu"))
    seen: list[_Seen] = []
    for start in range(0, len(cases), options.batch_rows):
        piece = cases[start:start + options.batch_rows]
        found = dict.fromkeys(range(len(piece)), _Seen())
        try:
            for attempt in range(1, options.samples + 1):
                asked_now = [at for at, each in found.items() if not each.answer and not each.is_unfit]
                said = subjects.ask(
                    opened, [piece[at].prompt for at in asked_now], max_new_tokens=options.max_new_tokens,
                    batch_rows=options.batch_rows, deadline=limits.deadline, temperature=options.temperature)
                for at, answer in zip(asked_now, said, strict=True):
                    found[at] = _judged(piece[at], answer, scorer, source, attempt, found[at])
        except TimeIsOverError:
            break
        seen += found.values()
    return seen


def _judged(case: Case, answer: Answer | str, scorer: Scorer, source: str, attempt: int, before: _Seen) -> _Seen:
    if isinstance(answer, str):
        return _Seen(is_unfit=True)
    if scorer.scores([case], [answer.text])[0].value != 1.0:
        return before
    if answer.truncated or not puzzles.is_worked_out(source, case.prompt, answer.text):
        return _Seen(is_lucky=True)
    return _Seen(answer=answer.text, attempt=attempt)


def _lines(right: Sequence[tuple[Puzzle, _Seen]], by: AnsweredBy) -> Iterator[bytes]:
    """Their rows, but for what the preparer would not take (an answer with a character that is none)."""
    judge = RowJudge({})
    for number, (puzzle, seen) in enumerate(right, 1):
        content = orjson.dumps(puzzles.row(puzzle, seen.answer, by, seen.attempt))
        if not isinstance(judge.judge(Line(number, content, len(content))), BadRow):
            yield content + b"\n"


def _reason(played: Played, drawn: int, options: Options) -> str:
    if played.unfit and not played.asked:
        return f"none of {drawn} puzzles fits into the model with {options.max_new_tokens} tokens of answer"
    late = "" if played.asked + played.unfit == drawn else f", and of {drawn} no more were answered in time"
    luck = f" ({played.lucky} more in their result alone)" if played.lucky else ""
    return (f"only {played.right} of {played.asked} answers were right{luck}, and fewer than {options.least_rows} make "
            f"no file{late}")


if __name__ == "__main__":
    sys.exit(asked.serve(Request, play))
