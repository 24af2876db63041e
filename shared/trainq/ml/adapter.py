"""LoRA: an adapter that learns in place of the weights under it, made and kept by ``peft``.

The adapter lies in the ``adapter`` folder of a checkpoint as ``peft`` writes it (``adapter_config.json``,
``adapter_model.safetensors``), so that plain ``PeftModel.from_pretrained(weights, adapter)`` loads it. Only LoRA's own
two matrices of each layer are trained and kept (https://arxiv.org/abs/2106.09685).

``peft`` takes two seconds to import, so it is imported only where there is an adapter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from transformers import PreTrainedModel

from trainq import files
from trainq.checkpoints import ADAPTER_FOLDER
from trainq.config import LoraSettings
from trainq.errors import DamageError, InputError

if TYPE_CHECKING:
    from peft import PeftModel

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
# How peft names the layers of an adapted model: the layer itself, and what is beside it.
_LAYER, _BESIDE = ".base_layer.", ".lora_"


def is_adapted(model: Any) -> TypeGuard[PeftModel]:
    """Whether an adapter lies on this model."""
    return hasattr(model, "get_base_model")


def wrap(model: PreTrainedModel, settings: LoraSettings) -> Any:
    """Put a fresh adapter on the model, drawn from torch's generator; it changes no answer before its first step.

    Raises:
        InputError: the model has no such layers.
    """
    from peft import LoraConfig

    return _wrap(model, LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, task_type="CAUSAL_LM",
        target_modules=list(settings.target_modules) or "all-linear"))


class Content(NamedTuple):
    """The two files of an adapter, by their paths in a checkpoint; ``tensors`` as they live, detached, not copied."""

    tensors_path: str
    tensors: Mapping[str, torch.Tensor]
    config_path: str
    config: bytes


def content(model: Any) -> Content:
    """What an adapter's folder is to hold."""
    from peft import get_peft_model_state_dict

    config = model.peft_config["default"].to_dict()
    # Sets have no order of their own, and a path means nothing elsewhere: the same adapter is the same bytes.
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    plain |= {"base_model_name_or_path": None, "inference_mode": False}
    return Content(
        f"{ADAPTER_FOLDER}/{_TENSORS}",
        {name: tensor.detach() for name, tensor in get_peft_model_state_dict(model).items()},
        f"{ADAPTER_FOLDER}/{_CONFIG}", msgspec.json.encode(plain, order="sorted", enc_hook=str) + b"\n")


def save(model: Any, checkpoint: Path) -> None:
    """Write the adapter below ``checkpoint``."""
    found = content(model)
    files.make_directory(checkpoint / ADAPTER_FOLDER)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in found.tensors.items()}
    (checkpoint / found.tensors_path).write_bytes(tensors_to_bytes(tensors))
    (checkpoint / found.config_path).write_bytes(found.config)


def settings_of(model: Any) -> dict[str, Any]:
    """Rank, alpha, dropout and layers of a model's adapter, as plain values; empty without one."""
    if not is_adapted(model):
        return {}
    config: Any = model.peft_config["default"]  # the base class of all kinds of adapter
    layers = config.target_modules
    return {"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout,
            "target_modules": layers if isinstance(layers, str) else sorted(layers or ())}


def load(model: PreTrainedModel, checkpoint: Path) -> Any:
    """Put the adapter below ``checkpoint`` on the weights that it was trained on.

    Raises:
        DamageError: it is no adapter of this model.
        StorageError: it could not be read, which proves nothing.
    """
    from peft import LoraConfig, get_peft_model_state_dict

    folder = checkpoint / ADAPTER_FOLDER
    try:
        config = LoraConfig.from_pretrained(str(folder), local_files_only=True)
        tensors = tensors_from_bytes((folder / _TENSORS).read_bytes())
        adapted = _wrap(model, config)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, InputError) as error:
        if isinstance(error, OSError) and files.is_machine_fault(error):
            raise files.storage_error(error, f"reading {folder}") from error
        raise DamageError(str(folder), f"no adapter: {error}") from error
    own = get_peft_model_state_dict(adapted)
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())[:5]
        raise DamageError(str(folder / _TENSORS), f"it is not this model's: missing or too many are {odd}")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape or tensor.dtype != tensors[name].dtype:
                raise DamageError(str(folder / _TENSORS), f"{name} is {tensors[name].dtype} "
                                  f"{list(tensors[name].shape)}, the model's {tensor.dtype} {list(tensor.shape)}")
            tensor.copy_(tensors[name])
    return adapted


def weights_under(model: Any) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """The model without its adapter, and its weights under the names that they have without one."""
    plain: PreTrainedModel = model.get_base_model()
    return plain, {name.replace(_LAYER, "."): tensor for name, tensor in plain.state_dict().items()
                   if _BESIDE not in name}


def merge(model: Any) -> PreTrainedModel:
    """Add the adapter to the weights under it, in place: one plain model that answers the same.

    Raises:
        InputError: a sum is not a finite number.
    """
    try:
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what safe_merge has found
        raise InputError(f"the adapter cannot be merged: {error}", mend="restore an earlier generation") from error
    return merged


def _wrap(model: PreTrainedModel, config: Any) -> Any:
    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            # It asks transformers for an attribute by its former name.
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise InputError(f"no adapter can be put on this model: {error}", field="lora.target_modules",
                         mend="name linear layers of the model, or leave it empty for all of them") from error
    adapted.train()
    return adapted
