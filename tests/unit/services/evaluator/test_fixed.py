"""The fixed problems: made once, never changed, and only where the model can be asked them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.evaluator import fixed
from services.evaluator.fixed import FixedProblems
from services.evaluator.verdicts import Level
from trainq import config, suites
from trainq.config import Home
from trainq.logs import null_log
from trainq.messages import TrainedShard
from trainq.rehearsal import HELD_OUT_NAME

CHAT = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> config.Configuration:
    folder = tmp_path_factory.mktemp("fixed")
    return config.load({"TRAINQ_HOME": str(folder / "home"), "TRAINQ_EVALUATION_PROBLEMS": "12",
                        "TRAINQ_EVALUATION_HELD_OUT_JOBS": "2", "TRAINQ_EVALUATION_HELD_OUT_ROWS": "3"}, folder)


@pytest.fixture(scope="module")
def problems(configured: config.Configuration) -> FixedProblems:
    return FixedProblems(configured.home, configured.settings, null_log())


def trained(home: Home, *jobs: str, rows: int = 5) -> list[TrainedShard]:
    for job in jobs:
        folder = home.cache / f"shard-of-{job}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [orjson.dumps({"type": "chat", "messages": [
            {"role": "user", "content": f"{job}, {number}?"}, {"role": "assistant", "content": "yes"}]})
            for number in range(rows)]
        (folder / HELD_OUT_NAME).write_bytes(b"".join(line + b"\n" for line in lines))
    return [TrainedShard(job=job, digest="0" * 64, shard=f"shard-of-{job}") for job in jobs]


def test_what_fits_is_made_and_stays_what_it_is(problems: FixedProblems, configured: config.Configuration) -> None:
    made = problems.make({}, [])
    assert made == {"arithmetic-l01": Level("arithmetic", 1, 10, 1), fixed.HELD_OUT: None}, "SYLLO does not fit"
    level = suites.load(configured.home.suites / "arithmetic-l01")
    assert (len(level.rows), level.kind, level.scorer) == (12, "generate", "final-number")
    loss = suites.load(configured.home.suites / fixed.HELD_OUT)
    assert (loss.kind, len(loss.rows)) == ("loss", 400)
    assert problems.make({}, []) == made
    assert suites.load(configured.home.suites / "arithmetic-l01").digest == level.digest


def test_the_level_of_now_and_the_one_below_are_scored(problems: FixedProblems) -> None:
    made = problems.make({"arithmetic": 3}, [])
    assert {name for name, level in made.items() if level} == {"arithmetic-l02", "arithmetic-l03"}
    assert fixed.HELD_OUT in made


def test_held_out_rows_of_the_newest_files_are_suites_and_those_of_older_ones_go(
        problems: FixedProblems, configured: config.Configuration) -> None:
    home = configured.home
    assert {"job-train-1", "job-train-2"} <= problems.make({}, trained(home, "train-2", "train-1")).keys()
    assert len(suites.load(home.suites / "job-train-1").rows) == 3
    made = problems.make({}, trained(home, "train-3", "train-2", "train-1"))
    assert {name for name in made if name.startswith("job-")} == {"job-train-2", "job-train-3"}
    assert not (home.suites / "job-train-1").exists()
    assert problems.make({}, [TrainedShard(job="train-4", digest="0" * 64, shard="gone")]).keys() == {
        "arithmetic-l01", fixed.HELD_OUT}


def test_a_person_s_suite_is_scored_too(problems: FixedProblems, configured: config.Configuration) -> None:
    suites.write(configured.home.suites / "mine", [CHAT], kind="loss", limit=0.1)
    assert problems.make({}, [])["mine"] is None


def test_with_no_generator_that_can_be_scored_there_is_only_what_people_put_there(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"TRAINQ_HOME": str(tmp_path / "home"), "TRAINQ_DATAGEN_GENERATORS": "{}"}
    configured = config.load(settings, tmp_path)
    assert FixedProblems(configured.home, configured.settings, null_log()).make({}, []) == {}
