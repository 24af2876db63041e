"""The built-in tokenizer is fixed for ever, gives every text back, and loads in plain transformers."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainq import builtin

SPECIALS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(builtin.folder() / "tokenizer.json"))


@pytest.fixture(scope="module")
def transformers_tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(builtin.folder())


@pytest.mark.parametrize(("name", "digest"), [
    ("tokenizer.json", "37be3c5a594c2932725b3ea398f5915a2a2f58bf0e6cb163544f1e639b43539f"),
    ("chat_template.jinja", "55df3a82767da56cb9c64e36ad822906d6415b350fdeb66e839308753746171e"),
])
def test_the_files_never_change(name: str, digest: str) -> None:
    # Every model made from scratch was trained on these. Do not change the constants: add another tokenizer instead.
    assert blake3((builtin.folder() / name).read_bytes()).hexdigest() == digest


def test_ids_are_bytes_and_six_special_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 262
    assert [tokenizer.token_to_id(token) for token in SPECIALS] == list(range(256, 262))


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_every_text_is_its_bytes_and_comes_back(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(builtin.folder() / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.slow
def test_every_character_of_unicode_is_its_bytes(tokenizer: Tokenizer) -> None:
    for start in range(0, 0x110000, 0x1000):
        text = "".join(chr(point) for point in range(start, start + 0x1000) if not 0xD800 <= point < 0xE000)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == list(text.encode())
        assert tokenizer.decode(ids) == text


def test_it_loads_in_plain_transformers(transformers_tokenizer: PreTrainedTokenizerBase) -> None:
    loaded = transformers_tokenizer
    assert len(loaded) == 262
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (256, 257, 258)
    assert loaded.model_max_length == 1024
    ids = loaded("aé\n  b ,c n't")["input_ids"]
    assert ids == list("aé\n  b ,c n't".encode())
    assert loaded.decode([257, 260, *ids, 258], skip_special_tokens=True) == "aé\n  b ,c n't"


def test_the_template_reads_as_documented(transformers_tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "system", "content": " s\n"}, {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a\n"}, {"role": "user", "content": ""}]
    assert transformers_tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|bos|><|system|> s\n<|end|><|user|>u<|end|><|assistant|>a\n<|end|><|user|><|end|><|assistant|>")
