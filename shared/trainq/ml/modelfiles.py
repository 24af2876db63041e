"""The files of a model folder, as :meth:`transformers.PreTrainedModel.save_pretrained` would write them, unwritten.

Which weights lie in which file under which name is that method's recipe, taken from the same functions: weights to be
left out, tied ones once, conversions undone, shards (transformers 5, ``modeling_utils.py``). What it gives is compared
with what that method writes, byte for byte, in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from trainq.ml import adapter

METADATA = {"format": "pt"}
_PATTERN, _INDEX = "model{suffix}.safetensors", "model.safetensors.index.json"
# What save_pretrained's own default is.
MAX_SHARD_SIZE = "50GB"

_Tensors = dict[str, torch.Tensor]


class ModelFiles(NamedTuple):
    """``small`` files by name; ``weights`` by file and name, as they lie in the model: detached, not copied.

    ``trained`` are the names of those that an optimizer moves, or may move.
    """

    small: Mapping[str, bytes]
    weights: Mapping[str, Mapping[str, torch.Tensor]]
    trained: frozenset[str]


class _Known(NamedTuple):
    """What was found out for a model: its tensors' names, places, types and shapes, and what lies where under them."""

    signature: list[tuple[str, int, torch.dtype, torch.Size]]
    small: dict[str, bytes]
    names: dict[str, dict[str, str]]
    trained: frozenset[str]


class ModelFolder:
    """Lays out one model again and again; what is the same each time is found out once."""

    def __init__(self, max_shard_size: str = MAX_SHARD_SIZE) -> None:
        self._max_shard_size = max_shard_size
        self._known: _Known | None = None

    def of(self, model: PreTrainedModel) -> ModelFiles:
        """The files of the model as it is now; of an adapted one, those of the weights under the adapter."""
        if adapter.is_adapted(model):
            plain, state = adapter.weights_under(model)
        else:
            plain, state = model, dict(model.state_dict())
        signature = [(name, tensor.data_ptr(), tensor.dtype, tensor.shape) for name, tensor in state.items()]
        if self._known is None or self._known.signature != signature:
            self._known = None
            small, weights = self._lay_out(plain, dict(state))
            names = _as_names(state, weights)
            if names is None:  # they are made anew each time, of whatever
                return ModelFiles(small, weights, frozenset(name for inside in weights.values() for name in inside))
            moved = {name for name, parameter in plain.named_parameters(remove_duplicate=False)
                     if parameter.requires_grad}
            trained = frozenset(name for inside in names.values() for name, own in inside.items() if own in moved)
            self._known = _Known(signature, small, names, trained)
        known = self._known
        return ModelFiles(known.small, {file: {name: state[own] for name, own in inside.items()}
                                        for file, inside in known.names.items()}, known.trained)

    def _lay_out(self, model: PreTrainedModel, state: _Tensors) -> tuple[dict[str, bytes], dict[str, _Tensors]]:
        small = _configurations(model)
        for name in model._keys_to_ignore_on_save or ():
            state.pop(name, None)
        state = remove_tied_weights_from_state_dict(state, model)
        state = revert_weight_conversion(model, state)
        split = split_torch_state_dict_into_shards(state, filename_pattern=_PATTERN,
                                                   max_shard_size=self._max_shard_size)
        if split.is_sharded:
            index = {"metadata": {"total_parameters": model.num_parameters(), **split.metadata},
                     "weight_map": split.tensor_to_filename}
            small[_INDEX] = (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()
        return small, {file: {name: state[name] for name in names}
                       for file, names in split.filename_to_tensors.items()}


def _configurations(model: PreTrainedModel) -> dict[str, bytes]:
    # As save_pretrained does, the configuration says what the weights are now.
    config: Any = model.config
    config.dtype = str(model.dtype).removeprefix("torch.")
    config.architectures = [type(model).__name__]
    small = {"config.json": config.to_json_string(use_diff=True).encode()}
    if model.can_generate():
        generation: Any = model.generation_config
        small["generation_config.json"] = generation.to_json_string(
            use_diff=True, keys_to_pop=["compile_config"]).encode()
    return small


def _as_names(state: _Tensors, weights: dict[str, _Tensors]) -> dict[str, dict[str, str]] | None:
    """The weights by the names that they have in ``state``; None if one of them is none of those tensors."""
    own = {id(tensor): name for name, tensor in state.items()}
    if not all(id(tensor) in own for inside in weights.values() for tensor in inside.values()):
        return None
    return {file: {name: own[id(tensor)] for name, tensor in inside.items()} for file, inside in weights.items()}
