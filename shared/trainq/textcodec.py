"""From samples to token ids and loss flags, with a model's own tokenizer and chat template, and without transformers.

For every chat without special-token text, ids and flags are those of ``transformers``'
``apply_chat_template(..., return_assistant_tokens_mask=True)``. Row content never becomes a special token: where a row
holds the text of one (``<|end|>``, ``</s>``), that text is encoded as the plain characters that it is, as
``apply_chat_template(..., sanitize_control_tokens=True)`` does, so ask a trained model with that option. (Added tokens
that are not special, ``<think>`` say, stay tokens: answers are written with them.)

Flags: 1 on the tokens of assistant answers, with the token that ends the turn; on every token of a text. Never on the
first token of a row, which no model is asked to predict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from blake3 import blake3
from tokenizers import Encoding, Tokenizer
from tokenizers.models import BPE

from trainq import files
from trainq.errors import InputError
from trainq.samples import ChatSample, Message, Sample
from trainq.templates import ChatTemplate, Rendered

TOKENIZER_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"
TEMPLATE_NAME, LEGACY_TOKENS_NAME = "chat_template.jinja", "special_tokens_map.json"
# PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES: what transformers hands to a template by name.
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The vocabulary of a tokenizer that gives each byte its own token.
_BYTES = 256
# Around special-token text in row content; lone surrogates, as in trainq.templates.
_OPEN, _CLOSE = "\udc82", "\udc83"


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row as tokens: ``token_ids`` and ``trained`` are equally long.

    ``whole`` is false where the text was so long that only its beginning was encoded, which is longer than the context
    all the same.
    """

    token_ids: list[int]
    trained: list[bool]
    whole: bool


