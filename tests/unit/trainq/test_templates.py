"""Templates render in a sandbox, the same on every day, and the answers in them are found."""

from __future__ import annotations

import pytest

from trainq.errors import InputError
from trainq.samples import Message
from trainq.templates import ChatTemplate

CHAT = [Message("system", "s"), Message("user", "q1"), Message("assistant", "a1"), Message("user", "q2"),
        Message("assistant", "a2 \n")]
WITH_BLOCKS = ("{% for m in messages %}<|{{ m.role }}|>"
               "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>{% endgeneration %}"
               "{% else %}{{ m.content }}<|end|>{% endif %}{{ '\n\n' }}{% endfor %}"
               "{% if add_generation_prompt %}<|assistant|>{% endif %}")
WITHOUT_BLOCKS = WITH_BLOCKS.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<|bos|>"}, ("<|end|>", "<|bos|>"))


def answers(source: str, chat: list[Message]) -> list[str]:
    rendered = template(source).render(chat)
    return [rendered.text[start:end] for start, end in rendered.answers]


@pytest.mark.parametrize("source", [WITH_BLOCKS, WITHOUT_BLOCKS], ids=["blocks", "prefixes"])
def test_answers_reach_to_the_token_that_ends_the_turn(source: str) -> None:
    assert answers(source, CHAT) == ["a1<|end|>", "a2 \n<|end|>"]
    assert template(source).render(CHAT).text.startswith("<|system|>s<|end|>\n\n<|user|>q1<|end|>\n\n<|assistant|>a1")


def test_blocks_say_exactly_what_is_an_answer() -> None:
    source = "{% for m in messages %}[{% generation %} {{ m.content }}{% endgeneration %} ]{% endfor %}"
    assert answers(source, [Message("user", "q"), Message("assistant", "")]) == [" q", " "]
    assert template(source).render(CHAT[1:3]).text == "[ q1 ][ a1 ]"


@pytest.mark.parametrize("tag", ["{% generation %}", "{%- generation -%}", "{%generation%}"])
def test_blocks_are_known_however_they_are_written(tag: str) -> None:
    source = "{% for m in messages %}x " + tag + "{{ m.content }}{% endgeneration %}{% endfor %}"
    assert answers(source, [Message("assistant", "a")]) == ["a"]


def test_a_block_in_a_macro_or_a_set_block_is_found() -> None:
    source = ("{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %}.{% endmacro %}"
              "{% for m in messages %}{% set said %}{{ say(m) }}{% endset %}>{{ said }}{% endfor %}")
    assert answers(source, CHAT[1:3]) == ["q1", "a1"]


def test_without_a_token_at_the_end_the_answer_is_all_that_was_added() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}" \
             "{% if add_generation_prompt %}assistant: {% endif %}"
    assert answers(source, CHAT[1:3]) == ["a1\n\n"]


@pytest.mark.parametrize("source", [
    # Only the last answer keeps what it thought (Qwen3 does this).
    "{% for m in messages %}{{ m.role }}:{{ m.content if loop.last else m.content[1:] }};{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
    # The prompt has something that the answered turn has not.
    "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>{% endif %}",
    # The number of messages stands in front.
    "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}",
])
def test_a_template_that_is_not_prefix_stable_is_refused_with_the_mend(source: str) -> None:
    with pytest.raises(InputError, match=r"generation.*told apart.*put {% generation %} blocks") as caught:
        template(source).render(CHAT)
    assert caught.value.field == "chat_template"


def test_the_prompt_opens_the_turn_of_the_assistant() -> None:
    assert template(WITH_BLOCKS).prompt(CHAT[:2]) == "<|system|>s<|end|>\n\n<|user|>q1<|end|>\n\n<|assistant|>"


def test_named_tokens_loop_controls_and_json_work_as_in_transformers() -> None:
    source = ("{{ bos_token }}{{ eos_token }}{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}"
              "{{ {'b': m.content, 'a': 'é<'} | tojson }}{{ [1] | tojson(indent=1) }}{% endfor %}")
    assert template(source).prompt([Message("user", "x&"), Message("user", "y")]) == (
        '<|bos|>{"b": "x&", "a": "é<"}[\n 1\n]')


def test_no_template_sees_the_day() -> None:
    source = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}"
    assert template(source).prompt(CHAT) == "26 Jul 2024"
    with pytest.raises(InputError, match="strftime_now"):
        template("{{ strftime_now('%d') }}").prompt(CHAT)


@pytest.mark.parametrize(("source", "why"), [
    ("{{ raise_exception('roles must alternate') }}", "refuses it: roles must alternate"),
    ("{{ messages[9].content }}", "no element 9|undefined"),
    ("{{ messages[0].content + 1 }}", "str"),
    ("{{ 1 / 0 }}", "division"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ("{{ messages.append(1) }}", "not safely callable|unsafe"),
    ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ("{{ '%d' % 'x' }}", "format"),
    ("{% generation %}{% generation %}{% endgeneration %}{% endgeneration %}", "inside one another"),
    ("{% include 'x' %}", "loader"),
])
def test_a_template_that_fails_is_one_error(source: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        template(source).render(CHAT)


@pytest.mark.parametrize("source", ["{% for %}", "{{ x", "{% generation %}", "{{ x | nofilter }}"])
def test_what_is_no_template_is_refused_at_once(source: str) -> None:
    with pytest.raises(InputError, match="no chat template"):
        template(source)


def test_answers_beyond_the_limit_are_not_looked_for() -> None:
    """Each costs two renderings of all that is before it: of ten thousand turns that would be an hour."""
    chat = [Message(role, f"{number:05}") for number in range(5000) for role in ("user", "assistant")]
    rendered = template(WITHOUT_BLOCKS).render(chat, 1000)
    assert [rendered.text[start:end] for start, end in rendered.answers][:2] == ["00000<|end|>", "00001<|end|>"]
    assert rendered.text.count("<|assistant|>") == 5000
    assert rendered.answers == template(WITHOUT_BLOCKS).render(chat[:40], 1000).answers
    assert 10 < len(rendered.answers) <= 20
