"""The built-in model is small, seeded and whole; a folder that is no model is refused with its name."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from trainq import builtin
from trainq.errors import InputError
from trainq.ml import determinism, model


def weights(seed: int) -> list[torch.Tensor]:
    determinism.seed(seed)
    return list(model.make(model.builtin_config()).state_dict().values())


def test_the_built_in_model_has_one_to_four_million_parameters_and_the_tokenizers_context() -> None:
    made, name, tokenizer_folder = model.open_start("")
    assert 1_000_000 < sum(parameter.numel() for parameter in made.parameters()) < 4_000_000
    assert (name, tokenizer_folder) == (model.BUILTIN_NAME, builtin.folder())
    assert model.context_tokens(made) == builtin.CONTEXT_TOKENS == 1024


def test_its_special_tokens_are_the_tokenizers() -> None:
    tokenizer = AutoTokenizer.from_pretrained(builtin.folder())
    config = model.builtin_config()
    assert (config.vocab_size, config.pad_token_id, config.bos_token_id, config.eos_token_id) == (
        len(tokenizer), tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_a_folder_is_opened_as_it_is(tiny_model: Path) -> None:
    made, name, tokenizer_folder = model.open_start(str(tiny_model))
    assert (name, tokenizer_folder) == (tiny_model.name, tiny_model)
    assert made.training
    assert model.context_tokens(made) == 64
    assert model.pad_token_id(made) == 256


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_refused(tiny_model: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_model, folder)
    (folder / missing).unlink()
    with pytest.raises(InputError, match="no model can be read"):
        model.load(folder)


def test_a_pickle_is_not_read(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.load(tiny_model).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError):
        model.load(folder)


def test_code_in_a_folder_is_not_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    shutil.copytree(tiny_model, folder)
    (folder / "config.json").write_text('{"model_type": "other", "auto_map": {"AutoConfig": "own.Config"}}')
    (folder / "own.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(InputError):
        model.load(folder)
    assert not (tmp_path / "canary").exists()


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer"):
        model.read_companions(tmp_path)


def test_a_full_disk_is_the_systems_error_and_not_a_bug_of_the_file(tiny_model: Path, tmp_path: Path) -> None:
    """safetensors' own error is neither an OSError nor one of ours."""
    loaded = model.load(tiny_model)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            model.save(loaded, {}, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
