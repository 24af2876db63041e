"""Old backups let go: by the command, and by the real worker after each that a rule of the schedule asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import generations
from tests.made_backups import damage
from tests.places import Place, place_with_broker
from trainq import backups, objects

RULES = '{often = {task = "backup", destination = "%s", keep_last = 2, every_hours = 1}}'


@pytest.fixture
def place() -> Iterator[Place]:
    with place_with_broker() as made:
        made.tell_of(generations.publish(made.home.checkpoints, 1, {"model.safetensors": b"w" * 1000}))
        yield made


def names(store: Path) -> list[str]:
    return [path.name for path in backups.list_backups(store)]


def test_a_rule_keeps_the_last_ones_and_says_what_went(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "store"
    place.environment["TRAINQ_SCHEDULE_RULES"] = RULES % store
    place.start("snapshot")
    results = [place.json("schedule", "run", "often", "--wait")["jobs"][0]["result"] for _ in range(4)]
    made = [result["facts"]["backup"] for result in results]
    assert [result["facts"]["pruned"] for result in results] == [[], [], [made[0]], [made[1]]]
    assert results[-1]["facts"]["freed_bytes"] > 0
    assert "1 old ones went" in results[-1]["summary"]
    assert names(store) == [made[3], made[2]]
    for name in names(store):
        assert place.json("backup", "verify", str(store), "--name", name)["backup"] == name
    assert place.json("backup", "create", str(store), "--wait")["jobs"][0]["result"]["facts"]["pruned"] == []
    assert len(names(store)) == 3


def test_damage_is_found_before_old_ones_go_and_is_mended_by_the_next(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "store"
    place.environment["TRAINQ_SCHEDULE_RULES"] = RULES % store
    place.start("snapshot")

    def run() -> tuple[str, list[str]]:
        result = place.json("schedule", "run", "often", "--wait")["jobs"][0]["result"]
        return result["summary"], result["facts"]["pruned"]

    for _ in range(2):
        run()
    damage(store, names(store)[0], "checkpoints/g000001-s00000010/model.safetensors")
    summary, pruned = run()
    assert f"damaged: {', '.join(names(store))}" in summary
    assert pruned == []
    assert len(names(store)) == 3
    summary, pruned = run()
    assert "damaged" not in summary
    assert len(pruned) == 2
    assert place.json("backup", "verify", str(store))["backup"] == names(store)[0]


def test_the_command_plans_does_and_names_who_is_at_it(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "store"
    place.start("snapshot")
    made = [place.json("backup", "create", str(store), "--wait")["jobs"][0]["result"]["facts"]["backup"]
            for _ in range(3)]
    place.run("backup", "prune", str(store), code=64)
    place.run("backup", "prune", str(tmp_path / "nowhere"), "--last", "1", code=66)
    planned = place.json("backup", "prune", str(store), "--last", "1", "--plan")
    assert [verdict["keep"] for verdict in planned["backups"]] == [True, False, False]
    assert planned["freed_bytes"] > 0
    assert len(names(store)) == 3
    out, err = place.run("backup", "prune", str(store), "--last", "1", "--plan")
    assert "no rule keeps it" in out
    assert "2 of 3 would go" in err
    with objects.writing(store):
        out, _ = place.run("backup", "prune", str(store), "--last", "1", "--json", code=75)
        assert "writer of this store is already running as process" in json.loads(out)["error"]["message"]
    done = place.json("backup", "prune", str(store), "--last", "1")
    assert (done["going"], done["freed_bytes"]) == (2, planned["freed_bytes"])
    assert names(store) == [made[-1]]
    assert place.json("backup", "verify", str(store))["backup"] == made[-1]
    root = tmp_path / "restored"
    place.run("backup", "restore", str(store), str(root))
    assert (root / "checkpoints" / "g000001-s00000010" / "model.safetensors").read_bytes() == b"w" * 1000