class TextCodec:
    """A tokenizer and a chat template (:meth:`load`). Not for use by several threads at once.

    Attributes:
        digest: BLAKE3 over everything that decides what a row becomes: the same digest, the same tokens.
        bos_id, eos_id: the tokens around a text, where the tokenizer names them.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, named_tokens: dict[str, str],
                 digest: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if isinstance(tokenizer.model, BPE) and tokenizer.get_vocab_size(with_added_tokens=False) <= _BYTES:
            # Nothing to merge: remembering how 10,000 words are split takes longer, and 70 MB a thread.
            tokenizer.model._resize_cache(0)
        self.digest = digest
        self._tokenizer, self._template = tokenizer, template
        self.bos_id, self.eos_id = (_token_id(tokenizer, named_tokens, name) for name in ("bos_token", "eos_token"))
        self._specials = special_texts(tokenizer)
        self._guarded = re.compile("|".join(map(re.escape, self._specials)) or "(?!)")
        self._pieces = re.compile(f"{_OPEN}({self._guarded.pattern}){_CLOSE}|[{_OPEN}{_CLOSE}]")
        self._newline_ids: list[int] = tokenizer.encode("\n", add_special_tokens=False).ids
        # No token stands for more characters than the longest entry of the vocabulary has.
        self._token_characters = max(map(len, tokenizer.get_vocab(with_added_tokens=True)), default=1)

    @classmethod
    def load(cls, folder: Path, known: TextCodec | None = None) -> TextCodec:
        """Read ``tokenizer.json``, ``tokenizer_config.json`` and the chat template of a model folder.

        A model without a chat template can still encode texts. ``known`` is given back if the folder says the same
        as what it was made of: a tokenizer that is let go leaves the cache of each of its threads behind for ever.

        Raises:
            InputError: a file is missing or not what it should be.
            StorageError: a file cannot be read.
        """
        content = _read(folder / TOKENIZER_NAME)
        if content is None:
            raise InputError(f"it has no {TOKENIZER_NAME}", file=str(folder),
                             mend="save the model with a fast tokenizer (tokenizer.save_pretrained)")
        named_tokens, source = _configuration(folder)
        identity = orjson.dumps({"tokenizer": blake3(content).hexdigest(), "template": source, "tokens": named_tokens},
                                option=orjson.OPT_SORT_KEYS)
        digest = blake3(identity).hexdigest()
        if known is not None and known.digest == digest:
            return known
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"it is no tokenizer: {error}", file=str(folder / TOKENIZER_NAME)) from error
        template = ChatTemplate(source, named_tokens, special_texts(tokenizer)) if source is not None else None
        return cls(tokenizer, template, named_tokens, digest)

    def encode(self, sample: Sample, context_tokens: int) -> EncodedRow:
        """Encode one sample; see :meth:`encode_batch`.

        Raises:
            InputError: the template refuses it.
        """
        row = self.encode_batch([sample], context_tokens)[0]
        if isinstance(row, InputError):
            raise row
        return row

    def encode_batch(self, samples: Sequence[Sample], context_tokens: int) -> list[EncodedRow | InputError]:
        """Encode samples; for each its row, or the error that says why this one cannot be encoded.

        Rows longer than ``context_tokens`` come out longer, but not much: of a text that is surely too long only so
        many characters are encoded that the first ``context_tokens`` tokens come out, which bounds time and memory
        (a tokenizer takes about 200 bytes of memory for each token).
        """
        most_characters = (context_tokens + 1) * self._token_characters
        rendered = [self._rendered(sample, most_characters) for sample in samples]
        rows: list[EncodedRow | InputError | None] = [row if isinstance(row, InputError) else None for row in rendered]
        plain = [(index, row) for index, row in enumerate(rendered)
                 if not isinstance(row, InputError) and _OPEN not in row.text]
        # Every token of a text is trained: where its characters are need not be known, which takes half the time.
        for is_chat, encode in ((True, self._tokenizer.encode_batch), (False, self._tokenizer.encode_batch_fast)):
            of_kind = [(index, row) for index, row in plain if isinstance(samples[index], ChatSample) is is_chat]
            encodings = encode([row.text[:most_characters] for _, row in of_kind], add_special_tokens=False)
            for (index, row), encoding in zip(of_kind, encodings, strict=True):
                ids = encoding.ids
                flags = _flags(encoding, row.answers, min(len(row.text), most_characters)) if is_chat \
                    else [True] * len(ids)
                rows[index] = self._row(samples[index], ids, flags, whole=len(row.text) <= most_characters)
        for index, guarded in enumerate(rendered):
            if rows[index] is None and isinstance(guarded, Rendered):
                rows[index] = self._guarded_row(samples[index], guarded, most_characters)
        return [row for row in rows if row is not None]

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids to give a model that is to answer ``messages``: the same tokens that it was trained behind.

        Raises:
            InputError: there is no chat template, or it refuses the messages.
        """
        text = self._chat_template().prompt(self._guard(messages))
        return self._encode_pieces(Rendered(text, ()))[0]

    def decode(self, token_ids: Sequence[int], *, with_specials: bool = False) -> str:
        """The text of ``token_ids``, without special tokens if they are not wanted."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=not with_specials))

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise InputError("the model has no chat template", field="chat_template",
                             mend="give the model a chat_template.jinja, or train on text rows")
        return self._template

    def _guard(self, messages: Sequence[Message]) -> Sequence[Message]:
        if not any(self._guarded.search(message.content) for message in messages):
            return messages
        return [Message(message.role, self._guarded.sub(f"{_OPEN}\\g<0>{_CLOSE}", message.content))
                for message in messages]

    def _rendered(self, sample: Sample, most_characters: int) -> Rendered | InputError:
        if not isinstance(sample, ChatSample):
            text = self._guarded.sub(f"{_OPEN}\\g<0>{_CLOSE}", sample.text)
            return Rendered(text, ((0, len(text)),))
        try:
            return self._chat_template().render(self._guard(sample.messages), most_characters)
        except InputError as error:
            return error

    def _row(self, sample: Sample, ids: list[int], flags: list[bool], *, whole: bool) -> EncodedRow:
        if not isinstance(sample, ChatSample):
            before = [] if self.bos_id is None else [self.bos_id]
            after = [] if self.eos_id is None or not whole else [self.eos_id]
            ids = [*before, *ids, *after]
            flags = [*[True] * len(before), *flags, *[True] * len(after)]
        if flags:
            flags[0] = False
        return EncodedRow(ids, flags, whole)

    def _guarded_row(self, sample: Sample, row: Rendered, most_characters: int) -> EncodedRow | InputError:
        text = row.text[:most_characters]
        if text.rfind(_OPEN) > text.rfind(_CLOSE):
            text = text[:text.rfind(_OPEN)]  # cut inside a guarded stretch: without its end it guards nothing
        try:
            ids, flags = self._encode_pieces(Rendered(text, row.answers))
        except InputError as error:
            return error
        return self._row(sample, ids, flags, whole=len(row.text) <= most_characters)

    def _encode_pieces(self, row: Rendered) -> tuple[list[int], list[bool]]:
        """Encode a text with guarded stretches in pieces: those as plain characters, what lies between as usual.

        The pieces and their order of encoding are those of ``encode_marked_chat`` in transformers 5.
        """
        ids, flags = list[int](), list[bool]()
        for start, stop, guarded in self._stretches(row.text):
            if start == stop:
                continue
            piece_ids, piece_flags = self._encode_piece(row, start, stop, guarded=guarded)
            if guarded and self._tokenizer.token_to_id(row.text[start:stop]) in piece_ids:
                raise InputError(f"it holds the text of the special token {row.text[start:stop]!r}, which this "
                                 "tokenizer cannot encode as text", mend="write that text differently")
            ids += piece_ids
            flags += piece_flags
        return ids, flags

    def _stretches(self, text: str) -> Iterator[tuple[int, int, bool]]:
        """Start, end, and whether it is guarded, of all that lies between marks; a lone mark only divides."""
        position = 0
        for match in self._pieces.finditer(text):
            yield position, match.start(), False
            if match[1] is not None:
                yield match.start(1), match.end(1), True
            position = match.end()
        yield position, len(text), False

    def _encode_piece(self, row: Rendered, start: int, stop: int, *, guarded: bool) -> tuple[list[int], list[bool]]:
        text = row.text[start:stop]
        # A newline first, and taken away again: some tokenizers put a space at the start of whatever they are given.
        lead = "\n" if start else ""
        encoding = self._encode_text(lead + text, guarded=guarded)
        skipped = len(self._newline_ids) if lead else 0
        if lead and encoding.ids[:skipped] != self._newline_ids:
            encoding, lead, skipped = self._encode_text(text, guarded=guarded), "", 0
        shift = len(lead) - start
        answers = [(max(begin, start) + shift, min(end, stop) + shift) for begin, end in row.answers]
        return encoding.ids[skipped:], _flags(encoding, answers, len(lead) + len(text))[skipped:]

    def _encode_text(self, text: str, *, guarded: bool) -> Encoding:
        self._tokenizer.encode_special_tokens = guarded
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        finally:
            self._tokenizer.encode_special_tokens = False


def special_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The texts that are one special token each, the longest first (it wins where one begins like another)."""
    specials = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    return tuple(sorted(specials, key=lambda text: (-len(text), text)))


