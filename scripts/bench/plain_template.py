"""A model's chat template as its peers use it: rendered to text by jinja2 alone, answers not told apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser


class _Generation(Extension):
    """``{% generation %}`` means nothing here: what is inside is rendered as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance variable

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def renderer(folder: Path) -> Callable[[Sequence[Any]], str]:
    """From messages to text, with the template and the named tokens of a model's folder."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation])
    template = environment.from_string((folder / "chat_template.jinja").read_text())
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = {name: value for name, value in configuration.items() if name.endswith("_token") and value}
    return lambda messages: template.render(messages=messages, add_generation_prompt=False, **tokens)
