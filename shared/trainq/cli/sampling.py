"""``trainq sample``: what the trained model says. The model runs in a child, so that nothing here imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import orjson

import trainq
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.config import Home
from trainq.errors import InputError, NotFoundError, TrainqError

DEFAULT_MAX_NEW_TOKENS = 64
_SHOWN_STDERR_LINES = 5


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
    question = {"checkpoint": str(checkpoint), "prompts": prompts, "max_new_tokens": max_new_tokens}
    library = str(Path(trainq.__file__).parents[1])
    path = os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH", ""))))
    # -P: a file in the current folder must not stand in for a module.
    child = subprocess.run([sys.executable, "-P", "-m", "trainq.ml.sample"], input=orjson.dumps(question),
                           capture_output=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if child.returncode:
        raise _child_failed(child.returncode, child.stdout, child.stderr)
    try:
        answers = orjson.loads(child.stdout)["answers"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise TrainqError(f"the model's process answered with something else: {child.stdout[:200]!r}") from error
    return [str(answer) for answer in answers]


def _child_failed(code: int, stdout: bytes, stderr: bytes) -> TrainqError:
    """What the child said of its failure on stdout; when it could not, how it ended and its last words."""
    error: TrainqError
    try:
        reason = str(orjson.loads(stdout)["error"])
        error = InputError(reason) if code == InputError.exit_code else TrainqError(reason)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = stderr.decode("utf-8", "backslashreplace").strip().splitlines()[-_SHOWN_STDERR_LINES:]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        error = TrainqError("\n".join([f"the model's process {how}", *said]))
    # Its own codes are those of trainq.errors; 1 and 2 are Python's and would mean something else here.
    error.exit_code = code if code > 2 else TrainqError.exit_code
    return error


COMMANDS = {"sample": Command(_configure, _run)}
