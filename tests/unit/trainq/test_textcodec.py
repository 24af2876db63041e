"""Tokens and flags are those of transformers, and no row makes a special token."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from trainq import builtin
from trainq.errors import InputError
from trainq.samples import ChatSample, Message, Sample, TextSample
from trainq.textcodec import EncodedRow, TextCodec

CONTEXT = 100_000
CORPUS = ["Natalia sold clips to 48 of her friends in April.", "How many clips did she sell?  \n\n72, i.e. 48+24.",
          "def f(x):\n\treturn x ** 2\n", "Ein kurzer Satz über Äpfel, naïve café, 你好世界.",
          "[INST] x [/INST] user assistant"]

CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message.content + '<|im_end|>' }}{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}
    {%- else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
LLAMA2 = """{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' -%}
{% generation %}{{ ' ' + message.content + ' ' + eos_token }}{% endgeneration %}
{%- else %}{{ '[INST] ' + message.content + ' [/INST]' }}{% endif %}{% endfor %}"""


def byte_level(pre_tokenizer: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None,
               specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """As Llama 2: spaces are letters, bytes are a fallback, a space is put in front of the text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    described = json.loads(tokenizer.to_str())
    vocab = described["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    described["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<s>", "</s>")])
    return tokenizer


class Style(NamedTuple):
    codec: TextCodec
    by_prefixes: TextCodec
    reference: Any  # transformers' types for apply_chat_template cover no dictionary
    specials: list[str]


def save(folder: Path, tokenizer: Tokenizer, template: str | None, **configuration: Any) -> Path:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    configuration = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                     **configuration}
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


GPT4_SPLIT = Regex(r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                   r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def tokenizer_of(style: str) -> tuple[Tokenizer, str, dict[str, Any]]:
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(GPT4_SPLIT, "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if style == "builtin":
        return (Tokenizer.from_file(str(builtin.folder() / "tokenizer.json")),
                (builtin.folder() / "chat_template.jinja").read_text(),
                json.loads((builtin.folder() / "tokenizer_config.json").read_text()))
    if style == "chatml":
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        return byte_level(split, normalizers.NFC(), specials), CHATML, {"eos_token": "<|im_end|>", "bos_token": None}
    if style == "llama3":
        specials = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        return byte_level(split, None, specials), LLAMA3, {"bos_token": {"content": "<|begin_of_text|>",
                                                                         "__type": "AddedToken", "special": True},
                                                           "eos_token": "<|eot_id|>"}
    return sentencepiece_like(), LLAMA2, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.fixture(scope="module", params=["builtin", "chatml", "llama3", "llama2"])
def style(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Style:
    root = tmp_path_factory.mktemp("models")
    tokenizer, template, configuration = tokenizer_of(request.param)
    folder = save(root / "blocks", tokenizer, template, **configuration)
    bare = re.sub(r"\{% (end)?generation %\}", "", template.replace("{%- generation %}{{", "{{-"))
    specials = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    return Style(TextCodec.load(folder), TextCodec.load(save(root / "bare", tokenizer, bare, **configuration)),
                 AutoTokenizer.from_pretrained(folder), specials)


_CONTENT = st.text(max_size=25) | st.sampled_from(
    ["  a  b ", "naïve \U0001f44d\U0001f3fd", "e\u0301", "x\r\n\r\n", "<think>\nhm</think> ok", "한국어",
     "\u200d \ufeff", "a" * 300])


def chats(content: st.SearchStrategy[str]) -> st.SearchStrategy[list[Message]]:
    turns = st.lists(st.tuples(content, content), min_size=1, max_size=3)
    return st.builds(
        lambda system, pairs: [*([Message("system", system)] if system is not None else []),
                               *(message for question, answer in pairs
                                 for message in (Message("user", question), Message("assistant", answer)))],
        st.none() | content, turns)


def as_dicts(chat: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in chat]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chat=chats(_CONTENT))
def test_ids_and_mask_are_those_of_apply_chat_template(style: Style, chat: list[Message]) -> None:
    expected = style.reference.apply_chat_template(as_dicts(chat), return_assistant_tokens_mask=True, return_dict=True)
    text = style.reference.apply_chat_template(as_dicts(chat), tokenize=False)
    for codec in (style.codec, style.by_prefixes):
        row = codec.encode(ChatSample(tuple(chat)), CONTEXT)
        assert codec._chat_template().render(chat).text == text
        assert row.token_ids == expected["input_ids"]
        assert [int(flag) for flag in row.trained] == expected["assistant_masks"]
        assert row.whole


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_special_text_in_rows_stays_text(style: Style, data: st.DataObject) -> None:
    piece = _CONTENT | st.sampled_from(style.specials) | st.sampled_from([text[:-1] for text in style.specials])
    chat = data.draw(chats(st.lists(piece, max_size=4).map("".join)))
    sanitized = style.reference.apply_chat_template(as_dicts(chat), sanitize_control_tokens=True)["input_ids"]
    quiet = [Message(message.role, "x") for message in chat]
    special_ids = set(style.reference.convert_tokens_to_ids(style.specials))
    for codec in (style.codec, style.by_prefixes):
        row = codec.encode(ChatSample(tuple(chat)), CONTEXT)
        plain = codec.encode(ChatSample(tuple(quiet)), CONTEXT)
        assert row.token_ids == sanitized
        assert [token for token in row.token_ids if token in special_ids] == [
            token for token in plain.token_ids if token in special_ids]
        assert len(row.trained) == len(row.token_ids)
    prompt = style.reference.apply_chat_template(as_dicts(chat[:-1]), sanitize_control_tokens=True,
                                                 add_generation_prompt=True)["input_ids"]
    assert style.codec.encode_prompt(chat[:-1]) == prompt


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flags_cover_the_answers_whatever_is_typed_in_them(style: Style, data: st.DataObject) -> None:
    piece = st.sampled_from([*style.specials, "ab", " ", "é", "\U0001f600", "\n"])
    text = st.lists(piece, min_size=1, max_size=5).map("".join)
    chat = [Message("user", data.draw(text)), Message("assistant", data.draw(text)), Message("user", data.draw(text)),
            Message("assistant", data.draw(text))]
    row = style.codec.encode(ChatSample(tuple(chat)), CONTEXT)
    assert row.trained == style.by_prefixes.encode(ChatSample(tuple(chat)), CONTEXT).trained
    # What is trained starts where the prompt ends, or one token earlier where that token has the start of the answer.
    before = len(style.codec.decode(row.token_ids[:row.trained.index(True)]))
    assert before <= len(style.codec.decode(style.codec.encode_prompt(chat[:1])))
    runs = sum(flag and not previous for flag, previous in zip(row.trained, [False, *row.trained], strict=False))
    assert runs == 2


def test_a_text_is_bos_text_eos_all_trained_but_the_first(style: Style) -> None:
    for text in ("a plain text\n", f"typed {style.specials[-1]} and {style.specials[0]}"):
        row = style.codec.encode(TextSample(text), CONTEXT)
        around = [token for token in (style.codec.bos_id, style.codec.eos_id) if token is not None]
        special_ids = set(style.reference.convert_tokens_to_ids(style.specials))
        assert [token for token in row.token_ids if token in special_ids] == around
        assert row.token_ids[-1] == style.codec.eos_id
        assert row.trained == [False, *[True] * (len(row.token_ids) - 1)]
        assert row.whole
    plain = style.reference("a plain text\n", add_special_tokens=False)["input_ids"]
    assert style.codec.encode(TextSample("a plain text\n"), CONTEXT).token_ids == [
        *([style.codec.bos_id] if style.codec.bos_id is not None else []), *plain, style.codec.eos_id]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=_CONTENT)
def test_a_text_has_the_tokens_of_transformers(style: Style, text: str) -> None:
    assume(not any(special in text for special in style.specials))
    row = style.codec.encode(TextSample(text), CONTEXT)
    before = [style.codec.bos_id] if style.codec.bos_id is not None else []
    assert row.token_ids == [*before, *style.reference(text, add_special_tokens=False)["input_ids"],
                             style.codec.eos_id]
    assert row.trained == [False, *[True] * (len(row.token_ids) - 1)]


def test_a_batch_gives_what_each_sample_gives_alone(style: Style) -> None:
    samples: list[Sample] = [
        TextSample("one"), ChatSample((Message("user", "a"), Message("assistant", style.specials[0]))),
        TextSample(style.specials[0]), ChatSample((Message("user", "\u00e9"), Message("assistant", "b")))]
    assert style.codec.encode_batch(samples, CONTEXT) == [style.codec.encode(sample, CONTEXT) for sample in samples]
    assert style.codec.encode_batch([], CONTEXT) == []


@pytest.mark.parametrize("content", ["word " * 200_000, "<|end|></s><|im_end|><|eot_id|>" * 30_000])
def test_of_a_text_that_is_far_too_long_only_the_beginning_is_encoded(style: Style, content: str) -> None:
    for sample in (TextSample(content), ChatSample((Message("user", content), Message("assistant", "b"))),
                   ChatSample((Message("user", "q"), Message("assistant", content)))):
        row = style.codec.encode(sample, 64)
        assert not row.whole
        assert 64 < len(row.token_ids) < 64 * 80
        longer = style.codec.encode(sample, 640)
        assert longer.token_ids[:64] == row.token_ids[:64]
        assert longer.trained[:64] == row.trained[:64]
        assert sum(token == style.codec.eos_id for token in row.token_ids) <= 1


def test_the_last_character_of_an_answer_is_trained_whole(tmp_path: Path) -> None:
    template = "{% for m in messages %}[{% generation %}{{ m.content }}{% endgeneration %}]{% endfor %}"
    codec = TextCodec.load(save(tmp_path / "m", tokenizer_of("builtin")[0], template))
    row = codec.encode(ChatSample((Message("assistant", "\U0001f600"),)), CONTEXT)
    assert row.token_ids == list("[\U0001f600]".encode())
    assert row.trained == [False, True, True, True, True, False]


def test_the_digest_covers_tokenizer_template_and_named_tokens(tmp_path: Path) -> None:
    tokenizer, template, configuration = tokenizer_of("builtin")
    folders = [save(tmp_path / "a", tokenizer, template, **configuration),
               save(tmp_path / "b", tokenizer, template + " ", **configuration),
               save(tmp_path / "c", tokenizer, template, **{**configuration, "eos_token": "<|pad|>"}),
               save(tmp_path / "d", tokenizer_of("chatml")[0], template, eos_token="<|im_end|>"),
               save(tmp_path / "e", tokenizer, None, **configuration)]
    digests = [TextCodec.load(folder).digest for folder in folders]
    assert len(set(digests)) == len(digests)
    configuration["model_max_length"] = 5
    assert TextCodec.load(save(tmp_path / "f", tokenizer, template, **configuration)).digest == digests[0]


def test_a_codec_that_is_known_is_used_again_until_the_folder_says_otherwise(tmp_path: Path) -> None:
    tokenizer, template, configuration = tokenizer_of("builtin")
    folder = save(tmp_path / "m", tokenizer, template, **configuration)
    codec = TextCodec.load(folder)
    assert TextCodec.load(folder, known=codec) is codec
    (folder / "chat_template.jinja").write_text(template + " ")
    changed = TextCodec.load(folder, known=codec)
    assert changed is not codec
    assert changed.digest == TextCodec.load(folder).digest != codec.digest


def test_the_template_may_stand_in_the_configuration(tmp_path: Path) -> None:
    tokenizer, template, configuration = tokenizer_of("builtin")
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}]
    chat = [Message("user", "q"), Message("assistant", "a")]
    expected = TextCodec.load(builtin.folder()).encode(ChatSample(tuple(chat)), CONTEXT)
    for at, written in enumerate((template, named)):
        folder = save(tmp_path / str(at), tokenizer, None, **configuration, chat_template=written)
        assert TextCodec.load(folder).encode(ChatSample(tuple(chat)), CONTEXT) == expected
        reference: Any = AutoTokenizer.from_pretrained(folder)
        assert reference.apply_chat_template(as_dicts(chat))["input_ids"] == expected.token_ids
        # The file wins, as in transformers.
        (folder / "chat_template.jinja").write_text("other")
        assert TextCodec.load(folder)._chat_template().prompt(chat) == "other"


