"""``python -m trainq.ml.sample``: answers prompts with a checkpoint; a child of whoever must not import torch.

Reads one JSON object from stdin, ``{"checkpoint": folder, "prompts": [...], "max_new_tokens": n}``, and writes one to
stdout: ``{"answers": [...]}``, or ``{"error": "..."}`` with the exit code of that error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec

from trainq.errors import InputError, TrainqError

# What a model's folder has one of: the last are those of an adapter, as a checkpoint and as peft have it.
_MODEL_NAMES = ("config.json", "adapter", "adapter_config.json")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    checkpoint: str
    prompts: list[str | list[dict[str, str]]]
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 128


def main() -> int:
    """Entry point; gives the exit code."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    except msgspec.MsgspecError as error:
        return _fail(f"not a request: {error}")
    if not any((Path(request.checkpoint) / name).exists() for name in _MODEL_NAMES):
        return _fail(f"{request.checkpoint} is no folder with a model")
    # Only now: what is wrong with the request is said without waiting seconds for torch.
    from trainq.ml import generation, model

    model.silence_libraries()
    try:
        answers = generation.answer(Path(request.checkpoint), request.prompts, request.max_new_tokens)
    except (OSError, ValueError, TrainqError) as error:
        return _fail(f"{request.checkpoint} cannot answer: {error}")
    _say({"answers": answers})
    return 0


def _fail(reason: str) -> int:
    _say({"error": reason})
    return InputError.exit_code


def _say(reply: dict[str, object]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
