"""How long the training loop stands still for a checkpoint: waited for, beside the steps, and a bare copy of the state.

All of it in one process, in turn, each round in another order; the step that follows each is timed, too. The bare copy
is one ``copy_`` a tensor of weights and moments into memory that is allocated and was written before.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig

from bench import tables
from trainq import builtin, checkpoints, files
from trainq.checkpoints import Cursor
from trainq.config import Home, TrainSettings
from trainq.ml import batches, checkpointing, determinism, line, model, modelfiles, optimizer, stepping
from trainq.ml.line import ModelLine
from trainq.shards import Shard, ShardWriter

_MANY = 1_000_000


def hundred_million() -> LlamaConfig:
    """A Llama of 101 million parameters."""
    return LlamaConfig(
        vocab_size=262, hidden_size=768, intermediate_size=2048, num_hidden_layers=14, num_attention_heads=12,
        max_position_embeddings=builtin.CONTEXT_TOKENS, tie_word_embeddings=True, pad_token_id=256, bos_token_id=257,
        eos_token_id=258)


class Bench:
    """A line in the middle of a job, that makes a step or a checkpoint when it is told."""

    def __init__(self, folder: Path, config: LlamaConfig, rows: int, tokens: int, threads: int) -> None:
        self.home = Home(folder / "home")
        for each in self.home.folders():
            files.make_directory(each)
        torch.manual_seed(1)
        made = model.make(config)
        model.save(made, model.read_companions(builtin.folder()), _made(folder / "model"))
        self.parameters = made.num_parameters()
        with files.publish_directory(folder / "shard") as where, \
                ShardWriter(where, key="bench", context_tokens=tokens) as writer:
            for row in range(16):
                ids = [(row * 31 + at * at * 7) % 256 for at in range(tokens)]
                writer.append(ids, [True] * tokens, bytes([row]) * 32, row + 1)
            writer.seal(b"{}")
        self.settings = TrainSettings(epochs=_MANY, batch_rows=rows, micro_batch_rows=rows, threads=threads)
        determinism.set_threads(threads)
        self.line: ModelLine = line.begin(str(folder / "model"), 1)
        self.shard = Shard.open(folder / "shard", verify=True)
        self.plan = batches.Plan(self.shard.digest, self.shard.lengths(), self.settings)
        checkpointing.publish(self.line, self.home, "initial")
        self.line.facts = self.line.facts.__class__(**{
            **{name: getattr(self.line.facts, name) for name in self.line.facts.__struct_fields__},
            "cursor": Cursor(job="bench", shard=self.shard.digest, steps_planned=self.plan.steps)})
        self.beside = checkpointing.Beside(self.line, self.home)
        self.step()
        live = [tensor for tensors in modelfiles.ModelFolder().of(self.line.model).weights.values()
                for tensor in tensors.values()]
        self._live = [*live, *optimizer.state_tensors(self.line.model, self.line.optimizer).values()]
        self._copies = [torch.zeros_like(tensor) for tensor in self._live]
        self.bytes = sum(tensor.numel() * tensor.element_size() for tensor in self._live)
        self.warm_seconds = self._warm()

    def _warm(self) -> float:
        """The first checkpoint beside the steps, which allocates its memory; gives how long it stood still."""
        self.beside.begin("interval", lambda: None)
        publication = self.beside.take(wait=True)
        assert publication is not None
        return publication.seconds - publication.write_seconds

    def step(self) -> float:
        """One optimizer step, and how long it took."""
        return stepping.step(self.line, self.shard, self.plan, self.settings, self.settings.micro_batch_rows).seconds

    def nothing(self) -> dict[str, float]:
        return {"a step": self.step()}

    def copy(self) -> dict[str, float]:
        started = time.perf_counter()
        with torch.no_grad():
            for copy, tensor in zip(self._copies, self._live, strict=True):
                copy.copy_(tensor)
        return {"copy": time.perf_counter() - started, "step after copy": self.step()}

    def waited_for(self) -> dict[str, float]:
        started = time.perf_counter()
        publication = checkpointing.publish(self.line, self.home, "interval")
        return {"waited for": time.perf_counter() - started, "write, waited for": publication.write_seconds,
                "step after waited for": self.step()}

    def beside_the_steps(self) -> dict[str, float]:
        started = time.perf_counter()
        self.beside.begin("interval", lambda: None)
        stood_still = time.perf_counter() - started
        steps = []
        publication = None
        while publication is None:
            steps.append(self.step())
            started = time.perf_counter()
            publication = self.beside.take(wait=False)
            stood_still += time.perf_counter() - started
        return {"beside": stood_still, "write, beside": publication.write_seconds, "step beside": steps[0],
                "slower by": sum(steps), "steps beside": float(len(steps))}

    def clear(self) -> None:
        """Remove all but the newest generation."""
        for old in checkpoints.list_generations(self.home.checkpoints)[1:]:
            files.remove_tree(old)


def _made(folder: Path) -> Path:
    files.make_directory(folder)
    return folder


def measure(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """So many rounds of each, the order drawn anew each time."""
    found: dict[str, list[float]] = defaultdict(list)
    kinds: list[Callable[[], dict[str, float]]] = [
        bench.nothing, bench.copy, bench.waited_for, bench.beside_the_steps]
    order = random.Random(1)
    for _ in range(rounds):
        order.shuffle(kinds)
        for kind in kinds:
            for name, value in kind().items():
                found[name].append(value)
            bench.clear()
            bench.step()  # what the one before has left behind is none of the next one's
    quiet = median(found["a step"])
    # All that the steps beside the write took longer than as many quiet ones.
    found["slower by"] = [took - quiet * count for took, count in
                          zip(found["slower by"], found["steps beside"], strict=True)]
    return found


def report(name: str, bench: Bench, found: dict[str, list[float]]) -> list[str]:
    """A table of milliseconds."""
    copy = median(found["copy"])
    names = ("copy", "beside", "waited for", "a step", "step after copy", "step beside", "step after waited for",
             "slower by", "write, beside", "write, waited for")
    rows = [[each, *tables.spread([1000 * value for value in found[each]], 1),
             f"{median(found[each]) / copy:.2f}" if each in ("copy", "beside", "waited for") else ""]
            for each in names]
    return [f"{name}: {bench.parameters / 1e6:.1f} million parameters, a state of {bench.bytes / 1e6:.0f} MB, "
            f"{torch.get_num_threads()} threads; the first one beside stood still for "
            f"{1000 * bench.warm_seconds:.0f} ms (it allocates its memory)", "",
            *tables.lines(["ms", "n", "min", "median", "max", "of the copy"], rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="0: one for each processor")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured (default: the temporary one)")
    given = parser.parse_args()
    model.silence_libraries()
    determinism.enforce()
    for name, config, rows, tokens in (("built-in", model.builtin_config(), 16, 128),
                                       ("large", hundred_million(), 2, 128)):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            bench = Bench(Path(folder), config, rows, tokens, given.threads)
            sys.stdout.write("\n".join(report(name, bench, measure(bench, given.rounds))) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"\n{tables.machine()}\n")


if __name__ == "__main__":
    main()