def test_named_tokens_may_stand_in_the_older_file(tmp_path: Path) -> None:
    tokenizer, template, configuration = tokenizer_of("llama3")
    folder = save(tmp_path / "m", tokenizer, template)
    (folder / "special_tokens_map.json").write_text(json.dumps(configuration))
    assert TextCodec.load(folder).bos_id == AutoTokenizer.from_pretrained(folder).bos_token_id is not None


def test_a_model_without_a_template_encodes_texts_and_refuses_chats(tmp_path: Path) -> None:
    tokenizer, _, configuration = tokenizer_of("builtin")
    codec = TextCodec.load(save(tmp_path / "m", tokenizer, None, **configuration))
    assert codec.encode(TextSample("ab"), CONTEXT).token_ids == [257, 97, 98, 258]
    with pytest.raises(InputError, match="no chat template"):
        codec.encode(ChatSample((Message("assistant", "a"),)), CONTEXT)


def remove(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def scribble(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)
    return write


@pytest.mark.parametrize(("harm", "why"), [
    (remove, "no tokenizer.json"),
    (scribble("tokenizer.json", b"{}"), "no tokenizer"),
    (scribble("tokenizer_config.json", b"{"), "not valid JSON"),
    (scribble("tokenizer_config.json", b"[]"), "not a JSON object"),
    (scribble("tokenizer_config.json", b'{"bos_token": "<|none|>"}'), "no token '<|none|>'"),
    (scribble("chat_template.jinja", b"\xff"), "not UTF-8"),
    (scribble("chat_template.jinja", b"{% for %}"), "no chat template"),
])
def test_a_folder_that_is_no_model_is_refused_with_the_file(tmp_path: Path, harm: Callable[[Path], None],
                                                            why: str) -> None:
    tokenizer, template, configuration = tokenizer_of("builtin")
    folder = save(tmp_path / "m", tokenizer, template, **configuration)
    harm(folder)
    with pytest.raises(InputError, match=why.replace("|", r"\|")):
        TextCodec.load(folder)


def test_truncation_and_padding_of_a_tokenizer_file_are_not_used(tmp_path: Path) -> None:
    tokenizer, template, configuration = tokenizer_of("builtin")
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    codec = TextCodec.load(save(tmp_path / "m", tokenizer, template, **configuration))
    longer, shorter = codec.encode_batch([TextSample("abcdefgh"), TextSample("a")], CONTEXT)
    assert isinstance(longer, EncodedRow)
    assert isinstance(shorter, EncodedRow)
    assert (len(longer.token_ids), len(shorter.token_ids)) == (10, 3)


def test_decoding_leaves_special_tokens_out() -> None:
    codec = TextCodec.load(builtin.folder())
    assert codec.decode([257, *"é<|end|>".encode(), 258]) == "é<|end|>"


def test_nothing_heavy_is_imported() -> None:
    shared = Path(builtin.__file__).parents[2]
    script = ("import sys; sys.path.insert(0, sys.argv[1]); import trainq.preparing; "
              "print([m for m in ('torch', 'transformers', 'pydantic', 'zmq') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script, str(shared)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
