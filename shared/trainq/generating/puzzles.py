"""Puzzles for the model to answer, and the rows that its right answers become.

The puzzles are those of a generator, of the level and seed that self-play is asked for. None stands in an evaluation
suite, and no question comes twice in a file. A row says who has answered; all that its puzzle says of itself stays, so
that it can be checked again.

The model answers in a process of its own (``trainq.ml.selfplaying``): nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from trainq.errors import InputError
from trainq.generating import arithmetic, producing
from trainq.generating.base import GenerateRequest, Generator
from trainq.generating.selfplay import NAME, VERSION
from trainq.leaks import LeakIndex
from trainq.samples import ChatSample, Message

# What besides the right result makes an answer worth learning, where a result may come by luck.
_WORKED_OUT: Mapping[str, Callable[[str, str], bool]] = {
    arithmetic.Arithmetic.name: arithmetic.is_worked_out}


class Puzzle(NamedTuple):
    """What is asked, an answer that is right, and what the source says of both."""

    prompt: tuple[Message, ...]
    reference: str
    metadata: dict[str, Any]


class Puzzles(NamedTuple):
    """Those to ask; ``left_out`` more stand in an evaluation suite."""

    asked: list[Puzzle]
    left_out: int


class AnsweredBy(NamedTuple):
    """A checkpoint: its name, and the digest of its weights, which tells it from every other one; and how it was asked.

    ``temperature`` is 0 for greedy answers.
    """

    champion: str
    weights_digest: str
    temperature: float = 0.0


def draw(source: Generator, request: GenerateRequest, guarded: LeakIndex | None) -> Puzzles:
    """The puzzles of a request, each once.

    Raises:
        UsageError: the request makes no sense.
        InputError: the source cannot make so many, or makes what asks nothing.
    """
    asked: dict[tuple[Message, ...], Puzzle] = {}
    left_out = 0
    for row, sample in _rows(source, request):
        *prompt, last = sample.messages
        if guarded is not None and guarded.find(sample) is not None:
            left_out += 1
        else:
            asked.setdefault(tuple(prompt), Puzzle(tuple(prompt), last.content, row["metadata"]))
    return Puzzles(list(asked.values()), left_out)


def _rows(source: Generator, request: GenerateRequest) -> Iterator[tuple[dict[str, Any], ChatSample]]:
    for made in producing.rows(source, request):
        sample = made.sample
        if not isinstance(sample, ChatSample) or len(sample.messages) < 2 or sample.messages[-1].role != "assistant":
            raise InputError(f"the rows of {source.name} are no questions with their answers", field="options.from",
                             mend="choose another generator")
        yield orjson.loads(made.line), sample


def is_worked_out(source: str, prompt: Sequence[Message], answer: str) -> bool:
    """Whether an answer with the right result has come to it in a way that may be learned."""
    check = _WORKED_OUT.get(source)
    return check is None or check(prompt[-1].content, answer)


def row(puzzle: Puzzle, answer: str, by: AnsweredBy, attempt: int = 1) -> dict[str, Any]:
    """The row that a right answer becomes, which was the one to that ``attempt`` (from 1)."""
    return {"messages": [{"role": message.role, "content": message.content}
                         for message in (*puzzle.prompt, Message("assistant", answer))],
            "metadata": {**puzzle.metadata, "generator": NAME, "generator_version": VERSION,
                         "source": puzzle.metadata["generator"],
                         "source_version": puzzle.metadata["generator_version"],
                         "champion": by.champion, "weights": by.weights_digest, "temperature": by.temperature,
                         "attempt": attempt}}
