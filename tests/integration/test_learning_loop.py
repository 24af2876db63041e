"""The loop through a real installation: it is fed, learns, is scored, the champion moves; and nothing fools it.

The suites are small and the model is the built-in one, so that a scoring takes a second. What is proven of kills and of
failing disks is in tests/faults.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.installations import Installation, wait_for
from trainq import suites
from trainq.generating import registry
from trainq.generating.base import GenerateRequest

pytestmark = pytest.mark.slow

SETTINGS = """
[services]
profile = "full"

[train]
learning_rate = 0.002
threads = 1
batch_rows = 8
micro_batch_rows = 8

[maintenance]
niceness = 0

[datagen]
rows = 24
queue_files = 1
cooldown_seconds = 1

[datagen.generators.arithmetic]

[evaluation]
problems = 8
held_out_jobs = 1
threads = 1

[curriculum]
min_problems = 8

[promotion]
min_rows = 20
on_regression = "restore"

[gate]
on_poor = "hold"
"""
HALF = """import json, sys
for line in sys.stdin:
    print(json.dumps({"row": json.loads(line)["row"], "score": 0.5}))
"""
# As the evaluator would call the one that it makes, which has more rows.
HELD_OUT = "held-out-arithmetic-l01"
SECONDS = 180.0


def problems(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows as the generator makes them."""
    return list(registry.find("arithmetic").rows(GenerateRequest(count=count, level=1, seed=seed, options={})))


