# ruff: noqa: PT017 (that there is no error is right as well)
"""Any bytes whatever, where files are read: something valid, or the one error that says so."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainq import config, manifests
from trainq.errors import ConfigurationError, DamageError, InputError, NewerFormatError
from trainq.jsonl import KEPT_BYTES, MAX_LINE_BYTES, read_lines
from trainq.shards import Shard, ShardFacts, ShardWriter

_GZIP, _ZSTD = gzip.compress(b'{"text": "a"}\n' * 5, mtime=0), zstandard.ZstdCompressor().compress(b'{"text": "a"}\n')
_COMPRESSED = st.one_of(
    st.binary(max_size=60).map(lambda rest: b"\x1f\x8b" + rest), st.binary(max_size=60).map(lambda rest: _GZIP + rest),
    st.binary(max_size=60).map(lambda rest: b"\x28\xb5\x2f\xfd" + rest),
    st.binary(max_size=60).map(lambda rest: _ZSTD + rest),
    st.binary(max_size=60).map(lambda rest: b"\x50*M\x18" + rest),
    st.tuples(st.sampled_from([_GZIP, _ZSTD]), st.integers(0, 200), st.integers(1, 255)).map(
        lambda drawn: _flipped(*drawn)))
_MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_TOML = st.one_of(
    st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(lambda section, key, value: f"[{section}]\n{key} = {value}\n".encode(),
              st.sampled_from([*config.Settings.__struct_fields__, "data.folders.a", "x"]),
              st.sampled_from(["map", "path", "epochs", "seed", "lease_seconds", "max_bad_rows", "level", '"a b"']),
              st.one_of(st.integers().map(str), st.floats().map(str), st.sampled_from(
                  ["[]", "{}", '""', "true", "nan", "-inf", "1979-05-27", "{prompt = 5}", '"\\u0000"', "9" * 5000]))))


def _flipped(content: bytes, position: int, bits: int) -> bytes:
    position %= len(content)
    return content[:position] + bytes([content[position] ^ bits]) + content[position + 1:]


def ignore(_: int) -> None:
    pass


@_MANY
@given(content=_COMPRESSED)
def test_any_compressed_bytes_give_lines_or_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    try:
        for line in read_lines(path, ignore):
            assert len(line.content) == line.size_bytes or line.size_bytes > MAX_LINE_BYTES >= KEPT_BYTES
    except InputError as error:
        assert error.file == str(path)
        assert error.mend


@_MANY
@given(content=_TOML)
@example(content=b"[train]\nseed = " + b"9" * 5000)
@example(content=b"[train]\nseed = 0x" + b"f" * 5000)
@example(content=b"[train]\nseed = [0x" + b"f" * 5000 + b"]")
@example(content=b"a = " + b"[" * 3000)
@example(content=b"[a" + b".a" * 3000 + b"]")
@example(content=b"\xef\xbb\xbf[train]\nseed = 1\n")
def test_any_bytes_are_a_configuration_or_its_mistakes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trainq.toml"
    path.write_bytes(content)
    try:
        loaded = config.load({"TRAINQ_CONFIG": str(path), "TRAINQ_HOME": "/tmp/h"}, tmp_path)
    except ConfigurationError as error:
        assert error.problems
        assert all(problem.key and problem.problem and problem.mend for problem in error.problems)
        assert all(len(problem.problem) < 600 for problem in error.problems)
    else:
        assert msgspec.convert(msgspec.to_builtins(loaded.settings), config.Settings) == loaded.settings


@_MANY
@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
@example(value="9" * 5000)
@example(value="[" * 3000)
def test_any_variable_is_a_setting_or_a_mistake(tmp_path: Path, value: str) -> None:
    try:
        config.load({"TRAINQ_TRAIN_SEED": value, "TRAINQ_HOME": "/tmp/h"}, tmp_path)
    except ConfigurationError as error:
        assert [problem.key for problem in error.problems] == ["train.seed"]


def _sealed(folder: Path) -> Path:
    folder.mkdir()
    with ShardWriter(folder, key="k", context_tokens=8) as writer:
        writer.append([1, 2], [False, True], b"d" * 32, 1)
        writer.seal(b"{}")
    return folder


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _sealed(tmp_path_factory.mktemp("shards") / "k")


_DEEP = b'{"format": 1, "kind": "shard", "files": {}, "digest": "", "facts": {"a": ' + b"[" * 400 + b"]" * 400 + b"}}"
_GREAT = b'{"format": 1, "kind": "shard", "files": {}, "digest": "", "facts": {"a": ' + b"9" * 30 + b"}}"


@_MANY
@given(spoil=st.one_of(
    st.binary(max_size=80).map(lambda content: lambda _: content),
    st.tuples(st.integers(0, 5000), st.integers(1, 255)).map(lambda drawn: lambda old: _flipped(old, *drawn)),
    st.integers(0, 5000).map(lambda end: lambda old: old[:end % len(old)])))
@example(spoil=lambda _: _DEEP)
@example(spoil=lambda _: _GREAT)
@example(spoil=lambda _: _GREAT.replace(b'"format": 1', b'"format": 2'))
@example(spoil=lambda _: b"[" * 100_000)
def test_any_manifest_is_the_one_that_was_sealed_or_damaged(shard: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = shard / manifests.MANIFEST_NAME
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    try:
        manifests.verify(shard, "shard")
    except (DamageError, NewerFormatError):
        pass
    else:
        # JSON may be written otherwise and mean the same; the digest is over what it means.
        assert json.loads(path.read_bytes()) == json.loads(whole)
    finally:
        path.write_bytes(whole)


_FACTS = st.one_of(
    st.dictionaries(st.text(max_size=5), st.integers(-2**63, 2**63) | st.text(max_size=5), max_size=3),
    st.fixed_dictionaries({name: st.integers(-3, 5) | st.integers(-2**60, 2**60) for name in
                           ("format", "context_tokens", "rows", "tokens", "trained_tokens", "longest_row_tokens")},
                          optional={"key": st.text(max_size=3), "codec": st.none() | st.text(max_size=3)}))


@_MANY
@given(facts=_FACTS)
def test_any_header_of_a_shard_is_one_or_damaged(tmp_path_factory: pytest.TempPathFactory,
                                                 facts: dict[str, Any]) -> None:
    folder = _sealed(tmp_path_factory.mktemp("s") / "k")
    (folder / manifests.MANIFEST_NAME).unlink()
    manifests.seal(folder, "shard", facts)
    try:
        opened = Shard.open(folder, verify=True)
    except (DamageError, NewerFormatError):
        return
    with opened:
        assert isinstance(opened.facts, ShardFacts)
        assert (opened.rows, opened.tokens) == (1, 2)
