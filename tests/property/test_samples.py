"""Any file whatever: every line is a sample or a bad row, or there is one error for the file; and the sum closes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainq import builtin
from trainq.config import DataSettings
from trainq.errors import InputError
from trainq.jsonl import read_lines
from trainq.preparing import Prepared, PrepareProgress, Rejected, prepare
from trainq.samples import KNOWN_FIELDS, BadRow, ChatSample, Message, Role, TextSample, read_rows, row_digest
from trainq.shards import Shard
from trainq.textcodec import TextCodec

CODEC = TextCodec.load(builtin.folder())

_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                     lambda inner: (st.lists(inner, max_size=3)
                                    | st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=6)
_KEYS = st.sampled_from([*KNOWN_FIELDS, "role", "content", "from", "value", "question"])
_TURNS = st.lists(st.dictionaries(st.sampled_from(["role", "content", "from", "value"]),
                                  st.sampled_from(["system", "user", "assistant", "human", "gpt", "", "hi"]) | _JSON,
                                  max_size=3), max_size=4)
_ALMOST_ROWS = st.dictionaries(_KEYS, _JSON | _TURNS | st.text(max_size=30), max_size=4)
_GOOD_ROWS = st.builds(lambda question, answer: {"prompt": question, "completion": answer}, st.text(max_size=9),
                       st.sampled_from(["a", "b", "c", "<|end|>", "x" * 40, "\u2028é\U0001f600"]))
_GOOD_LINES = st.builds(lambda row: json.dumps(row, ensure_ascii=False).encode(), _GOOD_ROWS)
_LINES = (st.binary(max_size=40) | st.builds(lambda row: json.dumps(row).encode(), _ALMOST_ROWS | _JSON) | _GOOD_LINES
          | st.sampled_from([b"", b"  ", b'{"text": "a"}', b'{"text": "a"}', b"[" * 2000, b'{"text":' + b"[" * 1500]))
_FILES = st.lists(_LINES, max_size=25).map(b"\n".join)
_MOSTLY_GOOD_FILES = st.lists(_GOOD_LINES | _GOOD_LINES | _LINES, min_size=1, max_size=25).map(b"\n".join)
_WRAPPED = st.sampled_from([bytes, gzip.compress, zstandard.ZstdCompressor().compress])
_MAPS = st.sampled_from([{}, {"text": "content"}, {"prompt": "question", "completion": "text"}, {"messages": "value"}])


def ignore(_: int) -> None:
    pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_FILES, wrap=_WRAPPED, mapping=_MAPS, cut=st.integers(0, 30))
def test_any_bytes_give_samples_and_bad_rows_or_one_error(
        tmp_path_factory: pytest.TempPathFactory, content: bytes, wrap: Callable[[bytes], bytes],
        mapping: dict[str, str], cut: int) -> None:
    path = tmp_path_factory.mktemp("file") / "f"
    path.write_bytes(wrap(content)[:-cut or None])
    refusal, rows = None, []
    try:
        rows = list(read_rows(path, mapping, ignore))
    except InputError as error:
        refusal = error
    if refusal is not None:
        assert refusal.file == str(path)
        assert refusal.reason
        return
    assert len(rows) == len(list(read_lines(path, ignore))) > 0
    for row in rows:
        if isinstance(row.verdict, BadRow):
            assert row.verdict.line == row.line.number
            assert 1 <= row.verdict.column <= len(row.line.content) + 1
            assert row.verdict.reason
            assert row.verdict.mend
        else:
            assert len(row_digest(row.verdict)) == 32


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_MOSTLY_GOOD_FILES, wrap=_WRAPPED, mapping=st.just({}) | _MAPS, cut=st.sampled_from([0, 0, 0, 5]),
       context_tokens=st.sampled_from([8, 24, 1024]), long_rows=st.sampled_from(["drop", "truncate"]),
       held_out_fraction=st.sampled_from([0.0, 0.3]), max_bad_rows=st.sampled_from([0.0, 0.5, 1.0, 1.0]))
def test_the_sum_closes_for_any_file(tmp_path_factory: pytest.TempPathFactory, content: bytes,
                                     wrap: Callable[[bytes], bytes], cut: int, context_tokens: int,
                                     mapping: dict[str, str], **given_settings: Any) -> None:
    root = tmp_path_factory.mktemp("desk")
    source = root / "f"
    source.write_bytes(wrap(content)[:-cut or None])
    beats: list[PrepareProgress] = []
    outcome = prepare(source, CODEC, DataSettings(map=mapping, **given_settings), context_tokens, root / "cache",
                      root / "rejected", "f", beats.append)
    report = outcome.report
    assert report.read == (report.trained + report.held_out + report.rejected + report.dropped_long + report.duplicate)
    assert sum(report.reasons.values()) == report.rejected
    if report.rejected:
        assert len((root / "rejected" / "f.rejected.jsonl").read_bytes().splitlines()) == report.rejected
    if isinstance(outcome, Rejected):
        assert outcome.reason
        assert list((root / "cache").iterdir()) == []
        return
    assert isinstance(outcome, Prepared)
    assert report.read == len(list(read_lines(source, ignore)))
    with Shard.open(root / "cache" / outcome.shard, verify=True) as shard:
        assert (shard.rows, shard.tokens) == (report.trained, report.tokens) != (0, 0)
        rows = [shard.row(index) for index in range(shard.rows)]
    assert len({row.digest for row in rows}) == len(rows)
    assert [row.line for row in rows] == sorted({row.line for row in rows})
    for row in rows:
        assert 0 < len(row.token_ids) <= context_tokens
        assert row.trained.any()
        assert not row.trained[0]


_ROLES: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])


@given(st.builds(TextSample, st.text()) | st.builds(
    lambda turns: ChatSample(tuple(turns)), st.lists(st.builds(Message, _ROLES, st.text()))))
def test_the_canonical_form_gives_the_sample_back(sample: ChatSample | TextSample) -> None:
    assert msgspec.json.decode(msgspec.json.encode(sample), type=ChatSample | TextSample) == sample
