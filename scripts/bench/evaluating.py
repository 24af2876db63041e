"""``scripts/bench/evaluate``: rows a second of a suite of answers, beside plain batched ``generate``.

All ways do the same work in one process, in turn: from the rows' messages to the texts of the answers, greedily, in
batches of as many rows, with as many threads. That they did is checked: the answers must be the same, but for rows in
which two tokens are as good as equal (they are counted; more than one in fifty end the measurement).

* ``trainq`` is what an evaluation does between opening the model and publishing the result: encoding the prompts,
  :func:`trainq.ml.answering.answer`, decoding, scoring; with torch's deterministic kernels.
* ``generate`` is ``apply_chat_template``, the tokenizer's own padding on the left, ``model.generate`` on the rows as
  they come, and ``batch_decode``; without them.
* ``generate, sorted`` is the same on rows sorted by the length of their prompts, as careful people have it.

The models have the built-in one's size and drawn weights: one that ends most answers, of lengths as uneven as chance
has them, and one that goes on with most of them until they are cut. The ratios are of the two in one round; the lower
bound is one-sided, of 95 %, by the t distribution over the rounds.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import tables
from trainq import builtin, suites
from trainq.ml import answering, determinism, model
from trainq.samples import Message
from trainq.suites import Suite
from trainq.textcodec import TextCodec

SEED = 3
_MOST_DIFFERENT = 0.02
# Of 262 tokens so many bytes end an answer where answers end.
_SPREAD, _ENDING_BYTES = 0.1, 4
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


class Asked(NamedTuple):
    """A suite, the folder with the model that is asked, and how many rows at once."""

    suite: Suite
    folder: Path
    batch_rows: int


class Run(NamedTuple):
    """One way's turn, from messages to texts."""

    seconds: float
    answers: list[str]
    tokens: tuple[int, ...] = ()


def rows(count: int) -> list[dict[str, Any]]:
    """Questions and answers of uneven length, all different."""
    return [{"prompt": f"{'Please. ' * (number * 5 % 9)}Say {_WORDS[number % 8]} {1 + number * 7 % 11} times "
                       f"({number}).",
             "completion": " ".join([_WORDS[number % 8]] * (1 + number * 7 % 11))}
            for number in range(count)]


def drawn(folder: Path, *, ends: bool) -> Path:
    """A model of the built-in one's size whose weights are so wide that it says something else to each prompt.

    If it ``ends``, each of some bytes ends an answer, as a list of tokens in its configuration says: their lengths are
    then as uneven as those of chance.
    """
    torch.manual_seed(SEED)
    made: Any = model.make(model.builtin_config())
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=_SPREAD)
    if ends:
        made.generation_config.eos_token_id = [made.config.eos_token_id, *range(_ENDING_BYTES)]
    path = folder / f"model-{'ends' if ends else 'goes-on'}"
    path.mkdir()
    model.save(made, model.read_companions(builtin.folder()), path)
    return path


def with_trainq(asked: Asked) -> Run:
    codec, scorer, cases = TextCodec.load(asked.folder), asked.suite.make_scorer(), asked.suite.cases()
    loaded: Any = model.load(asked.folder)
    loaded.eval()
    began = time.perf_counter()
    prompts = [codec.encode_prompt(case.prompt) for case in cases]
    said = answering.answer(loaded, prompts, stops=answering.stop_ids(loaded, codec), deadline=math.inf,
                            max_new_tokens=asked.suite.max_new_tokens, batch_rows=asked.batch_rows)
    answers = [codec.decode(each.token_ids) for each in said]
    scorer.scores(cases, answers)
    return Run(time.perf_counter() - began, answers, tuple(len(each.token_ids) for each in said))


def with_generate(asked: Asked, *, is_sorted: bool = False) -> Run:
    tokenizer: Any = AutoTokenizer.from_pretrained(asked.folder, padding_side="left")
    automatic: Any = AutoModelForCausalLM
    loaded = automatic.from_pretrained(asked.folder)
    loaded.eval()
    chats = [[_plain(message) for message in case.prompt] for case in asked.suite.cases()]
    torch.use_deterministic_algorithms(False)
    try:
        began = time.perf_counter()
        order = sorted(range(len(chats)), key=lambda row: -len(str(chats[row]))) if is_sorted else range(len(chats))
        answers: dict[int, str] = {}
        for start in range(0, len(chats), asked.batch_rows):
            taken = list(order[start:start + asked.batch_rows])
            inputs = tokenizer.apply_chat_template(
                [chats[row] for row in taken], add_generation_prompt=True, padding=True, return_tensors="pt",
                return_dict=True)
            with torch.inference_mode():
                said = loaded.generate(**inputs, do_sample=False, max_new_tokens=asked.suite.max_new_tokens)
            texts = tokenizer.batch_decode(said[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
            answers.update(zip(taken, texts, strict=True))
        return Run(time.perf_counter() - began, [answers[row] for row in range(len(chats))])
    finally:
        torch.use_deterministic_algorithms(True)


def with_generate_sorted(asked: Asked) -> Run:
    return with_generate(asked, is_sorted=True)


WAYS: dict[str, Callable[[Asked], Run]] = {
    "trainq": with_trainq, "generate": with_generate, "generate, sorted": with_generate_sorted}


def _plain(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def different(runs: dict[str, Run]) -> int:
    """In how many rows a way's answer is not that of plain generate; ends the measurement if they are many."""
    reference = runs["generate"].answers
    most = 0
    for name, run in runs.items():
        count = sum(own != theirs for own, theirs in zip(run.answers, reference, strict=True))
        if count > _MOST_DIFFERENT * len(reference):
            sys.exit(f"{name} did other work than generate: {count} of {len(reference)} answers differ")
        most = max(most, count)
    return most


def measure(asked: Asked, rounds: int) -> tuple[dict[str, list[float]], int, list[int]]:
    """Rows a second of each way, the most answers that differed, and the new tokens of each."""
    warm = {name: way(asked) for name, way in WAYS.items()}
    most, names = different(warm), list(WAYS)
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        runs = {name: WAYS[name](asked) for name in names}
        most = max(most, different(runs))
        for name, run in runs.items():
            speeds[name].append(len(run.answers) / run.seconds)
        names = [*names[1:], names[0]]
    return speeds, most, list(warm["trainq"].tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--batch-rows", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=0, help="0: one for each processor")
    given = parser.parse_args()
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(given.threads)
    print(f"{tables.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads; {given.rounds} rounds of "
          f"{given.rows} rows in batches of {given.batch_rows}, at most {given.max_new_tokens} new tokens")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        suite = suites.write(folder / "asked", rows(given.rows), kind="generate", scorer="exact",
                             max_new_tokens=given.max_new_tokens)
        for ends in (True, False):
            speeds, most, sizes = measure(Asked(suite, drawn(folder, ends=ends), given.batch_rows), given.rounds)
            print(f"\n{'most answers end' if ends else 'most answers are cut'}: {mean(sizes):.0f} new tokens on the "
                  f"mean, {max(sizes)} at most; of {given.rows} answers at most {most} differ\n")
            body = []
            for name in WAYS:
                ratios = [own / theirs for own, theirs in zip(speeds[name], speeds["generate"], strict=True)]
                body.append([name, *tables.spread(speeds[name], 1)[1:], *tables.mean_and_lower(ratios)])
            header = ["rows/s", "least", "median", "most", "of generate", "at least (95 %)"]
            print("\n".join(tables.lines(header, body)), flush=True)


if __name__ == "__main__":
    main()
