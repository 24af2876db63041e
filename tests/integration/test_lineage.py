"""Lineage both ways, of a line that went back: what is in a generation, and where a file and a row have gone.

All that is expected is written down by hand, from how a line is numbered: two steps an epoch, a generation after each
step. Which rows entered which step is what the checker's own reader of ledgers says.
"""

from __future__ import annotations

import csv
import io
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.drills import Drill
from tests.installations import Installation
from trainq_checker import reading

pytestmark = pytest.mark.slow

G1, G2, G3, G4 = "g000001-s00000000", "g000002-s00000001", "g000003-s00000002", "g000004-s00000003"
G5, G6, G7, G8 = "g000005-s00000004", "g000006-s00000002", "g000007-s00000003", "g000008-s00000004"


def names(documents: list[dict[str, Any]]) -> list[str]:
    return [document["name"] for document in documents]


def jobs(document: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(job["job"], job["name"], job["generation"]) for job in document["jobs"]]


def test_a_line_that_went_back(installation: Installation) -> None:
    drill = Drill(installation, TRAINQ_TRAIN_CHECKPOINT_STEPS="1", TRAINQ_TRAIN_CHECKPOINT_MAX_SHARE="1",
                  TRAINQ_TRAIN_EPOCHS="1", TRAINQ_SCHEDULE_ENABLED="false")
    one = drill.train("one.jsonl")
    drill.until_trained(one)
    assert drill.snapshot() == G3
    two = drill.train("two.jsonl")
    drill.until_trained(two)
    drill.restore(G3)
    three = drill.train("three.jsonl")
    drill.until_trained(three)
    assert drill.head().name == G8

    _what_made_it(installation, one, two, three)
    _who_holds_it(installation, one, two, three)
    _over_http(drill, two)
    _who_saw_a_row(drill, two)
    _with_generations_gone(drill, one, two)
    steps = list(csv.DictReader(io.StringIO(installation.trainq("metrics", two, "--csv").stdout)))
    assert [(row["job_step"], row["epoch"], row["rows"], row["micro_batches"]) for row in steps] == [
        ("1", "0", "4", "2"), ("2", "0", "4", "2")]
    _without_the_broker(installation, one, three)


def _what_made_it(installation: Installation, one: str, two: str, three: str) -> None:
    head = installation.json("lineage")
    assert (head["name"], head["source"], head["job_count"], head["in_the_middle_of"]) == (G8, "broker", 2, None)
    assert jobs(head) == [(one, "one.jsonl", 3), (three, "three.jsonl", 8)]
    assert [(job["rows"], job["steps"]) for job in head["jobs"]] == [(8, 2), (8, 2)]
    assert all(job["trained_at"] > 1e9 and job["tokens"] > 8 for job in head["jobs"])
    assert names(head["chain"]) == [G8, G7, G6, G3, G2, G1]
    restored = head["chain"][2]
    assert (restored["reason"], restored["made_by"], restored["restored_from"]) == ("restore", "restore-2", 3)
    assert [link["reason"] for link in head["chain"]] == [
        "job_end", "interval", "restore", "job_end", "interval", "initial"]
    assert head["chain"][3]["stores"] == ["checkpoints", "snapshots"]

    left = installation.json("lineage", "5")
    assert jobs(left) == [(one, "one.jsonl", 3), (two, "two.jsonl", 5)]
    assert [(job["steps"], job["trained_at"] > 1e9) for job in left["jobs"]] == [(2, True), (2, True)]
    assert names(left["chain"]) == [G5, G4, G3, G2, G1]

    middle = installation.json("lineage", G4)
    assert jobs(middle) == [(one, "one.jsonl", 3)]
    assert middle["in_the_middle_of"] == {"job": two, "steps": 1, "steps_planned": 2}
    said = installation.trainq("lineage", G4).stdout
    assert f"{two}, 1 of its 2 steps" in said
    assert installation.trainq("lineage", "9", expect=66).stdout == ""


def _who_holds_it(installation: Installation, one: str, two: str, three: str) -> None:
    (held,) = installation.json("lineage", "--file", str(installation.folder / "one.jsonl"))["jobs"]
    assert (held["job"], held["state"], held["trained_in"], held["in_head"]) == (one, "succeeded", [3], True)
    assert names(held["held_by"]) == [G8, G7, G6, G5, G4, G3]
    assert (names(held["half_in"]), held["held_by_gone"], held["half_in_gone"]) == ([G2], [], [])

    (taken_out,) = installation.json("lineage", "--job", two)["jobs"]
    assert (taken_out["state"], taken_out["trained_in"], taken_out["in_head"]) == ("cancelled", [5], False)
    assert (names(taken_out["held_by"]), names(taken_out["half_in"])) == ([G5], [G4])

    (last,) = installation.json("lineage", "--digest", installation.json("show", three)["job"]["digest"])["jobs"]
    assert (last["job"], names(last["held_by"]), names(last["half_in"])) == (three, [G8], [G7])
    assert installation.trainq("lineage", "--digest", "0" * 64, expect=66).stdout == ""


