"""Chat templates: a model's own jinja2 template renders a chat, and says which stretches of it are answers.

Templates come with models, from anywhere, so they run in jinja2's immutable sandbox, configured as ``transformers``
configures it (``apply_chat_template``): ``trim_blocks``, ``lstrip_blocks``, loop controls, ``tojson`` that leaves HTML
alone, ``raise_exception``, ``{% generation %}``. One difference is meant: ``strftime_now`` is not defined. A template
that asks ``strftime_now is defined`` takes its fixed date, so that a row is the same tokens on every day.

Answers are what ``{% generation %}`` blocks enclose. A template without them is rendered up to each answer, with and
without it: the answer is what was added, up to and with the token that ends the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trainq.errors import InputError
from trainq.samples import Message

# What marks stretches inside a rendered chat. Lone surrogates are in no row and no template file: UTF-8 has none of
# them (RFC 3629, 3), and rows with escaped ones are bad rows.
_BEGIN, _END = "\udc80", "\udc81"
_MARKS = re.compile(f"([{_BEGIN}{_END}])")
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MEND = "correct the model's chat template, or the row"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chat as text. ``answers`` are the stretches [start, end) of it, in characters, that the model is to learn."""

    text: str
    answers: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A compiled template. ``tokens`` are the named special tokens that it may use (``bos_token``, ``eos_token``, ...).

    ``specials`` are all texts that are one special token each: where an answer ends is told by them.

    Raises:
        InputError: it is no valid template.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], specials: Sequence[str]) -> None:
        self._tokens, self._specials = dict(tokens), tuple(specials)
        self._has_blocks = _GENERATION.search(source) is not None
        try:
            self._template = _environment().from_string(source)
            self._globals = dict(self._template.globals)
        except jinja2.TemplateError as error:
            raise InputError(f"it is no chat template: {error}", field="chat_template", mend=_MEND) from error

    def render(self, messages: Sequence[Message], most_characters: int | None = None) -> Rendered:
        """Render a chat and find its answers: those that begin within ``most_characters``, if that is given.

        (A template without blocks is rendered twice for each answer, which a chat of thousands of turns that is cut or
        dropped all the same need not pay.)

        Raises:
            InputError: the template refuses the chat or fails on it, or it tells answers apart in no way known here.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if self._has_blocks:
            return _without_marks(self._text(turns))
        return self._by_prefixes(turns, most_characters)

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text that asks for the next answer: the chat, and what opens an assistant's turn.

        Raises:
            InputError: as :meth:`render`.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return _without_marks(self._text(turns, prompt=True)).text

    def _by_prefixes(self, turns: list[dict[str, str]], most_characters: int | None) -> Rendered:
        whole = self._text(turns)
        answers = []
        for position, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            before = self._text(turns[:position], prompt=True)
            if most_characters is not None and len(before) > most_characters:
                break
            through = self._text(turns[:position + 1])
            if not through.startswith(before) or not whole.startswith(through):
                raise InputError("the chat template has no {% generation %} blocks, and what stands before an answer "
                                 "looks different without it, so the answer cannot be told apart",
                                 field="chat_template", mend="put {% generation %} blocks around the "
                                 "answers in the model's chat template")
            answers.append((len(before), len(before) + self._answer_length(through[len(before):])))
        return Rendered(whole, tuple(answers))

    def _answer_length(self, added: str) -> int:
        """Without the space behind the token that ends the turn: the model stops at that token and never says it."""
        stripped = added.rstrip()
        return len(stripped) if stripped.endswith(self._specials) else len(added)

    def _text(self, turns: list[dict[str, str]], *, prompt: bool = False) -> str:
        try:
            # As Template.render, which copies the globals once more each time, out of a slow kind of mapping.
            variables = {**self._globals, "messages": turns, "tools": None, "documents": None,
                         "add_generation_prompt": prompt, **self._tokens}
            return "".join(self._template.root_render_func(self._template.new_context(variables, shared=True)))
        # A template is a program: beside jinja2's own errors it raises what Python's operators raise.
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
                RecursionError) as error:
            raise InputError(f"the chat template refuses it: {error}", field="chat_template", mend=_MEND) from error


class GenerationBlocks(Extension):
    """``{% generation %} ... {% endgeneration %}``: renders what is inside, between marks."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance variable

    def parse(self, parser: Parser) -> nodes.Node:
        """Called by jinja2 at the tag."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{_BEGIN}{caller()}{_END}"


def _without_marks(marked: str) -> Rendered:
    pieces, answers, start, position = [], [], -1, 0
    for piece in _MARKS.split(marked):
        if piece == _BEGIN and start < 0:
            start = position
        elif piece == _END and start >= 0:
            answers.append((start, position))
            start = -1
        elif piece in (_BEGIN, _END):
            raise InputError("the chat template's {% generation %} blocks stand inside one another",
                             field="chat_template", mend=_MEND)
        else:
            pieces.append(piece)
            position += len(piece)
    return Rendered("".join(pieces), tuple(answers))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[GenerationBlocks, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
             separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
    """JSON as it is; jinja2's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
