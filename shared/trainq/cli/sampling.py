"""``trainq sample``: what the trained model says. The model runs in a child, so that nothing here imports torch."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from trainq.cli import arguments as types
from trainq.cli import children
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.config import Home
from trainq.errors import NotFoundError, TrainqError

DEFAULT_MAX_NEW_TOKENS = 64


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("prompts", nargs="+", type=types.text, metavar="PROMPT",
                        help="what to ask; each is asked by itself")
    parser.add_argument("--checkpoint", default="", metavar="NAME|PATH",
                        help="a generation's name (see trainq status) or a folder; default: the current one")
    parser.add_argument("--max-new-tokens", type=types.positive, default=DEFAULT_MAX_NEW_TOKENS, metavar="N",
                        help=f"length of an answer at most (default {DEFAULT_MAX_NEW_TOKENS})")


def _run(arguments: Namespace, context: Context) -> int:
    checkpoint = find_checkpoint(context.home, arguments.checkpoint)
    answers = _ask_child(checkpoint, arguments.prompts, arguments.max_new_tokens)
    if context.console.json:
        context.console.emit({"checkpoint": str(checkpoint), "answers": [
            {"prompt": prompt, "answer": answer} for prompt, answer in zip(arguments.prompts, answers, strict=True)]})
        return 0
    for answer in answers:
        for line in answer.splitlines() or [""]:
            context.console.line(printable(line))
    return 0


def find_checkpoint(home: Home, wanted: str) -> Path:
    """The folder of a checkpoint; the link is resolved now, so that the answers are those of one generation.

    Raises:
        NotFoundError: there is none of that name, or none at all.
    """
    if not wanted:
        if not home.current.is_dir():
            raise NotFoundError("there is no trained model yet", mend="submit a file first: trainq submit FILE --wait")
        return home.current.resolve()
    for candidate in (home.checkpoints / wanted, Path(wanted)):
        if candidate.is_dir():
            return candidate.resolve()
    raise NotFoundError(f"there is no checkpoint {wanted}", mend=f"look into {home.checkpoints}")


def _ask_child(checkpoint: Path, prompts: list[str], max_new_tokens: int) -> list[str]:
    said = children.ask("trainq.ml.sample", {"checkpoint": str(checkpoint), "prompts": prompts,
                                             "max_new_tokens": max_new_tokens}, "the model's process")
    try:
        answers = said["answers"]
    except KeyError as error:
        raise TrainqError(f"the model's process answered with something else: {str(said)[:200]}") from error
    return [str(answer) for answer in answers]


COMMANDS = {"sample": Command(_configure, _run)}
