"""Answers to many prompts in batches, greedy or drawn, with plain ``transformers`` generation.

Prompts are padded on the left, and the padding is masked, so that each row has the positions that it would have alone:
its answer is that of unbatched generation, but where two tokens are as good as equal (the order of floating-point sums
depends on the shape of the batch). Like lengths are put side by side. Rows that have ended leave the batch whenever
half of it has: plain ``generate`` carries each of them along until the last one ends.

What a model says is what it finds most likely, token by token: what its own files want of its generation is not done
(a penalty for repetitions makes another model of it, of which no training and no loss knows).

Nothing of a batch outlives it: the cache of keys and values goes with it.

Shape suffixes: b rows, t tokens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, GenerationConfig, StoppingCriteria

from trainq.ml import model as models
from trainq.samples import ChatSample, Message
from trainq.textcodec import TextCodec


class Said(NamedTuple):
    """What a model has said, with the token that ended it; ``truncated`` if it was not done saying it.

    Decoding leaves that token out where it is a special one. Where it is text, it belongs to the answer.
    """

    token_ids: list[int]
    truncated: bool


class TimeIsOverError(Exception):
    """The deadline came when ``answered`` rows were done."""

    def __init__(self, answered: int) -> None:
        self.answered = answered
        super().__init__(f"{answered} rows were done")


def stop_ids(model: Any, codec: TextCodec) -> frozenset[int]:
    """The tokens that end an answer.

    Those that the model and its tokenizer name, and the one that its template puts behind an answer, which is what it
    was taught to end with: where a model's configuration forgets that one, answers would go on until they are cut.
    """
    named = model.generation_config.eos_token_id
    found = {*(named if isinstance(named, list) else [named]), codec.eos_id}
    row = codec.encode(ChatSample((Message("user", "a"), Message("assistant", "b"))), 1 << 20)
    last = max((at for at, trained in enumerate(row.trained) if trained), default=None)
    if last is not None and not codec.decode([row.token_ids[last]]):  # special: no text
        found.add(row.token_ids[last])
    return frozenset(found - {None})


def answer(model: Any, prompts: Sequence[Sequence[int]], *, stops: Collection[int], max_new_tokens: int,
           batch_rows: int, deadline: float, temperature: float = 0.0,
           told: Callable[[int], None] = lambda _: None) -> list[Said]:
    """What the model says to each prompt, in their order.

    Args:
        model: in evaluation mode, wherever it is to be computed.
        prompts: token ids, each with room for ``max_new_tokens`` behind it.
        stops: the tokens that end an answer.
        max_new_tokens: how long an answer may be.
        batch_rows: how many rows are asked at once.
        deadline: on the monotonic clock.
        temperature: 0 for greedy answers; else they are drawn from torch's own generator, from all tokens.
        told: is given the number of rows that are done, after each batch.

    Raises:
        TimeIsOverError: the deadline came first.
    """
    # The longest first: what does not fit into the memory does not fit at once, and not after an hour.
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    answers: dict[int, Said] = {}
    for start in range(0, len(order), batch_rows):
        rows = order[start:start + batch_rows]
        batch = _Batch(model, [prompts[row] for row in rows], frozenset(stops), deadline,
                       temperature)
        if not batch.run(max_new_tokens):
            raise TimeIsOverError(len(answers) + sum(batch.ended))
        answers.update(zip(rows, batch.said(), strict=True))
        told(len(answers))
    return [answers[row] for row in range(len(prompts))]


class _Batch:
    """Some rows, asked together."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], stops: frozenset[int], deadline: float,
                 temperature: float) -> None:
        self._model, self._stops, self._deadline = model, stops, deadline
        # A model's own configuration may cut the least likely tokens off, which is no draw from what it believes.
        self._draw: dict[str, Any] = {"do_sample": False} if not temperature else {
            "do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        self._pad = models.pad_token_id(model)
        self._new: list[list[int]] = [[] for _ in prompts]
        self.ended = [False] * len(prompts)
        width = max(map(len, prompts))
        self._tokens_bt = torch.tensor([[self._pad] * (width - len(ids)) + list(ids) for ids in prompts],
                                       device=model.device)
        self._mask_bt = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts],
                                     device=model.device)

    def run(self, max_new_tokens: int) -> bool:
        """Ask until all have ended or said as much as they may; whether that was before the deadline."""
        rows, cache, left = list(range(len(self._new))), None, max_new_tokens
        while rows and left:
            watch = _Watch(self._stops, self._deadline, len(rows) // 2)
            tokens_bt, cache = self._generate(cache, left, watch)
            new_bt = tokens_bt[:, self._tokens_bt.shape[1]:]
            left -= new_bt.shape[1]
            staying = [at for at, (row, ids) in enumerate(zip(rows, new_bt.tolist(), strict=True))
                       if not self._take(row, ids)]
            if watch.is_over:
                return False
            rows, cache = [rows[at] for at in staying], _of_rows(cache, staying)
            self._tokens_bt = tokens_bt[staying]
            self._mask_bt = torch.cat((self._mask_bt, torch.ones_like(new_bt)), dim=1)[staying]
        return True

    def said(self) -> list[Said]:
        return [Said(ids, not ended) for ids, ended in zip(self._new, self.ended, strict=True)]

    def _take(self, row: int, ids: Sequence[int]) -> bool:
        """Put ``ids`` behind what the row has said; whether it has ended with one of them."""
        for token in ids:
            self._new[row].append(token)
            if token in self._stops:
                self.ended[row] = True
                return True
        return False

    def _generate(self, cache: Any, left: int, watch: _Watch) -> tuple[torch.Tensor, Any]:
        settings = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers has no types
            **self._draw, num_beams=1, repetition_penalty=1.0, no_repeat_ngram_size=0, max_new_tokens=left,
            use_cache=True, return_dict_in_generate=True, pad_token_id=self._pad,
            eos_token_id=sorted(self._stops) or None)
        with torch.inference_mode(), _without_habits(self._model):
            found = self._model.generate(
                input_ids=self._tokens_bt, attention_mask=self._mask_bt, past_key_values=cache,
                generation_config=settings, stopping_criteria=[watch])
        return found.sequences, found.past_key_values


