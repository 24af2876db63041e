"""A shard gives back what was written, the same input gives the same bytes, and damage never reads as a row."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainq import files, manifests
from trainq.errors import DamageError
from trainq.shards import (
    DIGESTS_NAME,
    OFFSETS_NAME,
    REPORT_NAME,
    ROWS_NAME,
    TOKENS_NAME,
    TRAINED_NAME,
    Shard,
    ShardWriter,
)

ARRAYS = (TOKENS_NAME, TRAINED_NAME, OFFSETS_NAME, DIGESTS_NAME, ROWS_NAME)


class GivenRow(NamedTuple):
    token_ids: list[int]
    trained: list[bool]
    digest: bytes
    line: int


def row(tokens: int, seed: int = 0) -> GivenRow:
    return GivenRow([(seed * 7 + at) % 300 for at in range(tokens)], [at % 2 == 1 for at in range(tokens)],
                    bytes([seed % 256]) * 32, seed + 1)


def write(path: Path, rows: list[GivenRow], report: bytes = b"{}\n") -> str:
    with files.publish_directory(path) as folder, ShardWriter(folder, key="key", context_tokens=1024) as writer:
        for given_row in rows:
            writer.append(*given_row)
        return writer.seal(report).digest


ROWS = [row(3, 1), row(1, 2), row(7, 3)]


_ROWS = st.lists(st.builds(
    lambda tokens, digest, line: GivenRow([token for token, _ in tokens], [flag for _, flag in tokens], digest, line),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.booleans()), min_size=1, max_size=20),
    st.binary(min_size=32, max_size=32), st.integers(1, 2**62)), max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
def test_every_row_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[GivenRow]) -> None:
    path = tmp_path_factory.mktemp("shard") / "s"
    digest = write(path, rows)
    with Shard.open(path, verify=True) as shard:
        assert shard.digest == digest
        assert shard.rows == len(rows)
        assert shard.tokens == sum(len(given_row.token_ids) for given_row in rows)
        assert shard.lengths().dtype == np.int64
        assert shard.lengths().tolist() == [len(given_row.token_ids) for given_row in rows]
        for index, given_row in enumerate(rows):
            found = shard.row(index)
            assert found.token_ids.dtype == np.int64
            assert found.trained.dtype == np.bool_
            assert GivenRow(found.token_ids.tolist(), found.trained.tolist(), found.digest, found.line) == given_row


def test_the_facts_say_what_is_in_it(tmp_path: Path) -> None:
    write(tmp_path / "s", ROWS)
    assert manifests.read(tmp_path / "s", "shard").facts == {
        "format": 1, "key": "key", "context_tokens": 1024, "rows": 3, "tokens": 11, "trained_tokens": 4,
        "longest_row_tokens": 7, "codec": ""}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    paths = tmp_path / "a", tmp_path / "elsewhere" / "b"
    assert write(paths[0], ROWS) == write(paths[1], ROWS)
    names = [sorted(entry.name for entry in path.iterdir()) for path in paths]
    assert names[0] == names[1] == sorted((*ARRAYS, REPORT_NAME, "manifest.json"))
    for name in names[0]:
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()


def test_another_report_is_another_shard(tmp_path: Path) -> None:
    assert write(tmp_path / "a", ROWS, b"1") != write(tmp_path / "b", ROWS, b"2")
    with Shard.open(tmp_path / "a", verify=False) as shard:
        assert shard.report() == b"1"


@pytest.mark.parametrize("index", [-1, 3, 2**40])
def test_a_row_that_is_not_there_is_an_index_error(tmp_path: Path, index: int) -> None:
    write(tmp_path / "s", ROWS)
    with Shard.open(tmp_path / "s", verify=False) as shard, pytest.raises(IndexError, match="3 rows"):
        shard.row(index)


@pytest.mark.parametrize("bad", [
    GivenRow([], [], b"x" * 32, 1),
    GivenRow([1] * 1025, [True] * 1025, b"x" * 32, 1),
    GivenRow([1, 2], [True], b"x" * 32, 1),
    GivenRow([1], [True], b"x" * 31, 1),
    GivenRow([2**32], [True], b"x" * 32, 1),
    GivenRow([-1], [True], b"x" * 32, 1),
])
def test_a_row_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path, bad: GivenRow) -> None:
    with files.publish_directory(tmp_path / "s") as folder, ShardWriter(folder, key="k", context_tokens=1024) as writer:
        writer.append(*ROWS[0])
        with pytest.raises(ValueError, match="line 1"):
            writer.append(*bad)
        writer.append(*ROWS[2])
        writer.seal(b"{}")
    with Shard.open(tmp_path / "s", verify=True) as shard:
        assert shard.lengths().tolist() == [3, 7]


def test_a_writer_that_fails_publishes_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.publish_directory(tmp_path / "s") as folder, \
                ShardWriter(folder, key="k", context_tokens=1024) as writer:
            writer.append(*ROWS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*ARRAYS, REPORT_NAME])
def test_a_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "s", ROWS)
    content = bytearray((tmp_path / "s" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(DamageError, match=name):
        Shard.open(tmp_path / "s", verify=True)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("verify", [True, False])
def test_a_cut_or_missing_array_is_found_at_once(tmp_path: Path, name: str, verify: bool) -> None:
    write(tmp_path / "s", ROWS)
    path = tmp_path / "s" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match=name):
        Shard.open(tmp_path / "s", verify=verify)
    path.unlink()
    with pytest.raises(DamageError, match=name):
        Shard.open(tmp_path / "s", verify=verify)


def test_a_file_cut_behind_an_open_shard_is_damage_and_not_a_signal(tmp_path: Path) -> None:
    write(tmp_path / "s", ROWS)
    with Shard.open(tmp_path / "s", verify=True) as shard:
        (tmp_path / "s" / TOKENS_NAME).write_bytes(b"")
        with pytest.raises(DamageError, match="too early"):
            shard.row(1)


@pytest.mark.parametrize("offsets", [[0, 3, 2, 11], [0, 3, 3, 11], [1, 3, 4, 11], [0, 3, 40, 11], [0, -3, 4, 11]])
def test_offsets_that_contradict_each_other_are_damage(tmp_path: Path, offsets: list[int]) -> None:
    write(tmp_path / "s", ROWS)
    (tmp_path / "s" / OFFSETS_NAME).write_bytes(np.array(offsets, dtype="<i8").tobytes())
    with Shard.open(tmp_path / "s", verify=False) as shard:
        with pytest.raises(DamageError, match=OFFSETS_NAME):
            shard.lengths()
        if offsets[0] == 0:
            with pytest.raises(DamageError, match=OFFSETS_NAME):
                [shard.row(index) for index in range(3)]


def test_what_is_no_shard_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamageError, match="no manifest"):
        Shard.open(tmp_path, verify=True)
    manifests.seal(tmp_path, "checkpoint", {})
    with pytest.raises(DamageError, match="not a 'shard'"):
        Shard.open(tmp_path, verify=True)
    (tmp_path / "s").mkdir()
    manifests.seal(tmp_path / "s", "shard", {"rows": "many"})
    with pytest.raises(DamageError, match="facts"):
        Shard.open(tmp_path / "s", verify=False)


def test_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s", ROWS)
    facts = {**manifests.read(tmp_path / "s", "shard").facts, "format": 2}
    (tmp_path / "s" / "manifest.json").unlink()
    manifests.seal(tmp_path / "s", "shard", facts)
    with pytest.raises(DamageError, match="format 2"):
        Shard.open(tmp_path / "s", verify=True)


def test_a_newer_manifest_is_refused_like_damage_because_it_is_made_again(tmp_path: Path) -> None:
    write(tmp_path / "s", ROWS)
    manifest = tmp_path / "s" / "manifest.json"
    manifest.write_bytes(b'{"format": 99}')
    with pytest.raises(DamageError, match="format 99"):
        Shard.open(tmp_path / "s", verify=True)


def test_closing_twice_is_no_error_and_leaks_nothing(tmp_path: Path) -> None:
    write(tmp_path / "s", ROWS)
    before = len(list(Path("/proc/self/fd").iterdir()))
    shard = Shard.open(tmp_path / "s", verify=True)
    shard.close()
    shard.close()
    (tmp_path / "s" / ROWS_NAME).unlink()
    with pytest.raises(DamageError):
        Shard.open(tmp_path / "s", verify=False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
