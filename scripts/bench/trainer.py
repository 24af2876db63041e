"""``scripts/bench/trainer``: tokens a second of trainq's training, of a bare loop, and of ``transformers.Trainer``.

All ways do the same work in one process: the same start weights, the same rows in the same batches with the same
padding, the same loss (the sum over trained tokens by their number), the same fused AdamW over the same two groups, the
same clipping and learning rates, as many threads. They take turns; a round's first is the next one's last. That they
did the same work is checked: the losses of the last step and the weights at the end must be the same, to a tolerance.

* ``trainq`` is :func:`trainq.ml.training.train` over a prepared shard: rows read from disk, collated, hashed into the
  ledger, metrics written. From its first step to the end of its last one: the checkpoint behind that is not in it.
* ``bare`` is the loop below. Its batches are tensors before the clock starts: it reads, collates and writes nothing.
* ``bare, free`` is the same without torch's deterministic kernels, which trainq cannot do without.
* ``Trainer`` is ``transformers.Trainer`` with its own data loader and the same collation; it logs and saves nothing.

Tokens are those of the rows, without padding. The ratios are of the two in one round; the lower bound is one-sided, of
95 %, by the t distribution over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from bench import tables
from trainq import files, preparing
from trainq.config import DataSettings, Home, TrainSettings
from trainq.ml import batches, determinism, line, model, training
from trainq.ml.batches import Plan
from trainq.modelfolder import context_tokens, model_folder
from trainq.shards import Shard, ShardRow
from trainq.textcodec import TextCodec

SEED = 3
# Of the last step's loss, and of any weight at the end. The ways differ by the order of floating-point sums alone.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-4, 1e-3


@dataclass(frozen=True)
class Run:
    """One way's turn: seconds from the first step to the end of the last, the last loss, and the weights."""

    seconds: float
    loss: float
    weights: dict[str, torch.Tensor]


class Work:
    """What all ways do: a shard, its plan, and the weights to begin with."""

    def __init__(self, folder: Path, model_path: str, steps: int, batch_rows: int, threads: int) -> None:
        self.folder, self.model_path = folder, model_path
        self.settings = TrainSettings(epochs=1, batch_rows=batch_rows, micro_batch_rows=batch_rows, threads=threads,
                                      learning_rate=1e-3, warmup_steps=10, checkpoint_seconds=86_400.0)
        self.path = _prepare(folder, model_path, steps * batch_rows)
        with Shard.open(self.path, verify=True) as shard:
            self.shard_digest, self.tokens = shard.digest, shard.tokens
            plan = Plan(shard.digest, shard.lengths(), self.settings)
            self.steps: list[list[ShardRow]] = [[shard.row(row) for row in micro_batch] for step in range(plan.steps)
                                                for micro_batch in plan.micro_batches_of_step(step, batch_rows)]
        assert len(self.steps) == steps, "one micro-batch a step"
        self.start = line.begin(model_path, SEED).model
        self.pad = model.pad_token_id(self.start)

    def fresh(self) -> Any:
        made = copy.deepcopy(self.start)
        made.train()
        return made

    def rate(self, step: int) -> float:
        return self.settings.learning_rate * min(1.0, (step + 1) / self.settings.warmup_steps)

    def optimizer(self, trained: Any) -> torch.optim.AdamW:
        """AdamW as trainq has it, written out again, so that it is compared and not taken for granted."""
        parameters = [each for each in trained.parameters() if each.requires_grad]
        return torch.optim.AdamW(
            [{"params": [each for each in parameters if each.ndim >= 2], "weight_decay": self.settings.weight_decay},
             {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0}],
            lr=self.settings.learning_rate, betas=(0.9, 0.95), fused=True)


def _prepare(folder: Path, model_path: str, rows: int) -> Path:
    """A shard of exactly so many rows of uneven length."""
    source = folder / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps({
        "prompt": f"What is {number} and {number % 7}?", "completion": f"It is {number}. " * (1 + number * 7 % 13),
    }) + b"\n" for number in range(rows)))
    place = model_folder(model_path)
    outcome = preparing.prepare(source, TextCodec.load(place), DataSettings(held_out_fraction=0.0),
                                context_tokens(place), folder / "cache", folder / "rejected", "rows", lambda _: None)
    assert isinstance(outcome, preparing.Prepared), outcome
    assert outcome.report.trained == rows, outcome.report
    return folder / "cache" / outcome.shard


