"""A reference that cannot come out of a checkpoint as it is written is found before it scores anything 0."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trainq import builtin
from trainq.errors import InputError
from trainq.ml import references
from trainq.ml.references import Asked
from trainq.samples import ChatSample, Message
from trainq.scoring import Case
from trainq.scoring.exact import Exact
from trainq.textcodec import TEMPLATE_NAME, TextCodec

END = 258
CASES = [Case(row=row, prompt=(Message("user", "a"), Message("assistant", "b"), Message("user", f"{row}?")),
              reference=text) for row, text in enumerate(["1", "12 é", "a long one"])]


def codec_with(folder: Path, old: str = "", new: str = "") -> TextCodec:
    """The built-in one, with another template."""
    shutil.copytree(builtin.folder(), folder)
    template = (folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    assert old in template
    (folder / TEMPLATE_NAME).write_text(template.replace(old, new), encoding="utf-8")
    return TextCodec.load(folder)


def check(codec: TextCodec, most: int = 32, context: int = 200) -> None:
    references.check(Asked(codec, {END}, context, most), Exact({}), CASES)


def test_references_that_come_out_as_they_are_written_are_good(tmp_path: Path) -> None:
    codec = codec_with(tmp_path / "codec")
    check(codec, most=11)
    row = codec.encode(ChatSample((*CASES[0].prompt, Message("assistant", "1"))), 200)
    prompt = codec.encode_prompt(CASES[0].prompt)
    assert references.answer_ids(row, prompt, {END}) == [ord("1"), END]
    # Where the prompt's last token is another one in the row, it is the last stretch that is trained.
    assert references.answer_ids(row, [*prompt[:-1], 0], {END}) == [ord("1"), END]


def test_a_reference_that_is_longer_than_an_answer_may_be_is_named_with_its_tokens(tmp_path: Path) -> None:
    codec = codec_with(tmp_path / "codec")
    with pytest.raises(InputError, match=r"the references of 1 of 3 rows need more than the 10 tokens .* that of row 2 "
                                         "11 with what ends it") as caught:
        check(codec, most=10)
    assert (caught.value.field, caught.value.mend) == ("max_new_tokens", "set max_new_tokens to 11 at least")
    # What is not asked need not fit.
    check(codec, most=10, context=20)


def test_what_ends_an_answer_and_is_text_belongs_to_it_as_to_those_that_are_scored(tmp_path: Path) -> None:
    codec = codec_with(tmp_path / "codec", "message['content'] + '<|end|>'", "message['content'] + '!'")
    with pytest.raises(InputError, match=r"row 0 comes out .* as '1!', which"):
        references.check(Asked(codec, {ord("!")}, 200, 32), Exact({}), CASES)


def test_a_template_that_adds_to_answers_is_refused_and_what_came_out_is_shown(tmp_path: Path) -> None:
    inside = codec_with(tmp_path / "inside", "{{ message['content'] + '<|end|>' }}",
                        "{{ '<think></think>' + message['content'] + '<|end|>' }}")
    outside = codec_with(tmp_path / "outside", "{%- generation %}", "{{- '<think></think>' }}{%- generation %}")
    for codec in (inside, outside):
        with pytest.raises(InputError, match=r"row 0 comes out .* '<think></think>1', .* exact gives 0 in place of 1"):
            check(codec)
