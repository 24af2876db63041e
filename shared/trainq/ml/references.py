"""What a suite's references come to with a checkpoint: what its model would have to say, and whether that scores 1.

A scorer that has proven itself (:func:`trainq.scoring.prove`) has seen the texts of the references. What a model says
comes out of its tokenizer, after what its template puts before an answer, and ends where it has said as many tokens as
it may: three places where the right answer becomes a wrong one, and a score of 0 says nothing of the model. So each
reference goes the whole way before any answer is scored: encoded as it is trained, cut where an answer is, decoded as
answers are, and scored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from trainq.errors import InputError
from trainq.samples import ChatSample, Message
from trainq.scoring import Case, Scorer
from trainq.textcodec import EncodedRow, TextCodec

_AT_ONCE = 128
_SHOWN_CHARACTERS = 200


class Asked(NamedTuple):
    """Who is asked: its tokenizer and template, the tokens that end its answers, the most that it takes, and what an
    answer may be of that, in tokens."""

    codec: TextCodec
    stops: Collection[int]
    context: int
    max_new_tokens: int


def check(asked: Asked, scorer: Scorer, cases: Sequence[Case]) -> None:
    """See to it that the checkpoint can be right: in each row that it is asked, if it says what it was to be taught.

    Args:
        asked: who, and how.
        scorer: which has proven itself.
        cases: the rows of the suite; those that do not fit into the model are not asked.

    Raises:
        InputError: it could not, and why.
    """
    fit: list[Case] = []
    said: list[list[int]] = []
    for start in range(0, len(cases), _AT_ONCE):
        piece = cases[start:start + _AT_ONCE]
        prompts = [asked.codec.encode_prompt(case.prompt) for case in piece]
        fitting = [(case, ids) for case, ids in zip(piece, prompts, strict=True)
                   if len(ids) + asked.max_new_tokens <= asked.context]
        rows = asked.codec.encode_batch([_sample(case) for case, _ in fitting], asked.context)
        for (case, prompt), row in zip(fitting, rows, strict=True):
            if isinstance(row, InputError):
                raise InputError(f"row {case.row}: {row.reason}", field=row.field, mend=row.mend)
            fit.append(case)
            said.append(answer_ids(row, prompt, asked.stops))
    _check_lengths(fit, said, asked.max_new_tokens)
    if fit:
        _check_scores(scorer, fit, [asked.codec.decode(ids) for ids in said])


def answer_ids(row: EncodedRow, prompt: Sequence[int], stops: Collection[int]) -> list[int]:
    """What a model would have to say for its row: up to the token that ends it, with that one.

    That is everything behind the prompt, trained or not, up to the last token that is trained; where prompt and answer
    share a token, so that the prompt's are not those that the row begins with, it is the last trained stretch.
    """
    end = max((at + 1 for at, trained in enumerate(row.trained) if trained), default=0)
    start = len(prompt)
    if row.token_ids[:start] != list(prompt):
        start = end
        while start and row.trained[start - 1]:
            start -= 1
    ids = row.token_ids[start:end]
    stop = next((at + 1 for at, token in enumerate(ids) if token in stops), len(ids))
    return ids[:stop]


def _sample(case: Case) -> ChatSample:
    return ChatSample((*case.prompt, Message("assistant", case.reference)))


def _check_lengths(cases: Sequence[Case], said: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    too_long = [(len(ids), case.row) for case, ids in zip(cases, said, strict=True) if len(ids) > max_new_tokens]
    if too_long:
        most, row = max(too_long)
        raise InputError(
            f"the references of {len(too_long)} of {len(cases)} rows need more than the {max_new_tokens} tokens that "
            f"an answer may have, that of row {row} {most} with what ends it: right answers would be cut, and count as "
            "wrong", field="max_new_tokens", mend=f"set max_new_tokens to {most} at least")


def _check_scores(scorer: Scorer, cases: Sequence[Case], texts: Sequence[str]) -> None:
    for case, text, score in zip(cases, texts, scorer.scores(cases, texts), strict=True):
        if score.value != 1.0:
            raise InputError(
                f"the reference of row {case.row} comes out of this checkpoint's template and tokenizer as "
                f"{_shown(text)}, which the scorer {scorer.name} gives {score.value:g} in place of 1: no answer of "
                "this model could be right", field="scorer",
                mend="mend the chat template or the tokenizer, or have the scorer look past what they add")


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}..."