def _over_http(drill: Drill, two: str) -> None:
    """The same that the command says."""
    (web,) = [each for each in drill.installation.json("status")["services"] if each["name"] == "web"]
    token = drill.home.token_file.read_text().strip()
    digest = drill.installation.json("show", two)["job"]["digest"]
    for words, path in (((), "generations/head"), ((G4,), f"generations/{G4}"),
                        (("--job", two), f"jobs/{two}"), (("--digest", digest), f"digests/{digest}")):
        request = urllib.request.Request(f"{web['detail']}/api/v1/lineage/{path}",
                                         headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            told = orjson.loads(answer.read())
        assert {**told, "v": 1} == {**drill.installation.json("lineage", *words), "left_out": []}
        if path.startswith("generations"):
            request.full_url += "?limit=1"
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert orjson.loads(answer.read()) == {**told, "jobs": told["jobs"][-1:]}


def _who_saw_a_row(drill: Drill, two: str) -> None:
    installation, path = drill.installation, drill.installation.folder / "two.jsonl"
    (event,) = [event for event in installation.events(two) if event["type"] == "JobPrepared"]
    digests = {line: digest for digest, line in reading.row_digests(drill.home.cache / event["body"]["shard"])}
    _, after_one_step = reading.read_ledger(drill.home.checkpoints / G4 / "ledger.bin")
    early = {line for line, digest in digests.items() if after_one_step[digest]}
    assert len(early) == 4
    for line in [*sorted(digests.keys() - early)[:1], *sorted(early)[:1]]:
        (seen,) = installation.json("lineage", "--row", f"{path}:{line}")["jobs"]
        assert seen["row"]["fate"] == "trained"
        assert seen["row"]["steps"] == [[1 if line in early else 2, 1]]
        assert names(seen["seen_by"]) == ([G5, G4] if line in early else [G5])
        assert names(seen["not_seen_by"]) == ([] if line in early else [G4])
        assert all(each["times"] == 1 and each["proven"] for each in seen["seen_by"])
    # A file of the same content elsewhere is that file; another byte makes another.
    elsewhere = installation.folder / "elsewhere"
    shutil.copy(path, elsewhere)
    assert installation.json("lineage", "--row", f"{elsewhere}:1")["jobs"][0]["job"] == two
    elsewhere.write_bytes(path.read_bytes() + b" ")
    assert installation.trainq("lineage", "--row", f"{elsewhere}:1", expect=66).stdout == ""
    assert installation.trainq("lineage", "--row", f"{two}:99", expect=65).stdout == ""


def _with_generations_gone(drill: Drill, one: str, two: str) -> None:
    for name in (G2, G4):
        shutil.rmtree(drill.home.checkpoints / name)
    installation = drill.installation
    assert [(link["first"], link["last"]) for link in installation.json("lineage", "5")["chain"] if link["gone"]] == [
        (4, 4), (2, 2)]
    (held,) = installation.json("lineage", "--job", one)["jobs"]
    assert (names(held["held_by"]), held["held_by_gone"], held["half_in_gone"]) == ([G8, G7, G6, G5, G3], [[4, 4]], [2])
    # The shard is gone, too: it is made again, and says the same.
    before = installation.json("lineage", "--row", f"{two}:2")["jobs"][0]
    shutil.rmtree(next(drill.home.cache.glob(_shard_of(installation, two))))
    assert installation.json("lineage", "--row", f"{two}:2")["jobs"][0] == before
    assert names(before["seen_by"]) == [G5]


def _shard_of(installation: Installation, job: str) -> str:
    return next(str(event["body"]["shard"]) for event in installation.events(job) if event["type"] == "JobPrepared")


def _without_the_broker(installation: Installation, one: str, three: str) -> None:
    installation.control("stop", "broker")
    said = installation.trainq("lineage", "--json")
    document = orjson.loads(said.stdout)
    assert "manifests" in said.stderr
    assert (document["name"], document["source"], document["job_count"]) == (G8, "manifests", 2)
    assert [(job["job"], job["name"], job["steps"], job["rows_seen"]) for job in document["jobs"]] == [
        (one, "one.jsonl", 2, 8), (three, "three.jsonl", 2, 8)]
    assert [link["first"] for link in document["chain"]] == [8, 7, 6, 3, 2]
    assert document["chain"][-1]["gone"]
    held = installation.json("lineage", "--file", str(Path(installation.folder) / "two.jsonl"))
    assert (names(held["held_by"]), held["unknown"]) == ([G5], [])
    assert installation.trainq("lineage", "--row", f"{three}:1", expect=69).stdout == ""
