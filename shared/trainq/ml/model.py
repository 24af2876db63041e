"""The model: the built-in small one made from scratch, or one from a local folder; and the files that go with it.

A folder is read with plain ``transformers``: nothing is fetched, no code in it is run, and only safetensors are read,
as bytes and not mapped (a truncated file must be an error and not a SIGBUS). A checkpoint is such a folder too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from trainq import builtin
from trainq.errors import InputError
from trainq.ml import adapter
from trainq.ml.writing import os_error_number

BUILTIN_NAME = "trainq-builtin"

# What may lie beside a model so that its tokenizer and its chat template work (transformers, PreTrainedTokenizerBase).
_COMPANIONS = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
)

# The built-in tokenizer: 256 bytes and six special tokens (trainq.builtin).
_PAD, _BOS, _END = 256, 257, 258
_VOCABULARY = 262


def silence_libraries() -> None:
    """No progress bars and no advice on stderr: what matters is raised."""
    library_logging: Any = transformers.utils.logging  # untyped functions
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()


def builtin_config() -> LlamaConfig:
    """1.8 million parameters, context 1024: small enough that two processor cores teach it a few facts in a minute.

    Weights start wider than Llama's 0.02, which is made for much wider layers: 0.04 learned the examples in fewer
    steps than 0.02 or 0.06.
    """
    return LlamaConfig(
        vocab_size=_VOCABULARY, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
        max_position_embeddings=builtin.CONTEXT_TOKENS, initializer_range=0.04, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        pad_token_id=_PAD, bos_token_id=_BOS, eos_token_id=_END)


def make(config: LlamaConfig) -> PreTrainedModel:
    """A model with fresh weights, drawn from torch's generator (set its seed first)."""
    model = LlamaForCausalLM(config)
    generation: Any = GenerationConfig  # an untyped constructor
    model.generation_config = generation(
        pad_token_id=config.pad_token_id, bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id)
    return model


def load(folder: Path) -> PreTrainedModel:
    """The model in ``folder``, in float32 on the CPU, every weight of it from there.

    Raises:
        InputError: it is no causal language model that is whole and known to ``transformers``.
    """
    automatic: Any = AutoModelForCausalLM  # typed as if it could not report
    model: PreTrainedModel
    report: dict[str, Any]
    try:
        model, report = automatic.from_pretrained(
            folder, config=AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
            local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
            disable_mmap=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise InputError(f"no model can be read from it: {error}", file=str(folder),
                         mend="name a local folder with config.json and model.safetensors") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report.get(what):
            raise InputError(f"its weights do not fit its config.json: {what} {sorted(map(str, report[what]))[:5]}",
                             file=str(folder), mend="restore the folder from where it came")
    # Weights that were read lie wherever the file had them; fresh memory is aligned as it is in an undisturbed run.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    model.train()
    return model


def open_start(path: str) -> tuple[PreTrainedModel, str, Path]:
    """The model with which a line begins: its weights, its name, and the folder that its tokenizer lies in.

    Args:
        path: a local folder, or empty for the built-in model.
    """
    if not path:
        return make(builtin_config()), BUILTIN_NAME, builtin.folder()
    folder = Path(path)
    return load(folder), folder.name, folder


def read_companions(folder: Path) -> dict[str, bytes]:
    """The tokenizer's files in ``folder``, by name.

    Raises:
        InputError: there is none.
    """
    companions = {name: (folder / name).read_bytes() for name in _COMPANIONS if (folder / name).is_file()}
    if not companions:
        raise InputError("there is no tokenizer in it", file=str(folder), mend="put the model's tokenizer.json there")
    return companions


def save(model: PreTrainedModel, companions: Mapping[str, bytes], folder: Path, *, with_weights: bool = True) -> None:
    """Write model and tokenizer so that ``from_pretrained(folder)`` loads both; the adapter beside it if there is one.

    Args:
        model: adapted or not.
        companions: the tokenizer's files.
        folder: an existing one.
        with_weights: false to leave out the weights under the adapter.

    Raises:
        OSError: the disk did not take it.
    """
    if adapter.is_adapted(model):
        adapter.save(model, folder)
    if with_weights:
        _save_weights(model, folder)
    for name, content in companions.items():
        (folder / name).write_bytes(content)


def _save_weights(model: PreTrainedModel, folder: Path) -> None:
    try:
        if adapter.is_adapted(model):
            plain, weights = adapter.weights_under(model)
            plain.save_pretrained(folder, state_dict=weights)
        else:
            model.save_pretrained(folder)
    except SafetensorError as error:
        number = os_error_number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(folder)) from error


def context_tokens(model: PreTrainedModel) -> int | None:
    """The longest row that the model takes, where its configuration says so."""
    longest: Any = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(longest) if longest else None


def pad_token_id(model: PreTrainedModel) -> int:
    """Any token will do: padding is neither seen nor trained."""
    pad: Any = model.config.get_text_config().pad_token_id
    return int(pad) if isinstance(pad, int) and pad >= 0 else 0

