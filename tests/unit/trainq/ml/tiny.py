"""What the tests of training share: an observer that follows a script, settings, and the two verbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlamaConfig

from trainq import builtin
from trainq.checkpoints import Cursor
from trainq.config import Home, LoraSettings, TrainSettings
from trainq.jobs import Effect
from trainq.ml import checkpointing, line, model, training
from trainq.ml.checkpointing import Publication
from trainq.ml.line import ModelLine
from trainq.ml.metrics import StepMetrics
from trainq.ml.training import Job, Outcome, Wish
from trainq.shards import Shard

SEED = 5
MakeShard = Callable[..., Path]


class Script:
    """An observer that wants ``what`` once the job has done ``at`` steps, and remembers everything.

    With ``line`` no step is done while a checkpoint of it is being written beside: what comes when is then certain.
    """

    def __init__(self, at: int = -1, what: Wish = Wish.STOP, line: ModelLine | None = None) -> None:
        self._at, self._what, self._done, self._line = at, what, 0, line
        self.steps: list[StepMetrics] = []
        self.publications: list[Publication] = []
        self.changes: list[tuple[dict[str, str], dict[str, str]]] = []
        self.announced: list[int] = []
        self.taken_backs: list[str] = []
        # What was recorded, in order; and whether it is to be left before anything more is.
        self.decided: list[tuple[tuple[Effect, ...], str]] = []
        self.records = True

    def wish(self) -> Wish:
        return self._what if self._done == self._at else Wish.GO_ON

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        assert metrics.job_step == cursor.job_step
        self._done = cursor.job_step
        self.steps.append(metrics)
        if self._line is not None:
            self._line.writer.wait()

    def publishing(self, size_bytes: int, *, waits: bool) -> None:  # noqa: ARG002  # an observer's
        self.announced.append(size_bytes)

    def published(self, publication: Publication) -> None:
        self.publications.append(publication)

    def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
        if self.records:
            self.decided.append((effects, reason))
        return self.records

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What a resumed job is given: one of the same kind and step replaces the one before."""
        return tuple({(effect.kind, effect.step): effect for each, _ in self.decided for effect in each}.values())

    def taken_back(self, reason: str) -> None:
        self.taken_backs.append(reason)

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        self.changes.append((before, after))

    @property
    def losses(self) -> list[float]:
        return [metrics.loss for metrics in self.steps]


SETTINGS = TrainSettings(epochs=2, batch_rows=3, micro_batch_rows=2, learning_rate=1e-2, warmup_steps=4, threads=1)
LENGTHS = (5, 9, 3, 12, 7, 4, 8)  # 7 rows: each epoch is 3, 3 and 1


def save_model(folder: Path) -> None:
    """Ten thousand parameters, with dropout, so that a lost generator state would show."""
    torch.manual_seed(11)
    made = model.make(LlamaConfig(
        vocab_size=262, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, attention_dropout=0.1, pad_token_id=256,
        bos_token_id=257, eos_token_id=258))
    model.save(made, model.read_companions(builtin.folder()), folder)


def job_over(shard: Path, name: str = "job-1", settings: TrainSettings = SETTINGS) -> Job:
    with Shard.open(shard, verify=False) as opened:
        return Job(id=name, token=1, shard=shard, shard_digest=opened.digest, settings=settings, journal_seq=40)


def start(tiny_model: Path, home: Home, lora: LoraSettings = line.NO_ADAPTER) -> ModelLine:
    """A line with its initial generation published."""
    begun = line.begin(str(tiny_model), SEED, lora)
    checkpointing.publish(begun, home, "initial")
    return begun


def train(begun: ModelLine, job: Job, home: Home, script: Script | None = None) -> tuple[Outcome, Script]:
    script = script or Script()
    return training.train(begun, job, home, script), script
