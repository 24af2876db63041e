"""What lies there, what it takes, and why some of it must stay."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.generations import publish
from trainq import manifests, shards, snapshots
from trainq.config import Home, RetentionSettings
from trainq.jobs import PinView, Store
from trainq.messages import Kept
from trainq.retention import leftovers, stock

NOTHING = Kept(pins=[], removals=[], checkpoint="", dropping=[])


def take_snapshot(home: Home, name: str) -> None:
    snapshots.create(home.snapshots, home.checkpoints / name, jobs=b"", job_count=0, created_at=5.0, created_by="test",
                     on_chunk=lambda _: None)


def why(home: Home, kept: Kept = NOTHING) -> dict[str, str]:
    return {f"{item.store.value[0]}{item.generation}": item.must_stay for item in stock.read(home, kept)}


def test_each_has_its_reason(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = [publish(home.checkpoints, 1, {"w": b"1"}), publish(home.checkpoints, 2, {"w": b"2"}),
             publish(home.checkpoints, 900, {"w": b"3"}), publish(home.checkpoints, 2600, {"w": b"4"})]
    names.append(publish(home.checkpoints, 2601, {"w": b"5"}, base=names[1], parent=names[3], job="train-9"))
    for name in (names[2], names[3]):
        take_snapshot(home, name)
    pin = PinView(store=Store.CHECKPOINTS, name=names[0], reason="mine", at=0.0)
    assert why(home, Kept(pins=[pin], removals=[], checkpoint=names[4], dropping=[])) == {
        "c1": "pinned: mine", "c2": f"the generation before the job in {names[4]}", "c900": "",
        "c2600": f"the generation before {names[4]}", "c2601": "the head: training goes on from it",
        "s2600": "the newest snapshot", "s900": ""}


def test_the_head_of_the_journal_stays_also_where_a_newer_one_lies(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = [publish(home.checkpoints, number, {"w": b"1"}) for number in (1, 2, 3, 4)]
    assert why(home, Kept(pins=[], removals=[], checkpoint=names[1], dropping=[]))["c2"].startswith("the head")


def test_the_newest_that_is_not_marked_stays_with_what_it_needs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ground = publish(home.checkpoints, 1, {"w": b"1"})
    publish(home.checkpoints, 2, {"w": b"1"}, marks=("bad",))
    middle = publish(home.checkpoints, 3, {"w": b"1"}, base=ground, job="train-1", done=False)
    late = [publish(home.checkpoints, number, {"w": b"1"}, marks=("bad",)) for number in range(4, 8)]
    assert why(home) == {"c1": f"{middle} needs it", "c2": "", "c3": "the newest whose state is not marked", "c4": "",
                         "c5": "", "c6": "one of 2 that always stay (2)", "c7": "the head: training goes on from it"}
    proven = [path.name for path in stock.to_be_proven(home.checkpoints)]
    assert proven == [late[3], late[2], middle, ground]


def test_who_is_champion_or_pinned_stays_with_what_it_needs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    grounds = [publish(home.checkpoints, number, {"w": b"1"}) for number in (1, 2)]
    champion = publish(home.checkpoints, 3, {"w": b"1"}, base=grounds[0], job="train-1", done=False)
    mine = publish(home.checkpoints, 4, {"w": b"1"}, base=grounds[1], job="train-2", done=False)
    for number in (5, 6, 7, 8):
        publish(home.checkpoints, number, {"w": b"1"})
    take_snapshot(home, champion)
    pin = PinView(store=Store.CHECKPOINTS, name=mine, reason="mine", at=0.0)
    nobody = why(home)
    assert [nobody[f"c{number}"] for number in (1, 2, 3, 4)] == [""] * 4
    kept = why(home, msgspec.structs.replace(NOTHING, pins=[pin], champions=(champion,)))
    assert kept == nobody | {
        "c1": f"{champion} needs it", "c2": f"{mine} needs it",
        "c3": "the champion, who was it before, or is proposed", "c4": "pinned: mine"}


def test_the_newest_that_is_not_marked_stays_in_both_stores(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = [publish(home.checkpoints, number, {"w": b"1"}, marks=("bad",) if number > 2 else ())
             for number in range(1, 7)]
    for name in names[:5]:
        take_snapshot(home, name)
    unmarked = "the newest whose state is not marked"
    assert why(home) == {
        "c1": "", "c2": unmarked, "c3": "", "c4": "", "c5": "one of 2 that always stay (2)",
        "c6": "the head: training goes on from it", "s1": "", "s2": unmarked, "s3": "", "s4": "",
        "s5": "the newest snapshot"}
    assert [path.name for path in stock.to_be_proven(home.checkpoints)] == [names[5], names[4], names[1]]
    assert stock.proving(home.checkpoints) == names[1], "what was learnt in marked states alone is not safe"
    marked = {item.name for item in stock.read(home, NOTHING) if item.marks}
    assert marked == set(names[2:])
    publish(home.checkpoints, 7, {"w": b"1"})
    assert why(home)["c2"] == ""
    assert len(stock.to_be_proven(home.checkpoints)) == 2
    assert stock.proving(home.checkpoints) == names[5], "the second newest, whatever its own state"


def test_nothing_proves_while_all_are_marked_or_there_is_one_alone(tmp_path: Path) -> None:
    publish(tmp_path / "marked", 1, {"w": b"1"}, marks=("bad",))
    publish(tmp_path / "marked", 2, {"w": b"1"}, marks=("bad",))
    publish(tmp_path / "one", 1, {"w": b"1"})
    assert [stock.proving(tmp_path / name) for name in ("marked", "one", "none")] == ["", "", ""]


def test_the_weights_under_an_adapter_stay_and_all_do_while_one_cannot_be_read(tmp_path: Path) -> None:
    first = publish(tmp_path, 1, {"w": b"1"}, adapter_of="self")
    other = publish(tmp_path, 2, {"w": b"2"}, adapter_of="self")
    adapter = publish(tmp_path, 3, {"w": b"3"}, adapter_of=first)
    publish(tmp_path, 4, {"w": b"4"}, adapter_of="self")
    newest = publish(tmp_path, 5, {"w": b"5"})
    kept = stock.protected_checkpoints(tmp_path, newest)
    assert kept[first] == f"the weights under the adapter in {adapter}"
    assert other not in kept
    (tmp_path / adapter / manifests.MANIFEST_NAME).write_bytes(b"?")
    kept = stock.protected_checkpoints(tmp_path, newest)
    assert {first, other} <= kept.keys()
    assert kept[first] == f"{adapter} cannot be read, and may need the weights in it"


def test_what_cannot_be_read_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = [publish(home.checkpoints, number, {"w": b"1"}) for number in (1, 2, 3, 4)]
    take_snapshot(home, names[0])
    take_snapshot(home, names[1])
    for path in (home.checkpoints / names[0], home.snapshots / names[1]):
        (path / "manifest.json").write_bytes(b"{}")
    assert "cannot be read" in why(home)["c1"]
    assert "cannot be read" in why(home)["s2"]
    assert why(home)["s1"] == "the newest snapshot", "of those that can be"


def test_a_snapshot_frees_only_what_no_other_has(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for number in (1, 2):
        take_snapshot(home, publish(home.checkpoints, number, {"same": bytes(3000), "own": bytes([number]) * 300}))
    (first,) = [item for item in stock.read(home, NOTHING) if (item.store, item.generation) == (Store.SNAPSHOTS, 1)]
    assert 300 <= first.size_bytes < 3300


def test_a_shard_is_known_by_its_kind() -> None:
    assert leftovers.SHARD_KIND == shards.KIND


def test_an_inode_counts_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.data.mkdir()
    (home.data / "a").write_bytes(os.urandom(1 << 16))
    once = stock.total_bytes(home)
    assert once >= 1 << 16
    (home.data / "b").hardlink_to(home.data / "a")
    assert stock.total_bytes(home) == once
    assert stock.excess_bytes(home, RetentionSettings()) == 0
    small = RetentionSettings(budget_gib=(once - 4096) / (1 << 30))
    assert stock.excess_bytes(home, small) == 4096
    assert stock.excess_bytes(home, small, with_trash=True)
    huge = RetentionSettings(min_free_gib=1e6)
    assert stock.excess_bytes(home, huge, with_trash=True)
    assert stock.excess_bytes(home, huge) > 0