def _flags(encoding: Encoding, answers: Sequence[tuple[int, int]], characters: int) -> list[bool]:
    """True for each token that holds something of an answer; ``characters`` is the length of the encoded text.

    A character may be several tokens (all of them count: transformers takes only the first of an answer's last
    character, which matters where no end-of-turn token follows it in the block) or none.
    """
    flags = [False] * len(encoding)
    for start, end in answers:
        first = _token_from(encoding, start, min(end, characters))
        if first is None:
            continue
        behind = _token_from(encoding, end, characters)
        stop = len(flags) if behind is None else behind
        last = encoding.char_to_token(end - 1)
        stop = stop if last is None else max(stop, last + 1)
        flags[first:stop] = [True] * (stop - first)
    return flags


def _token_from(encoding: Encoding, start: int, end: int) -> int | None:
    for position in range(start, end):
        token: int | None = encoding.char_to_token(position)
        if token is not None:
            return token
    return None


def _token_id(tokenizer: Tokenizer, named_tokens: dict[str, str], name: str) -> int | None:
    if name not in named_tokens:
        return None
    token_id: int | None = tokenizer.token_to_id(named_tokens[name])
    if token_id is None:
        raise InputError(f"the tokenizer has no token {named_tokens[name]!r}", file=CONFIG_NAME, field=name,
                         mend=f"name one that is in {TOKENIZER_NAME}")
    return token_id


def _configuration(folder: Path) -> tuple[dict[str, str], str | None]:
    """The named special tokens, and the source of the chat template where there is one."""
    configuration = _read_object(folder / CONFIG_NAME)
    # Files of transformers 4 and before; ignored, as there, where the newer form is used.
    legacy = {} if "added_tokens_decoder" in configuration else _read_object(folder / LEGACY_TOKENS_NAME)
    named_tokens: dict[str, str] = {}
    for name in _NAMED_TOKENS:
        token = legacy.get(name, configuration.get(name))
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            named_tokens[name] = content
    template = _read(folder / TEMPLATE_NAME)
    if template is not None:
        try:
            return named_tokens, template.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 text: {error}", file=str(folder / TEMPLATE_NAME), mend="correct it") from error
    found = configuration.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((entry.get("template") for entry in found
                      if isinstance(entry, dict) and entry.get("name") == "default"), None)
    return named_tokens, found if isinstance(found, str) else None


def _read_object(path: Path) -> dict[str, Any]:
    content = _read(path)
    if content is None:
        return {}
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error}", file=str(path), mend="correct it") from error
    if not isinstance(value, dict):
        raise InputError("it is not a JSON object", file=str(path), mend="correct it")
    return value


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise files.storage_error(error, f"reading {path}") from error