class _Clock(training.Observer):
    """An observer that wants nothing and looks at the clock."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.ended = self.loss = math.nan

    def wish(self) -> training.Wish:
        self.began = self.began or time.perf_counter()
        return training.Wish.GO_ON

    def stepped(self, metrics: Any, _cursor: Any) -> None:
        self.ended, self.loss = time.perf_counter(), metrics.loss

    def publishing(self, size_bytes: int, *, waits: bool) -> None:
        pass

    def decide(self, effects: Any, reason: str) -> bool:
        raise AssertionError(f"{effects}: {reason}")

    def published(self, publication: Any) -> None:
        pass

    def taken_back(self, reason: str) -> None:
        raise AssertionError(reason)

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        pass


def with_trainq(work: Work) -> Run:
    with tempfile.TemporaryDirectory(dir=work.folder) as folder:
        home, clock = Home(Path(folder)), _Clock()
        for each in home.folders():
            files.make_directory(each)
        begun = line.begin(work.model_path, SEED)
        job = training.Job(id="train-1", token=1, shard=work.path, shard_digest=work.shard_digest,
                           settings=work.settings, journal_seq=1)
        training.train(begun, job, home, clock)
        assert clock.began is not None
        return Run(clock.ended - clock.began, clock.loss, begun.model.state_dict())


def with_a_bare_loop(work: Work) -> Run:
    """The loop to beat: what must be done for a step, and nothing else."""
    trained = work.fresh()
    optimizer = work.optimizer(trained)
    ready = [(batch.tokens_bt, batch.labels_bt, sum(batches.targets(row) for row in rows))
             for rows in work.steps for batch in [batches.collate(rows, work.pad)]]
    parameters = list(trained.parameters())
    began, last = time.perf_counter(), math.nan
    for step, (tokens_bt, labels_bt, targets) in enumerate(ready):
        for group in optimizer.param_groups:
            group["lr"] = work.rate(step)
        logits_btv = trained(input_ids=tokens_bt, use_cache=False).logits
        loss = cross_entropy(logits_btv[:, :-1].flatten(0, 1).float(), labels_bt[:, 1:].flatten(),
                             ignore_index=batches.NOT_TRAINED, reduction="sum") / targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, work.settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        last = float(loss.detach())
    return Run(time.perf_counter() - began, last, trained.state_dict())


def with_a_free_loop(work: Work) -> Run:
    torch.use_deterministic_algorithms(False)
    try:
        return with_a_bare_loop(work)
    finally:
        torch.use_deterministic_algorithms(True)


class _Rows(torch.utils.data.Dataset[ShardRow]):
    """The rows in the order of the plan."""

    def __init__(self, rows: list[ShardRow]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ShardRow:
        return self._rows[index]


class _Stopwatch(TrainerCallback):
    began = ended = math.nan

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.began = time.perf_counter()

    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self.ended = time.perf_counter()


class _InOrder(Trainer):
    """The plan's order, and the last loss kept."""

    last_loss = math.nan

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*arguments, **named)
        self.last_loss = float(loss)
        return loss


def with_the_trainer(work: Work) -> Run:
    trained, stopwatch = work.fresh(), _Stopwatch()
    optimizer = work.optimizer(trained)

    def collate(rows: list[ShardRow]) -> dict[str, torch.Tensor]:
        batch = batches.collate(rows, work.pad)
        return {"input_ids": batch.tokens_bt, "labels": batch.labels_bt}

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: work.rate(step) / work.settings.learning_rate)
    arguments = TrainingArguments(
        output_dir=str(work.folder / "trainer"), per_device_train_batch_size=work.settings.batch_rows,
        num_train_epochs=1, max_grad_norm=work.settings.max_grad_norm, use_cpu=True, report_to=[], disable_tqdm=True,
        save_strategy="no", logging_strategy="no", remove_unused_columns=False, dataloader_pin_memory=False, seed=SEED)
    trainer = _InOrder(model=trained, args=arguments, train_dataset=_Rows([row for rows in work.steps for row in rows]),
                       data_collator=collate, optimizers=(optimizer, schedule), callbacks=[stopwatch])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return Run(stopwatch.ended - stopwatch.began, trainer.last_loss, trained.state_dict())


WAYS: dict[str, Callable[[Work], Run]] = {
    "trainq": with_trainq, "bare": with_a_bare_loop, "bare, free": with_a_free_loop, "Trainer": with_the_trainer}


def check_same_work(runs: dict[str, Run]) -> None:
    """End the measurement if a way did something else than the others."""
    reference = runs["bare"]
    for name, run in runs.items():
        apart = max(float((run.weights[key] - tensor).abs().max()) for key, tensor in reference.weights.items())
        if not (abs(run.loss - reference.loss) <= LOSS_TOLERANCE and apart <= WEIGHT_TOLERANCE):
            sys.exit(f"{name} did other work than the bare loop: loss {run.loss} instead of {reference.loss}, weights "
                     f"{apart:.2g} apart")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of a turn")
    parser.add_argument("--batch-rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="0: one for each processor")
    parser.add_argument("--model", default="", help="a folder; default: the built-in model")
    given = parser.parse_args()
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), given.model, given.steps, given.batch_rows, given.threads)
        check_same_work({name: way(work) for name, way in WAYS.items()})  # and warms all of them up
        speeds: dict[str, list[float]] = {name: [] for name in WAYS}
        names = list(WAYS)
        for _ in range(given.rounds):
            runs = {name: WAYS[name](work) for name in names}
            check_same_work(runs)
            for name, run in runs.items():
                speeds[name].append(work.tokens / run.seconds)
            names = [*names[1:], names[0]]
        parameters = sum(each.numel() for each in work.start.parameters())
    print(f"{tables.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads; "
          f"{parameters / 1e6:.1f} M parameters; {given.rounds} rounds of {given.steps} steps of {given.batch_rows} "
          f"rows, {work.tokens} tokens\n")
    rows = []
    for name in WAYS:
        ratios = [own / bare for own, bare in zip(speeds[name], speeds["bare"], strict=True)]
        rows.append([name, *tables.spread(speeds[name], 0)[1:], *tables.mean_and_lower(ratios)])
    print("\n".join(tables.lines(["tokens/s", "least", "median", "most", "of bare", "at least (95 %)"], rows)))
    ratios = [own / theirs for own, theirs in zip(speeds["trainq"], speeds["Trainer"], strict=True)]
    print(f"\ntrainq / Trainer: {tables.mean_and_lower(ratios)[0]}, at least {tables.mean_and_lower(ratios)[1]} (95 %)")


if __name__ == "__main__":
    main()
