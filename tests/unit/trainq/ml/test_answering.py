"""Batches change no answer: not by padding, not by whom a row shares them with, not by rows that leave early."""

from __future__ import annotations

import copy
import gc
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Cache

from trainq import files
from trainq.ml import answering, generation, model
from trainq.ml.answering import Said, TimeIsOverError
from trainq.samples import Message
from trainq.textcodec import TextCodec

# A model answers in each of them.
pytestmark = pytest.mark.slow

END = 258
PROMPTS = ["one " * (1 + number * 7 % 9) + str(number) for number in range(9)]


@pytest.fixture(scope="module")
def talker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose fresh weights are so large that it says something else to each prompt."""
    folder = tmp_path_factory.mktemp("talker")
    made = model.load(tiny_model)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
    files.make_directory(folder)
    model.save(made, model.read_companions(tiny_model), folder)
    return folder


@pytest.fixture(scope="module")
def codec(talker: Path) -> TextCodec:
    return TextCodec.load(talker)


@pytest.fixture(scope="module")
def loaded(talker: Path) -> Any:
    made = model.load(talker)
    made.eval()
    return made


def ask(loaded: Any, codec: TextCodec, *, batch_rows: int, stops: frozenset[int] = frozenset({END}),
        most: int = 16, deadline: float = math.inf, told: Any = lambda _: None) -> list[Said]:
    prompts = [codec.encode_prompt([Message("user", prompt)]) for prompt in PROMPTS]
    return answering.answer(loaded, prompts, stops=stops, max_new_tokens=most, batch_rows=batch_rows,
                            deadline=deadline, told=told)


def test_a_batch_says_what_plain_generation_says_row_by_row(talker: Path, loaded: Any, codec: TextCodec) -> None:
    alone = generation.answer(talker, PROMPTS, max_new_tokens=16)
    for batch_rows in (1, 4, 16):
        said = ask(loaded, codec, batch_rows=batch_rows)
        assert [codec.decode(each.token_ids) for each in said] == alone
    assert len(set(alone)) == len(alone)


def test_rows_that_end_early_leave_the_batch_and_change_nothing(loaded: Any, codec: TextCodec) -> None:
    whole = ask(loaded, codec, batch_rows=9)

    def ends(token: int) -> set[int]:
        return {each.token_ids.index(token) for each in whole if token in each.token_ids}

    # The token that comes up at the most different places ends the answers there.
    stops = frozenset({END, max({token for each in whole for token in each.token_ids}, key=lambda one: len(ends(one)))})
    ended = ask(loaded, codec, batch_rows=9, stops=stops)
    for each, full in zip(ended, whole, strict=True):
        end = next((at + 1 for at, token in enumerate(full.token_ids) if token in stops), None)
        assert each == Said(full.token_ids[:end], truncated=end is None)
    assert len({len(each.token_ids) for each in ended}) > 3
    assert ask(loaded, codec, batch_rows=2, stops=stops) == ended


def test_what_the_model_s_own_files_want_of_generation_changes_nothing(loaded: Any, codec: TextCodec) -> None:
    plain = ask(loaded, codec, batch_rows=4)
    before = loaded.generation_config
    habits = copy.deepcopy(before)
    habits.update(repetition_penalty=9.0, no_repeat_ngram_size=1, min_new_tokens=3, max_length=12, num_beams=2,
                  do_sample=True, temperature=5.0, top_p=0.3, suppress_tokens=plain[0].token_ids[:1],
                  forced_eos_token_id=7, num_return_sequences=2, renormalize_logits=True)
    loaded.generation_config = habits
    try:
        assert ask(loaded, codec, batch_rows=4) == plain
        assert loaded.generation_config is habits
    finally:
        loaded.generation_config = before


def test_nothing_of_a_batch_outlives_it(loaded: Any, codec: TextCodec) -> None:
    told: list[int] = []
    ask(loaded, codec, batch_rows=4, most=3, told=told.append)
    assert told == [4, 8, 9]
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Cache)]


def test_the_deadline_is_kept_inside_of_a_batch(loaded: Any, codec: TextCodec) -> None:
    with pytest.raises(TimeIsOverError) as caught:
        ask(loaded, codec, batch_rows=4, deadline=time.monotonic() - 1)
    assert caught.value.answered == 0


def test_answers_end_where_the_model_and_its_template_say(loaded: Any, codec: TextCodec) -> None:
    assert answering.stop_ids(loaded, codec) == {END}
    named = loaded.generation_config.eos_token_id
    try:
        loaded.generation_config.eos_token_id = None
        assert answering.stop_ids(loaded, codec) == {END}
        loaded.generation_config.eos_token_id = [7, 8]
        assert answering.stop_ids(loaded, codec) == {7, 8, END}
    finally:
        loaded.generation_config.eos_token_id = named
