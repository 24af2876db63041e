"""What a checkpoint says: greedy answers to chat prompts, with plain ``transformers`` and the model's own template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainq import checkpoints, manifests
from trainq.ml import adapter

Prompt: TypeAlias = str | list[dict[str, str]]


def answer(folder: Path, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
    """The model's most likely answer to each prompt, without special tokens.

    Each prompt is answered by itself: padding a batch would change the last bits, and with them now and then a word.

    Args:
        folder: a checkpoint, or any folder with a model, a tokenizer and a chat template.
        prompts: what a user says, or a whole chat.

    Raises:
        OSError, ValueError, DamageError: the folder holds no such thing.
    """
    model = _open(folder)
    model.eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    answers: list[str] = []
    for prompt in prompts:
        chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        # What a person types never becomes a special token; the rows were encoded like that too.
        asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True,
                                              sanitize_control_tokens=True)
        with torch.inference_mode():
            said = model.generate(**asked, max_new_tokens=max_new_tokens, do_sample=False,
                                  pad_token_id=tokenizer.pad_token_id)
        answers.append(tokenizer.decode(said[0, asked["input_ids"].shape[1]:], skip_special_tokens=True))
    return answers


def _open(folder: Path) -> Any:
    """The model in the folder; the weights under an adapter may lie in the checkpoint beside it."""
    automatic: Any = AutoModelForCausalLM
    is_adapted = (folder / checkpoints.ADAPTER_FOLDER).is_dir() and (folder / manifests.MANIFEST_NAME).is_file()
    weights = folder.with_name(checkpoints.read_facts(folder).adapter_of) if is_adapted else folder
    model = automatic.from_pretrained(weights, local_files_only=True, trust_remote_code=False, disable_mmap=True)
    return adapter.load(model, folder) if is_adapted else model
