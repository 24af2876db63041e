"""A poisoned file waits for a person, the next one replays what was trained, and all of it can be derived again."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from drills import Drill
from installations import Installation, wait_for

pytestmark = pytest.mark.slow


def write(installation: Installation, name: str, rows: list[dict[str, str]]) -> str:
    path = installation.folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def submit(installation: Installation, name: str, rows: list[dict[str, str]]) -> str:
    return str(installation.json("submit", write(installation, name, rows))["receipts"][0]["job"])


def asked(word: str, numbers: range) -> list[dict[str, str]]:
    return [{"prompt": f"{word} {number}?", "completion": f"{word} {number}!"} for number in numbers]


@pytest.mark.timeout(600)
def test_a_poisoned_file_is_held_and_the_others_go_on_with_rows_of_before(installation: Installation) -> None:
    suite = installation.home.suites / "exam"
    suite.mkdir(parents=True)
    (suite / "test.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in asked("exam", range(9))))
    drill = Drill(installation, TRAINQ_GATE_ON_POOR="hold", TRAINQ_DATA_REPLAY_FRACTION="0.5")
    red = submit(installation, "red.jsonl", asked("red", range(12)))
    poisoned = submit(installation, "poisoned.jsonl", [*asked("EXAM", range(9)), *asked("fine", range(6))])
    drill.until({red: "succeeded", poisoned: "held"})
    _is_shown(installation, poisoned)

    # A preparer that is killed again and again gathers the same, or what it names is stored.
    blue = submit(installation, "blue.jsonl", asked("blue", range(20)))
    installation.kill("preparer")
    drill.until({red: "succeeded", poisoned: "held", blue: "succeeded"})
    detail = installation.json("show", blue)
    assert {each["role"]: each["sources"] for each in detail["enclosed"]} == {
        "replay": {red: 12}, "suites": {"exam": 9}}
    assert (detail["report"]["trained"], detail["report"]["replayed"], detail["job"]["rows"]) == (20, 10, 30)

    # Its shard goes, the suites change, others have succeeded: it comes out the same, and nobody is asked again.
    installation.control("stop", "trainer")
    assert installation.json("release", poisoned)["jobs"][0]["state"] == "queued"
    (shard,) = [event["body"]["shard"] for event in installation.events(poisoned) if event["type"] == "JobPrepared"]
    _remove(installation.home.cache / shard)
    (suite / "test.jsonl").write_bytes(orjson.dumps({"text": "another"}) + b"\n")
    installation.control("start", "trainer")
    drill.until_trained(poisoned)
    events = [event["type"] for event in installation.events(poisoned)]
    assert (events.count("JobPrepared"), events.count("HoldPlaced")) == (2, 1)
    assert installation.json("show", poisoned)["report"]["trained"] == 6
    drill.rederive()


def _is_shown(installation: Installation, poisoned: str) -> None:
    (held,) = installation.json("list", "--state", "held")["jobs"]
    assert "its quality is poor: 9 of 15 rows stand in an evaluation suite" in held["reason"]
    detail = installation.json("show", poisoned)
    assert (detail["report"]["quality"]["band"], detail["report"]["quality"]["overlap"]) == ("poor", 9)
    assert detail["report"]["reasons"] == {"it stands in the evaluation suite exam": 9}
    assert detail["report"]["bad_rows"][8]["reason"] == "it stands in the evaluation suite exam, line 9 of test.jsonl"
    report = orjson.loads((installation.home.rejected / f"{poisoned}.report.json").read_bytes())
    assert report["quality"]["band"] == "poor"
    wait_for(lambda: "1 held job" in installation.trainq("why").stdout, "why says it")
    wait_for(lambda: "jobs_held" in {alarm["code"] for alarm in installation.json("status")["alarms"]}, "an alarm")
    said = installation.trainq("validate", str(installation.folder / "poisoned.jsonl")).stdout
    assert "quality: poor" in said
    assert "quality" in installation.trainq("show", poisoned).stdout


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
