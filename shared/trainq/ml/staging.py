"""Staging: the whole state of the line laid out in host memory, as the files that a generation will be.

This is all that the training loop waits for when a checkpoint is written beside it. Nothing here changes a weight, a
moment or a generator of random numbers, and nothing touches the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import torch

from trainq.checkpoints import CheckpointFacts
from trainq.ml import adapter, ledger, modelfiles, optimizer, randomness
from trainq.ml.hostmemory import HostMemoryShortError, host_tensor
from trainq.ml.line import ModelLine
from trainq.ml.writing import HostTensor, Staged, TensorFile

OPTIMIZER, RNG, STATE = "optimizer.safetensors", "rng.safetensors", "state.json"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """``state.json``: what is neither a tensor nor one of the facts."""

    rng: randomness.Remainder


class _Part(NamedTuple):
    """A safetensors file to be, its tensors where they live."""

    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str] | None = None
    checked: frozenset[str] = frozenset()


def stage(line: ModelLine, facts: CheckpointFacts, *, steps_go_on: bool) -> Staged:
    """The state of now as the generation that ``facts`` describe (but for its number).

    Args:
        line: whose.
        facts: what its manifest is to say.
        steps_go_on: copy everything, so that steps can be done while it is written. Else what lies in host memory is
            written from where it lies.
    """
    model = line.model
    small = dict(line.companions)
    parts = {OPTIMIZER: _Part(optimizer.state_tensors(line.model, line.optimizer))}
    if adapter.is_adapted(model):
        content = adapter.content(model)
        small[content.config_path] = content.config
        parts[content.tensors_path] = _Part(content.tensors, checked=frozenset(content.tensors))
    if line.publishes_weights:
        found = line.folder.of(model)
        small |= found.small
        # What lies under an adapter is not trained.
        trained = frozenset[str]() if adapter.is_adapted(model) else found.trained
        parts |= {file: _Part(tensors, modelfiles.METADATA, trained & tensors.keys())
                  for file, tensors in found.weights.items()}
    rng_tensors, rng_remainder = randomness.capture()
    small |= {STATE: msgspec.json.encode(State(rng=rng_remainder)) + b"\n", ledger.NAME: bytes(line.ledger)}
    # The generators' states are copies already.
    in_files = _in_host_memory(line, parts, copied=steps_go_on) | {RNG: TensorFile(
        tensors={name: host_tensor(tensor) for name, tensor in rng_tensors.items()})}
    return Staged(facts=facts, above=line.generation_floor, files={**small, **in_files},
                  holds_weights_under_adapter=adapter.is_adapted(model) and line.publishes_weights)


def _in_host_memory(line: ModelLine, parts: Mapping[str, _Part], *, copied: bool) -> dict[str, TensorFile]:
    live = {f"{file}:{name}": tensor for file, part in parts.items() for name, tensor in part.tensors.items()}
    hosts: dict[str, HostTensor] | None = None
    if copied or any(tensor.is_cuda for tensor in live.values()):
        try:
            hosts = line.memory.copy(live)
        except HostMemoryShortError:
            if copied:
                raise
    if hosts is None:  # where it lies, or in memory that need not be pinned
        hosts = {key: host_tensor(tensor) for key, tensor in live.items()}
    return {file: TensorFile(tensors={name: hosts[f"{file}:{name}"] for name in part.tensors},
                             metadata=part.metadata, checked=part.checked) for file, part in parts.items()}
