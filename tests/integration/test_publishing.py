"""Champions put elsewhere by real processes: broker, worker and command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests import generations
from tests.installations import wait_for
from tests.places import Place, place_with_broker

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_with_broker(TRAINQ_PROMOTION_PUBLISH_TO=orjson.dumps([str(tmp_path / "there")]).decode()) as made:
        yield made


def publish(place: Place, generation: int) -> str:
    name = generations.publish(place.home.checkpoints, generation, {
        "config.json": b"{}", "model.safetensors": bytes([generation]) * 5000})
    place.tell_of(name)
    return name


def test_each_champion_is_delivered_and_a_delivery_that_failed_is_made_when_asked_for(place: Place,
                                                                                     tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("a file, and no folder")
    place.start("snapshot")
    first = publish(place, 1)
    place.run("champion", "--deliver", code=66)
    place.json("promote", first)

    def newest() -> dict[str, object]:
        told: dict[str, object] = place.json("champion", "--deliveries")["deliveries"][0]
        return told

    wait_for(lambda: newest()["state"] == "failed", "the delivery to a place that is none", 20)
    assert "look at the place" in str(newest()["reason"])
    there.unlink()
    (job,) = place.json("champion", "--deliver")["jobs"]
    wait_for(lambda: newest()["state"] == "succeeded", "the delivery", 20)
    done = newest()
    assert (done["job"], done["checkpoint"], done["pointed_at"], done["copied_bytes"], done["proven_bytes"]) == (
        job, first, first, 5002, 5002)
    pointer = orjson.loads((there / "champion.json").read_bytes())
    assert (pointer["checkpoint"], pointer["folder"], pointer["moved"]["how"]) == (first, done["weights"], "by_hand")
    second = publish(place, 2)
    place.json("promote", second)
    wait_for(lambda: newest().get("checkpoint") == second, "the next champion's", 20)
    assert orjson.loads((there / "champion.json").read_bytes())["checkpoint"] == second
    place.json("rollback")
    wait_for(lambda: orjson.loads((there / "champion.json").read_bytes())["checkpoint"] == first, "the way back", 20)
    assert newest()["copied_bytes"] == 0
    assert "bytes copied" in place.run("champion", "--deliveries")[0]
