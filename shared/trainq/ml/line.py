"""The model line in memory: the one model that learns from file after file, its optimizer, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from trainq import __version__
from trainq.checkpoints import CheckpointFacts, Cursor
from trainq.config import LoraSettings
from trainq.errors import InputError
from trainq.ml import adapter, determinism, model, optimizer
from trainq.ml.hostmemory import HostMemory
from trainq.ml.modelfiles import ModelFolder
from trainq.ml.writing import Writer

NO_ADAPTER = LoraSettings()


@dataclass(slots=True)
class ModelLine:
    """Everything that a checkpoint holds, alive. The generators of random numbers belong to the process.

    ``facts`` describe the state in memory, ``head`` the newest published one; generation, parent and reason in
    ``facts`` are the head's until the next publication. ``ledger`` covers the cursor's job up to the cursor
    (:mod:`trainq.ml.ledger`). ``generation_floor`` is the newest generation that the journal knows: a number that it
    has seen is never given again, whatever became of its directory. ``recomputes``: activations are computed again in
    the backward pass. ``memory``, ``folder`` and ``writer`` are what its checkpoints are made with
    (:mod:`trainq.ml.staging`, :mod:`trainq.ml.writing`); a write is in flight only inside of
    :func:`trainq.ml.training.train`. ``checkpoint_cost_seconds`` is what the last one beside the steps has cost them.
    """

    accelerator: Accelerator
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    companions: Mapping[str, bytes]
    facts: CheckpointFacts
    head: CheckpointFacts | None
    ledger: bytearray = field(default_factory=bytearray)
    generation_floor: int = 0
    is_released: bool = False
    recomputes: bool = False
    memory: HostMemory = field(default_factory=HostMemory)
    folder: ModelFolder = field(default_factory=ModelFolder)
    writer: Writer = field(default_factory=Writer)
    checkpoint_cost_seconds: float = 0.0

    def release(self) -> None:
        """Let go of model and optimizer before others are loaded: a device may have no room for both.

        Nothing but the facts can be used after that.
        """
        if not self.is_released:
            self.is_released = True
            del self.model, self.optimizer
            self.memory = HostMemory()
            self.accelerator.free_memory()

    def adopt_recomputation(self, *, wanted: bool) -> None:
        """Keep the activations of the forward pass, or compute them again in the backward pass (a third more work).

        What is computed is the same: generators of random numbers are set back for it.

        Raises:
            InputError: this model cannot.
        """
        if wanted is self.recomputes:
            return
        if wanted:
            try:
                self._switch("enable")({"use_reentrant": False})
            except ValueError as error:
                raise InputError(str(error), field="train.gradient_checkpointing",
                                 mend="set it to false for this model") from error
        else:
            self._switch("disable")()
        self.recomputes = wanted

    def _switch(self, what: str) -> Callable[..., None]:
        # transformers has renamed it and warns of the former name; 5.17, say, has only that.
        names: Any = self.model
        found: Callable[..., None] = (getattr(names, f"activation_checkpointing_{what}", None)
                                      or getattr(names, f"gradient_checkpointing_{what}"))
        return found

    def become(self, other: ModelLine) -> None:
        """Be ``other`` from here on, for everybody who holds this; nobody may go on with ``other`` itself."""
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))

    @property
    def unpublished_steps(self) -> int:
        """How many steps the state in memory is ahead of the newest published one (meant inside one job)."""
        return self.facts.step - (self.head.step if self.head is not None else 0)

    @property
    def publishes_weights(self) -> bool:
        """Whether the next generation holds all weights; an adapter's do so only until one of them does."""
        return not self.facts.adapter_of

    @property
    def model_bytes(self) -> int:
        """What all of its parameters take in memory."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.model.parameters())

    @property
    def parameter_bytes(self) -> int:
        """What the parameters take that the next generation holds."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.model.parameters()
                   if self.publishes_weights or tensor.requires_grad)

    @property
    def checkpoint_bytes(self) -> int:
        """What a generation takes at most: those, and AdamW's two moments of all that is trained."""
        trained = sum(tensor.numel() * tensor.element_size() for tensor in self.model.parameters()
                      if tensor.requires_grad)
        return self.parameter_bytes + 2 * trained

    @property
    def has_unpublished_steps(self) -> bool:
        """Whether the state in memory is ahead of the newest published one."""
        return self.head is None or self.facts.step != self.head.step


def assemble(loaded: PreTrainedModel, companions: Mapping[str, bytes], facts: CheckpointFacts,
             head: CheckpointFacts | None) -> ModelLine:
    """Put the model on the device that ``accelerate`` chooses, in train mode, with a fresh optimizer."""
    accelerator = Accelerator(mixed_precision="no")
    placed = accelerator.prepare_model(loaded)
    placed.train()
    adamw = accelerator.prepare_optimizer(optimizer.make(placed))
    return ModelLine(accelerator=accelerator, model=placed, optimizer=adamw, companions=companions, facts=facts,
                     head=head)


def begin(model_path: str, seed: int, lora: LoraSettings = NO_ADAPTER) -> ModelLine:
    """A line at step 0: fresh weights for the built-in model (``model_path`` empty), or those of a local folder.

    With ``lora.rank`` an adapter is put on them, and they stay as they are.

    Raises:
        InputError: the folder holds no model that can be used, or no such adapter fits it.
    """
    determinism.seed(seed)
    loaded, name, tokenizer_folder = model.open_start(model_path)
    if lora.rank:
        determinism.seed(seed)
        loaded = adapter.wrap(loaded, lora)
    # Setting the seed again makes what follows independent of how many numbers the weights took.
    determinism.seed(seed)
    facts = CheckpointFacts(generation=0, step=0, cursor=Cursor(), journal_seq=0, fingerprint={}, rows_seen=0,
                            tokens_seen=0, model=name, created_by=f"trainq {__version__}", reason="initial",
                            versions=determinism.versions(adapted=bool(lora.rank)))
    return assemble(loaded, model.read_companions(tokenizer_folder), facts, head=None)
