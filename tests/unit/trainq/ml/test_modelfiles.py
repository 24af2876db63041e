"""What is laid out in memory and then written is, byte for byte, what transformers' ``save_pretrained`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from trainq.config import LoraSettings
from trainq.ml import adapter
from trainq.ml.modelfiles import METADATA, ModelFolder

TINY: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 32}


def write(model: Any, folder: Path, laid_out: ModelFolder) -> None:
    folder.mkdir()
    found = laid_out.of(model)
    for name, content in found.small.items():
        (folder / name).write_bytes(content)
    for name, tensors in found.weights.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name, metadata=METADATA)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tied() -> Any:
    return LlamaForCausalLM(LlamaConfig(**TINY, tie_word_embeddings=True))


def untied() -> Any:
    return LlamaForCausalLM(LlamaConfig(**TINY, tie_word_embeddings=False))


def bfloat16() -> Any:
    return untied().to(torch.bfloat16)


def transposed() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32))


def experts() -> Any:
    """Its experts lie in one tensor in memory, and one by one in the file."""
    return MixtralForCausalLM(MixtralConfig(**TINY, num_local_experts=3, num_key_value_heads=2))


@pytest.mark.parametrize("make", [tied, untied, bfloat16, transposed, experts])
@pytest.mark.parametrize("max_shard_size", ["50GB", "4KB"])
def test_it_is_what_save_pretrained_writes(make: Any, max_shard_size: str, tmp_path: Path) -> None:
    model, laid_out = make(), ModelFolder(max_shard_size)
    for round_ in range(2):  # the second time what was found out the first time is used
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.5)
        model.save_pretrained(tmp_path / f"{round_}-as-they-do", max_shard_size=max_shard_size)
        write(model, tmp_path / f"{round_}", laid_out)
        assert content(tmp_path / f"{round_}") == content(tmp_path / f"{round_}-as-they-do")
    assert (len(content(tmp_path / "0")) > 3) == (max_shard_size == "4KB")


def test_the_weights_under_an_adapter_are_those_of_the_plain_model(tmp_path: Path) -> None:
    plain = untied()
    plain.save_pretrained(tmp_path / "plain")
    write(adapter.wrap(plain, LoraSettings(rank=2, alpha=4)), tmp_path / "under", ModelFolder())
    assert content(tmp_path / "under") == content(tmp_path / "plain")


def test_what_is_trained_is_known_by_its_name_in_the_file() -> None:
    model = tied()
    model.model.norm.weight.requires_grad_(False)
    found = ModelFolder().of(model)
    (weights,) = found.weights.values()
    assert weights.keys() - found.trained == {"model.norm.weight"}
    laid_out = ModelFolder().of(experts())
    assert laid_out.trained == {name for tensors in laid_out.weights.values() for name in tensors}


def test_a_tensor_that_lies_elsewhere_now_is_found_there() -> None:
    model, laid_out = untied(), ModelFolder()
    laid_out.of(model)
    model.lm_head.weight.data = torch.full_like(model.lm_head.weight, 7.0)
    assert bool((laid_out.of(model).weights["model.safetensors"]["lm_head.weight"] == 7.0).all())
