"""The generator ``selfplay``, but for the model: which puzzles it is asked, and the rows that its right answers become.

The puzzles are those of another generator, of the same level and seed. None stands in an evaluation suite, and no
question comes twice in a file. A row says who has answered; all that its puzzle says of itself stays, so that it can be
checked again.

The model answers in a process of its own (``trainq.ml.selfplaying``): nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson
from msgspec import Meta

from trainq.errors import InputError, UsageError
from trainq.generating import producing
from trainq.generating.arithmetic import Arithmetic, is_worked_out
from trainq.generating.base import GenerateRequest, Generator
from trainq.leaks import LeakIndex
from trainq.samples import ChatSample, Message

NAME, VERSION = "selfplay", "1"
# What besides the right result makes an answer worth learning, where a result may come by luck.
_WORKED_OUT: Mapping[str, Callable[[str, str], bool]] = {Arithmetic.name: is_worked_out}
DEFAULT_SOURCE = "arithmetic"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """Its options.

    ``source`` (``from``) is the generator whose puzzles are asked. An answer has ``max_new_tokens`` at most; of
    ``batch_rows`` puzzles at once, on ``threads`` threads (0: half of the processors). Fewer than ``least_rows`` right
    answers make no file.
    """

    source: str = DEFAULT_SOURCE
    max_new_tokens: Annotated[int, Meta(ge=1, le=32_768)] = 256
    batch_rows: Annotated[int, Meta(ge=1, le=4096)] = 32
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    least_rows: Annotated[int, Meta(ge=1, le=100_000)] = 8


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
    """A checkpoint: its name, and the digest of its weights, which tells it from every other one."""

    champion: str
    weights_digest: str


def read_options(given: Mapping[str, Any]) -> Options:
    """The options, checked.

    Raises:
        UsageError: one is not known, or not as it must be.
    """
    try:
        return msgspec.convert(dict(given), Options)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(Options))
        raise UsageError(f"an option of the generator {NAME} is wrong: {error}", mend=f"known are: {known}") from error


def source_of(given: Mapping[str, Any]) -> str:
    """The generator whose puzzles are asked, at the level that the evaluations have moved it to."""
    source = given.get("from", DEFAULT_SOURCE)
    return source if isinstance(source, str) else DEFAULT_SOURCE


def puzzles(source: Generator, request: GenerateRequest, guarded: LeakIndex | None) -> Puzzles:
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


def is_worked_out_by(source: str, puzzle: Puzzle, answer: str) -> bool:
    """Whether an answer with the right result has come to it in a way that may be learned."""
    check = _WORKED_OUT.get(source)
    return check is None or check(puzzle.prompt[-1].content, answer)


def row(puzzle: Puzzle, answer: str, by: AnsweredBy) -> dict[str, Any]:
    """The row that a right answer becomes."""
    return {"messages": [{"role": message.role, "content": message.content}
                         for message in (*puzzle.prompt, Message("assistant", answer))],
            "metadata": {**puzzle.metadata, "generator": NAME, "generator_version": VERSION,
                         "source": puzzle.metadata["generator"],
                         "source_version": puzzle.metadata["generator_version"],
                         "champion": by.champion, "weights": by.weights_digest}}