@contextlib.contextmanager
def _without_habits(model: Any) -> Iterator[None]:
    """What a model's files want of its generation (penalties, suppressed or forced tokens, lengths, beams) is not done.

    It is put out of the way, because ``generate`` fills from there what its own settings do not say, and there is no
    saying "no suppressed tokens": None is taken for nothing said.
    """
    before = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # transformers has no types
    try:
        yield
    finally:
        model.generation_config = before


def _of_rows(cache: Any, rows: list[int]) -> Any:
    """The cache of these rows alone; None, so that it is made anew, where it is of a kind that cannot be parted."""
    if not rows or not isinstance(cache, DynamicCache) \
            or not all(hasattr(layer, "batch_select_indices") for layer in cache.layers):
        return None
    cache.batch_select_indices(torch.tensor(rows))
    return cache


class _Watch(StoppingCriteria):
    """Between two steps: holds on when the deadline has come, and when only ``few`` rows have not ended."""

    def __init__(self, stops: frozenset[int], deadline: float, few: int) -> None:
        self._stops, self._deadline, self._few = sorted(stops), deadline, few
        self._ended_b: torch.Tensor | None = None
        self.is_over = False

    def __call__(self, input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        last_b = input_ids[:, -1]
        ended_b = torch.isin(last_b, torch.tensor(self._stops, device=last_b.device))
        self._ended_b = ended_b if self._ended_b is None else self._ended_b | ended_b
        self.is_over = self.is_over or time.monotonic() >= self._deadline
        if self.is_over or int((~self._ended_b).sum()) <= self._few:
            return torch.ones_like(ended_b)
        return ended_b
