"""A backup of a home that goes on working, and what comes of it on an empty folder: the run, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generations import bits_of
from tests.installations import Installation, wait_for
from trainq import backups, checkpoints, manifests, objects
from trainq.config import Home
from trainq.journal import Journal, Queries

pytestmark = pytest.mark.slow

FAST = {"TRAINQ_TRAIN_THREADS": "1", "TRAINQ_TRAIN_BATCH_ROWS": "4", "TRAINQ_TRAIN_MICRO_BATCH_ROWS": "2",
        "TRAINQ_TRAIN_CHECKPOINT_STEPS": "3", "TRAINQ_TRAIN_CHECKPOINT_MAX_SHARE": "1"}


def bits(home: Home) -> dict[str, str]:
    head = checkpoints.list_generations(home.checkpoints)[0]
    return bits_of(manifests.read(head, checkpoints.KIND))


def trained(installation: Installation) -> list[str]:
    return [job["id"] for job in installation.jobs("succeeded")]


def test_a_backup_on_an_empty_folder_goes_on_bit_for_bit(installation: Installation, tmp_path: Path) -> None:
    store, restored = tmp_path / "store", installation.folder / "r"
    installation.settings = FAST
    installation.start()
    installation.wait_answers()
    first = installation.submit_rows("first.jsonl", 12)
    wait_for(lambda: first in trained(installation), "one is trained", 120)
    one = installation.json("backup", "create", str(store), "--wait")["jobs"][0]
    assert one["state"] == "succeeded", one
    installation.submit_rows("second.jsonl", 120)
    installation.submit_rows("third.jsonl", 12)
    wait_for(lambda: checkpoints.list_generations(installation.home.checkpoints)[0].name >= "g000004",
             "the second is in its middle", 60)
    made = installation.json("backup", "create", str(store), "--wait")["jobs"][0]["result"]["facts"]
    assert made["shared_bytes"] > 0, "what the first one has is not copied again"
    assert installation.json("backup", "verify", str(store))["backup"] == made["backup"]
    listed = installation.json("backup", "list", str(store))["backups"]
    assert [entry["backup"] for entry in listed] == [made["backup"], one["result"]["facts"]["backup"]]
    assert listed[0]["checkpoint"] >= "g000004"
    wait_for(lambda: len(trained(installation)) == 3, "all are trained", 120)
    undisturbed = bits(installation.home)
    installation.stop()

    installation.trainq("backup", "restore", str(store), str(restored))
    assert (restored / "journal.db").is_file()
    installation.home = Home(restored)
    journal = Journal.open(restored / "journal.db")
    assert Queries(journal).counts()["train"]["succeeded"] < 3, "it is as it was then"
    journal.close()
    installation.start()
    installation.wait_answers()
    wait_for(lambda: len(trained(installation)) == 3, "it goes on to the end", 120)
    assert bits(installation.home) == undisturbed
    installation.prove()

    # What is damaged is not restored, and nothing half done stays.
    record = backups.find(store).manifest.files["journal.db"]
    kept = objects.path_of(store, record.blake3)
    with kept.open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"damage")
    other = installation.folder / "o"
    refused = installation.trainq("backup", "restore", str(store), str(other), expect=74)
    assert "journal.db" in refused.stderr
    assert not other.exists()
    installation.trainq("backup", "restore", str(store), str(restored), expect=65)
    assert "journal.db" in installation.trainq("backup", "verify", str(store), expect=74).stderr
    assert not kept.exists()
    assert kept.with_name(f"{kept.name}.damaged").exists()
