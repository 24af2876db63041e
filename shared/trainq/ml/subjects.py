"""Checkpoints that are asked or measured, not trained: proven, in evaluation mode, as they lie on the disk.

What is asked goes through the template and the tokens of the preparer and ends with what the template puts before an
answer; answers are decoded whole, from the new tokens alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from trainq import checkpoints, evaluations
from trainq.config import Home
from trainq.errors import NotFoundError, UsageError
from trainq.ml import adapter, answering, model
from trainq.samples import Message
from trainq.textcodec import TextCodec


class Subject:
    """A checkpoint, by its name and by the digest of its weights. Its model is not in memory."""

    def __init__(self, home: Home, name: str) -> None:
        if checkpoints.parse_name(name) is None:
            raise UsageError(f"{name[:80]!r} is no checkpoint's name", mend="trainq checkpoints lists them")
        self.path = home.checkpoints / name
        if not self.path.is_dir():
            raise NotFoundError(f"there is no checkpoint {name}", mend="trainq checkpoints lists them")
        self.name, self.weights_digest = name, evaluations.weights_digest(self.path)


class Opened:
    """A subject's model, proven, on its device, in evaluation mode; with its own tokenizer and template."""

    def __init__(self, subject: Subject, device: torch.device) -> None:
        found = checkpoints.verify(subject.path)
        self.codec = TextCodec.load(found.path)
        self.adapted = bool(found.facts.adapter_of)
        made: Any = model.load(found.weights_path)
        if self.adapted:
            made = adapter.load(made, found.path)
        self.model = made.to(device)
        self.model.eval()
        self.context = model.context_tokens(made) or sys.maxsize


class Answer(NamedTuple):
    """What a model has said, without special tokens, in so many new ones; ``truncated`` if it was still speaking."""

    text: str
    tokens: int
    truncated: bool


def ask(opened: Opened, prompts: Sequence[Sequence[Message]], *, max_new_tokens: int, batch_rows: int,
        deadline: float, temperature: float = 0.0,
        told: Callable[[int], None] = lambda _: None) -> list[Answer | str]:
    """The answer to each prompt, or why it does not fit into the model and was not asked.

    Args:
        opened: who is asked.
        prompts: the turns before the answer.
        max_new_tokens: how long an answer may be.
        batch_rows: how many are asked at once.
        deadline: on the monotonic clock.
        temperature: 0 for greedy answers; else they are drawn from torch's own generator.
        told: is given the number of answers that there are, after each batch.

    Raises:
        TimeIsOverError: the deadline came first (:mod:`trainq.ml.answering`).
    """
    encoded = [opened.codec.encode_prompt(prompt) for prompt in prompts]
    fitting = [at for at, ids in enumerate(encoded) if len(ids) + max_new_tokens <= opened.context]
    said = answering.answer(
        opened.model, [encoded[at] for at in fitting], stops=answering.stop_ids(opened.model, opened.codec),
        max_new_tokens=max_new_tokens, batch_rows=batch_rows, deadline=deadline, temperature=temperature,
        told=told)
    found: list[Answer | str] = [f"{len(ids)} tokens of prompt and {max_new_tokens} of answer, the model takes "
                                 f"{opened.context}" for ids in encoded]
    for at, each in zip(fitting, said, strict=True):
        found[at] = Answer(opened.codec.decode(each.token_ids), len(each.token_ids), each.truncated)
    return found
