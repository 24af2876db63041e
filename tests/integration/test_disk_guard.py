"""A disk that gets too full holds what needs room, and lets it go by itself; nothing fails for it."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from tests import generations
from tests.installations import wait_for
from tests.places import place_with_broker
from trainq import room

GIB = 1 << 30


def test_what_needs_room_waits_until_there_is_some(tmp_path: Path) -> None:
    free_gib = room.free_bytes(tmp_path) / GIB
    there = tmp_path / "there"
    with place_with_broker(TRAINQ_DISK_HOLD_GIB=f"{free_gib - 2:.3f}",
                           TRAINQ_PROMOTION_PUBLISH_TO=orjson.dumps([str(there)]).decode()) as place:
        champion = generations.publish(place.home.checkpoints, 1, {"model.safetensors": b"w"})
        place.tell_of(champion)
        place.start("snapshot")
        assert place.json("snapshot", "create", "--wait")["jobs"][0]["state"] == "succeeded"
        filler = place.home.root / "filler"
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 3 * GIB)
        wait_for(lambda: place.json("status")["disk"]["state"] == "hold", "it is noticed")
        job = place.json("snapshot", "create")["job"]
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"text": "hello"}\n')
        place.run("submit", str(rows))
        place.start("preparer")
        assert place.json("snapshot", "verify", "--wait")["jobs"][0]["state"] == "succeeded", "a proof needs no room"
        assert place.json("show", job)["job"]["state"] == "queued"
        place.json("promote", champion)
        delivery = place.json("champion", "--deliveries")["deliveries"][0]["job"]
        assert place.json("show", delivery)["job"]["state"] == "queued", "the place is a folder of this machine"
        assert not there.exists()
        assert place.json("show", "prepare-1")["job"]["attempts"] == 0
        assert "too low" in place.run("status")[0]
        filler.unlink()
        assert place.json("wait", job, delivery)["jobs"][0]["state"] == "succeeded"
        assert (there / "champion.json").exists()
        place.run("wait", "prepare-1")
        assert place.json("show", "prepare-1")["job"]["failures"] == 0
