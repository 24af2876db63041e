"""Asking a child for what needs libraries that the command line must not import: one question, one answer, in JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

import trainq
from trainq.errors import InputError, TrainqError

_SHOWN_STDERR_LINES = 5


def ask(module: str, question: dict[str, Any], who: str) -> dict[str, Any]:
    """What ``python -m module`` answers.

    Args:
        module: reads the question from stdin and writes one object to stdout, on a failure ``{"error": reason}``.
        question: for it.
        who: what the child is called in errors.

    Raises:
        TrainqError: it failed; with its own exit code where that is one of trainq's.
    """
    library = str(Path(trainq.__file__).parents[1])
    path = os.pathsep.join(filter(None, (library, os.environ.get("PYTHONPATH", ""))))
    # -P: a file in the current folder must not stand in for a module.
    child = subprocess.run([sys.executable, "-P", "-m", module], input=orjson.dumps(question), capture_output=True,
                           check=False, env={**os.environ, "PYTHONPATH": path})
    if child.returncode:
        raise _failed(child.returncode, child.stdout, child.stderr, who)
    try:
        answer = orjson.loads(child.stdout)
    except orjson.JSONDecodeError as error:
        raise TrainqError(f"{who} answered with something else: {child.stdout[:200]!r}") from error
    if not isinstance(answer, dict):
        raise TrainqError(f"{who} answered with something else: {child.stdout[:200]!r}")
    return answer


def _failed(code: int, stdout: bytes, stderr: bytes, who: str) -> TrainqError:
    """What the child said of its failure on stdout; when it could not, how it ended and its last words."""
    error: TrainqError
    try:
        reason = str(orjson.loads(stdout)["error"])
        error = InputError(reason) if code == InputError.exit_code else TrainqError(reason)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = stderr.decode("utf-8", "backslashreplace").strip().splitlines()[-_SHOWN_STDERR_LINES:]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        error = TrainqError("\n".join([f"{who} {how}", *said]))
    # Its own codes are those of trainq.errors; 1 and 2 are Python's and would mean something else here.
    error.exit_code = code if code > 2 else TrainqError.exit_code
    return error
