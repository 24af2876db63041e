"""The built-in tokenizer: bytes and six special tokens, fixed for ever.

Token ids 0 to 255 are the bytes of UTF-8, each for itself; 256 ``<|pad|>``, 257 ``<|bos|>``, 258 ``<|end|>`` (the
end of a turn and of a text), 259 ``<|system|>``, 260 ``<|user|>``, 261 ``<|assistant|>``. Any text goes in and comes
out unchanged. ``tokenizer.json`` and ``chat_template.jinja`` must never change: every model made from scratch carries
them, and they are part of the name of every shard made with them.

The folder loads in plain ``transformers`` with ``AutoTokenizer.from_pretrained``.
"""

from __future__ import annotations

from pathlib import Path

# The context of the built-in model, in tokens; the tokenizer's model_max_length says the same.
CONTEXT_TOKENS = 1024


def folder() -> Path:
    """Where ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja`` lie."""
    return Path(__file__).parent
