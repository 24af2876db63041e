"""Packs are drawn from the reservoirs of earlier shards: the same ones again, and none that is not wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from trainq import manifests, rehearsal, shards
from trainq.errors import DamageError
from trainq.rehearsal import Pack, Reservoir, Source
from trainq.rowjudging import is_held_out
from trainq.samples import Sample, TextSample, canonical, digest_of

ROWS = [canonical(TextSample(f"row {number}")) for number in range(1200)]


def shard(folder: Path, rows: list[bytes], codec: str = "c") -> Path:
    reservoir = Reservoir()
    for row in rows:
        reservoir.offer(digest_of(row), row)
    folder.mkdir()
    (folder / rehearsal.RESERVOIR_NAME).write_bytes(reservoir.content())
    manifests.seal(folder, shards.KIND, {"codec": codec})
    return folder


def draw(sources: list[Source], rows: int, seed: bytes = b"s", unwanted: frozenset[bytes] = frozenset()) -> list[bytes]:
    drawn = rehearsal.draw(sources, "c", rows, seed, lambda digest, _: digest not in unwanted, lambda: None)
    assert drawn is None or sum(drawn.sources.values()) == len(drawn.content.splitlines())
    return [] if drawn is None else drawn.content.splitlines()


def test_a_reservoir_keeps_the_same_rows_whatever_the_order() -> None:
    made = []
    for rows in (ROWS, ROWS[::-1]):
        reservoir = Reservoir()
        for row in rows:
            reservoir.offer(digest_of(row), row)
        made.append(reservoir.content())
    assert made[0] == made[1]
    assert made[0].splitlines() == sorted(
        ROWS, key=lambda row: rehearsal.rank_of(digest_of(row)))[:rehearsal.RESERVOIR_ROWS]
    # Held out are those with the smallest digests: when more are, most of what is kept may still be replayed.
    left = sum(not is_held_out(digest_of(row), 0.3) for row in made[0].splitlines())
    assert 0.6 * rehearsal.RESERVOIR_ROWS < left < 0.8 * rehearsal.RESERVOIR_ROWS
    small = Reservoir()
    small.offer(bytes(32), b"x" * (rehearsal.MAX_ROW_BYTES + 1))
    assert small.content() == b""


def test_a_draw_is_decided_by_sources_and_seed(tmp_path: Path) -> None:
    sources = [Source("train-1", shard(tmp_path / "a", ROWS[:40])),
               Source("train-2", shard(tmp_path / "b", ROWS[20:80]))]
    drawn = draw(sources, 30)
    assert drawn == draw(sources[::-1], 30)
    assert drawn[:10] == draw(sources, 10)
    assert drawn != draw(sources, 30, seed=b"t")
    assert len(set(drawn)) == 30
    assert sorted(draw(sources, 1000)) == sorted(ROWS[:80])
    unwanted = frozenset(map(digest_of, ROWS[:70]))
    assert set(draw(sources, 1000, unwanted=unwanted)) == set(ROWS[70:80])
    assert draw(sources, 0) == draw([], 5) == []


def test_shards_that_cannot_be_used_are_passed_over(tmp_path: Path) -> None:
    other, broken = shard(tmp_path / "other", ROWS[:5], codec="d"), shard(tmp_path / "broken", ROWS[:5])
    (broken / rehearsal.RESERVOIR_NAME).write_bytes(ROWS[7] + b"\n")
    old = tmp_path / "old"
    old.mkdir()
    manifests.seal(old, shards.KIND, {"codec": "c"})
    assert draw([Source("train-1", path) for path in (other, broken, old, tmp_path / "gone")], 5) == []


def test_a_pack_is_proven_when_it_is_read(tmp_path: Path) -> None:
    path, content = tmp_path / "pack", ROWS[0] + b"\n" + ROWS[1] + b"\n"
    path.write_bytes(content)
    digest = blake3(content).hexdigest()
    found: list[tuple[int, bytes, Sample]] = list(Pack.read(path, digest).rows())
    assert found == [(1, digest_of(ROWS[0]), TextSample("row 0")), (2, digest_of(ROWS[1]), TextSample("row 1"))]
    with pytest.raises(DamageError, match="gone or damaged"):
        Pack.read(path, "0" * 64)
    with pytest.raises(DamageError, match="line 1 is no row"):
        list(Pack(b"{}\n", digest).rows())


def test_more_are_drawn_than_are_needed() -> None:
    assert rehearsal.wanted_rows(9, 0.1) == 0
    assert rehearsal.wanted_rows(100, 0.1) == 10 + 2 + 16
    assert rehearsal.wanted_rows(10_000_000, 0.5) == rehearsal.MAX_PACK_ROWS