class Loop:
    """An installation with profile ``full``, and what its tests ask."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.home = installation, installation.home
        (installation.folder / "trainq.toml").write_text(SETTINGS)
        installation.settings = {"TRAINQ_GATE_ON_POOR": "hold"}
        self.suite(HELD_OUT, problems(24, 1), kind="loss")

    def suite(self, name: str, rows: list[dict[str, Any]], **settings: Any) -> Path:
        suites.write(self.home.suites / name, rows, **settings)
        return self.home.suites / name

    def submit(self, name: str, rows: list[dict[str, Any]], *words: str) -> str:
        path = self.installation.folder / name
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return str(self.installation.json("submit", str(path), *words)["receipts"][0]["job"])

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [event["body"] for event in self.installation.events() if event["type"] == kind]

    def champion(self) -> str:
        """By the journal."""
        return str(self.bodies("ChampionMoved")[-1]["checkpoint"])

    def is_all_scored(self) -> bool:
        """Whether no file is to be trained any more, and the head was judged."""
        overview = self.installation.overview()
        return not (overview.waiting or overview.running or self.installation.tasks_waiting()) and (
            overview.checkpoint in {each["checkpoint"] for each in self.bodies("CheckpointJudged")})

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return wait_for(condition, what, SECONDS)

    def until_linked(self, checkpoint: str) -> None:
        self.wait(lambda: self.home.champion.is_symlink() and self.home.champion.resolve().name == checkpoint,
                  f"the link leads to {checkpoint}")

    def state(self, job: str) -> str:
        return str(next(each["state"] for each in self.installation.jobs() if each["id"] == job))

    def until(self, job: str, state: str) -> None:
        self.wait(lambda: self.state(job) == state, f"{job} is {state}")

    def evaluate(self, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.installation.trainq("evaluate", *words, "--wait", "--json", expect=code, timeout=SECONDS)
        job: dict[str, Any] = orjson.loads(done.stdout)["jobs"][0]
        return job


@pytest.mark.timeout(900)
def test_the_loop(installation: Installation) -> None:
    loop = Loop(installation)
    installation.start()
    installation.wait_answers()
    _from_an_empty_inbox_the_champion_moves(loop)
    _a_worse_model_is_not_promoted_and_gone_back_from(loop)
    _people_move_the_champion_and_see_who_was_it(loop)
    _bad_suites_are_refused_and_hinder_no_other(loop)
    _a_poisoned_file_waits_for_a_person_and_is_held_once(loop)
    assert "service_error" not in installation.trainq("status").stdout


def _from_an_empty_inbox_the_champion_moves(loop: Loop) -> None:
    installation = loop.installation
    installation.trainq("pause")
    loop.wait(installation.jobs, "a file was made")
    (made,) = installation.jobs()
    assert (made["origin"], made["priority"]) == ("generated", "low")
    persons = loop.submit("person.jsonl", problems(16, 2))
    installation.trainq("resume")
    loop.until(made["id"], "succeeded")
    granted = [event["job"] for event in installation.events() if event["type"] == "LeaseGranted"]
    assert granted.index(persons) < granted.index(made["id"]), "people's files go first"
    # Of two files that are trained within one look of the evaluator it scores the last alone.
    loop.wait(lambda: loop.bodies("ChampionMoved"), "there is a champion")
    loop.until(loop.submit("more.jsonl", problems(16, 9)), "succeeded")
    loop.wait(lambda: "promoted" in [move["how"] for move in loop.bodies("ChampionMoved")], "the champion has moved")
    # No more of them: what follows is counted.
    installation.control("stop", "datagen")
    for asked in installation.json("list", "--kind", "generate", "--state", "queued")["jobs"]:
        installation.trainq("cancel", asked["id"])
    loop.wait(loop.is_all_scored, "all is scored")
    first, *others = loop.bodies("ChampionMoved")
    assert (first["how"], first["before"]) == ("first", "")
    assert [move["before"] for move in others] == [first["checkpoint"], *(move["checkpoint"] for move in others[:-1])]
    assert f"{HELD_OUT}: +" in others[0]["reason"]
    loop.until_linked(loop.champion())
    types = [event["type"] for event in installation.events() if event["type"] in (
        "SuiteScored", "CheckpointJudged", "ChampionMoved")]
    assert types[types.index("ChampionMoved") - 1] == "CheckpointJudged" > "ChampionMoved"
    assert types[0] == "SuiteScored"
    scored = installation.json("scores", "--suite", HELD_OUT)["scores"]
    means = {score["checkpoint"]: score["mean"] for score in scored}
    assert means[loop.champion()] < means[first["checkpoint"]]
    assert all(score["low"] < score["mean"] < score["high"] for score in scored)
    assert "evaluator" in installation.trainq("status").stdout


def _a_worse_model_is_not_promoted_and_gone_back_from(loop: Loop) -> None:
    champion = loop.champion()
    noise = [{"prompt": f"{number} of what is said?", "completion": "nothing of it at all, " * 3 + str(number * 7919)}
             for number in range(24)]
    job = loop.submit("noise.jsonl", noise, "--set", "learning_rate=0.03")
    loop.until(job, "succeeded")
    judged = loop.wait(lambda: [each for each in loop.bodies("CheckpointJudged") if each["regressed"]], "it is judged")
    assert (judged[0]["outcome"], judged[0]["champion"]) == ("keep", champion)
    assert any("it is worse" in reason for reason in judged[0]["reasons"])
    loop.wait(lambda: loop.bodies("LineRestored"), "it is gone back from")
    assert loop.champion() == champion
    loop.until(job, "cancelled")


def _people_move_the_champion_and_see_who_was_it(loop: Loop) -> None:
    installation, champion = loop.installation, loop.champion()
    before = loop.bodies("ChampionMoved")[-1]["before"]
    moment = time.strftime("%Y-%m-%d %H:%M:%S")
    time.sleep(1.0)  # moments are told in seconds
    assert installation.trainq("promote", before, "--reason", "a trial").stdout.strip() == before
    loop.until_linked(before)
    assert installation.trainq("rollback").stdout.strip() == champion
    loop.until_linked(champion)
    moves = installation.json("champion", "--history")["champions"]
    assert [move["how"] for move in moves[:2]] == ["rolled_back", "by_hand"]
    assert [move["checkpoint"] for move in installation.json("champion", "--at", moment)["champions"]] == [champion]


def _bad_suites_are_refused_and_hinder_no_other(loop: Loop) -> None:
    installation = loop.installation
    half = loop.suite("half", problems(8, 3), kind="generate", scorer="final-number")
    (half / "score.py").write_text(HALF)
    (half / "suite.toml").write_text('kind = "generate"\nscorer = "command"\n[options]\ncommand = ["python3", '
                                     '"score.py"]\n')
    garbage = loop.suite("garbage", problems(4, 4), kind="loss")
    (garbage / "suite.toml").write_text("kind = [")
    changed = loop.home.suites / "arithmetic-l01" / "rows.jsonl"
    changed.write_bytes(b"\n".join(changed.read_bytes().splitlines()[1:]) + b"\n")
    refused = loop.evaluate("--suite", "half", code=1)
    assert refused["state"] == "failed"
    assert "the suite half is refused" in refused["reason"]
    assert "gives the reference of row 0 0.5 in place of 1" in refused["reason"]
    assert "correct the row's answer, or the scorer" in refused["reason"]
    champion = loop.champion()
    done = loop.evaluate()
    assert done["state"] == "succeeded"
    facts = done["result"]["facts"]
    assert facts["refused"].keys() == {"half", "garbage", "arithmetic-l01"}
    assert "not valid TOML" in facts["refused"]["garbage"]
    assert "trainq suites lock arithmetic-l01" in facts["refused"]["arithmetic-l01"]
    assert "is scored on" in done["result"]["summary"]
    assert loop.champion() == champion
    loop.wait(lambda: "suite_refused" in [alarm["code"] for alarm in installation.json("status")["alarms"]],
              "it is said")
    for suite in (half, garbage, changed.parent):
        shutil.rmtree(suite)
    installation.control("stop", "evaluator")  # nothing more is asked of it


def _a_poisoned_file_waits_for_a_person_and_is_held_once(loop: Loop) -> None:
    installation = loop.installation
    wrong = [{**row, "messages": [row["messages"][0], {"role": "assistant", "content": "so it is\n#### 4"}],
              "metadata": {**row["metadata"], "answer": "5"}} for row in problems(6, 5)]
    damaged = [{"prompt": f"{number}?", "completion": "\ufffd\ufffd\ufffd broken \ufffd"} for number in range(6)]
    job = loop.submit("poison.jsonl", [*problems(24, 1)[:6], *wrong, *damaged, *problems(30, 6)])
    loop.until(job, "held")
    reason = str(next(each["reason"] for each in installation.jobs() if each["id"] == job))
    assert "its quality is poor" in reason
    report = installation.json("show", job)["report"]
    assert HELD_OUT in str(report), "where the rows that leak stand"
    installation.trainq("pause")
    installation.trainq("release", job)
    loop.wait(lambda: loop.state(job) == "queued", "it is released")
    (shard,) = {body["shard"] for body in (event["body"] for event in installation.events(job)
                                          if event["type"] == "JobPrepared")}
    shutil.rmtree(loop.home.cache / shard)
    installation.kill("preparer")
    installation.trainq("resume")
    loop.until(job, "succeeded")
    types = [event["type"] for event in installation.events(job)]
    assert (types.count("HoldPlaced"), types.count("HoldLifted"), types.count("JobPrepared")) == (1, 1, 2), types
