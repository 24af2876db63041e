"""The fixed problems: made once, never changed, and only where the model can be asked them."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from blake3 import blake3

from services.evaluator.fixed import FixedProblems, Suites
from services.evaluator.verdicts import Level
from trainq import config, manifests, shards, suites
from trainq.config import Home
from trainq.generating import registry
from trainq.generating.base import GenerateRequest
from trainq.logs import EventLog, null_log
from trainq.manifests import MANIFEST_NAME
from trainq.messages import TrainedShard
from trainq.rehearsal import HELD_OUT_NAME
from trainq.samples import ChatSample

DECIDING = "held-out-arithmetic-l01"
FULL = {"TRAINQ_SERVICES_PROFILE": "full"}
CHAT = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> config.Configuration:
    folder = tmp_path_factory.mktemp("fixed")
    return config.load({"TRAINQ_HOME": str(folder / "home"), **FULL, "TRAINQ_EVALUATION_PROBLEMS": "12",
                        "TRAINQ_CURRICULUM_MIN_PROBLEMS": "12",
                        "TRAINQ_EVALUATION_HELD_OUT_JOBS": "2", "TRAINQ_EVALUATION_HELD_OUT_ROWS": "3"}, folder)


@pytest.fixture(scope="module")
def problems(configured: config.Configuration) -> FixedProblems:
    return FixedProblems(configured.home, configured.settings, null_log())


def held_out(job: str, rows: int = 5) -> list[bytes]:
    return [orjson.dumps({"type": "chat", "messages": [
        {"role": "user", "content": f"{job}, {number}?"}, {"role": "assistant", "content": "yes"}]})
        for number in range(rows)]


def trained(home: Home, *jobs: str, rows: int = 5, more: Sequence[bytes] = ()) -> list[TrainedShard]:
    for job in jobs:
        folder = home.cache / f"shard-of-{job}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HELD_OUT_NAME).write_bytes(b"".join(line + b"\n" for line in (*held_out(job, rows), *more)))
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        manifests.seal(folder, shards.KIND, {})
    return [TrainedShard(job=job, digest="0" * 64, shard=f"shard-of-{job}") for job in jobs]


def test_what_fits_is_made_and_stays_what_it_is(problems: FixedProblems, configured: config.Configuration) -> None:
    made = problems.make({}, [])
    assert made == Suites(levels={"arithmetic-l01": Level("arithmetic", 1, 10, 1), DECIDING: None},
                          held_out=DECIDING), "SYLLO does not fit"
    level = suites.load(configured.home.suites / "arithmetic-l01")
    assert (len(level.rows), level.kind, level.scorer) == (12, "generate", "final-number")
    loss = suites.load(configured.home.suites / DECIDING)
    assert (loss.kind, len(loss.rows)) == ("loss", 400)
    assert problems.make({}, []) == made
    assert suites.load(configured.home.suites / "arithmetic-l01").digest == level.digest


def test_the_level_of_now_and_the_one_below_are_scored(problems: FixedProblems,
                                                       configured: config.Configuration) -> None:
    made = problems.make({"arithmetic": 3}, [])
    assert {name for name, level in made.levels.items() if level} == {"arithmetic-l02", "arithmetic-l03"}
    assert made.held_out == "held-out-arithmetic-l03"
    assert DECIDING not in made.levels, "what was passed is not scored any more"
    levels = {row.metadata["level"] for row in suites.load(configured.home.suites / made.held_out).rows}
    assert levels == {1, 2, 3}, "what was learned before counts on"


def test_held_out_rows_of_the_newest_files_are_suites_and_those_of_older_ones_go(
        problems: FixedProblems, configured: config.Configuration) -> None:
    home = configured.home
    assert {"job-train-1", "job-train-2"} <= problems.make({}, trained(home, "train-2", "train-1")).levels.keys()
    assert len(suites.load(home.suites / "job-train-1").rows) == 3
    made = problems.make({}, trained(home, "train-3", "train-2", "train-1"))
    assert {name for name in made.levels if name.startswith("job-")} == {"job-train-2", "job-train-3"}
    assert not (home.suites / "job-train-1").exists()
    assert problems.make({}, [TrainedShard(job="train-4", digest="0" * 64, shard="gone")]).levels.keys() == {
        "arithmetic-l01", DECIDING}


def test_of_many_held_out_rows_those_with_the_smallest_digests_that_fit_are_taken(
        problems: FixedProblems, configured: config.Configuration) -> None:
    home, beats = configured.home, list[int]()
    long = orjson.dumps({"type": "text", "text": "x" * 100_000})
    files = trained(home, "train-7", rows=40, more=[long, *held_out("train-7"), b"no row"])
    problems.make({}, files, lambda: beats.append(1))
    taken = set((home.suites / "job-train-7" / suites.ROWS_NAME).read_bytes().splitlines())
    assert taken == set(sorted(held_out("train-7", 40), key=lambda line: blake3(line).digest())[:3])
    assert len(beats) >= 47
    with pytest.raises(InterruptedError):
        problems.make({}, trained(home, "train-8"), interrupted)
    assert not (home.suites / "job-train-8").exists()


def interrupted() -> None:
    raise InterruptedError


def test_held_out_rows_that_nothing_vouches_for_are_no_suite(
        problems: FixedProblems, configured: config.Configuration) -> None:
    made = trained(configured.home, "train-9", "train-10")
    (configured.home.cache / "shard-of-train-9" / MANIFEST_NAME).unlink()
    path = configured.home.cache / "shard-of-train-10" / HELD_OUT_NAME
    path.write_bytes(path.read_bytes().replace(b"yes", b"yet", 1))
    assert problems.make({}, made).levels.keys() == {"arithmetic-l01", DECIDING}


class Uneven:
    """A generator some of whose problems are longer than any model takes: those that ``fits`` says no of."""

    name, version, levels = "arithmetic", "1", 1

    def __init__(self, fits: Callable[[int], bool]) -> None:
        self.made, self._fits = 0, fits

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        for number in range(request.count):
            self.made += 1
            asked = f"{number}?" if self._fits(number) else f"{number} " * 800
            yield {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "#### 1"}]}


@pytest.mark.parametrize(("fits", "rows", "made"), [
    (lambda number: number % 4 == 0, 100, 502), (lambda number: number < 1, 0, 502), (lambda _: False, 0, 2)])
def test_a_problem_that_does_not_fit_ends_nothing_and_few_that_do_are_told(
        fits: Callable[[int], bool], rows: int, made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uneven = Uneven(fits)
    monkeypatch.setitem(registry.BUILT_IN, "arithmetic", lambda: uneven)
    (tmp_path / "trainq.toml").write_text("[datagen.generators.arithmetic]\n[evaluation]\nproblems = 100\n")
    configured = config.load({"TRAINQ_HOME": str(tmp_path / "home"), **FULL}, tmp_path)
    logger, told = logging.Logger("test"), queue.SimpleQueue[Any]()
    logger.addHandler(QueueHandler(told))
    fixed = FixedProblems(configured.home, configured.settings, EventLog(logger))
    path = configured.home.suites / fixed.make({}, []).held_out
    assert (len(suites.load(path).rows) if (path / suites.SETTINGS_NAME).exists() else 0) == rows
    assert uneven.made == made
    events = {told.get().getMessage() for _ in range(told.qsize())}
    assert ("suite_decides_nothing" in events) == bool(rows)


def test_one_held_out_row_is_no_suite_and_keeps_no_other_from_being_scored(
        problems: FixedProblems, configured: config.Configuration) -> None:
    made = problems.make({}, trained(configured.home, "train-6", rows=1))
    assert made.levels.keys() == {"arithmetic-l01", DECIDING}


def test_a_person_s_suite_is_scored_too(problems: FixedProblems, configured: config.Configuration) -> None:
    suites.write(configured.home.suites / "mine", [CHAT], kind="loss", limit=0.1)
    assert problems.make({}, []).levels["mine"] is None


def test_with_no_generator_that_can_be_scored_there_is_only_what_people_put_there(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"TRAINQ_HOME": str(tmp_path / "home"), "TRAINQ_DATAGEN_GENERATORS": "{}", **FULL}
    configured = config.load(settings, tmp_path)
    made = FixedProblems(configured.home, configured.settings, null_log())
    nothing = made.make({}, [])
    assert (nothing.levels, nothing.held_out) == ({}, "")
    assert "(no generator is configured), and no held-out rows of files ([data] held_out_fraction is 0): make" in (
        nothing.undecided)
    suites.write(configured.home.suites / "mine", [CHAT], kind="loss")
    first = made.make({}, trained(configured.home, "train-1"))
    assert first.levels.keys() == {"mine", "job-train-1", first.held_out}
    assert len(suites.load(configured.home.suites / first.held_out).rows) == 5
    second = made.make({}, trained(configured.home, "train-2", "train-1"))
    assert second.held_out != first.held_out
    assert second.levels.keys() == {"mine", "job-train-1", "job-train-2", second.held_out}


def test_a_generator_that_cannot_make_its_problems_keeps_no_other_suite_from_being_scored(
        tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text("""
        [evaluation]
        problems = 12
        [curriculum]
        min_problems = 12
        [datagen.generators.arithmetic]
        [datagen.generators.other]
        use = "arithmetic"
        options = { no = "such" }
    """)
    configured = config.load({"TRAINQ_HOME": str(tmp_path / "home"), **FULL}, tmp_path)
    made = FixedProblems(configured.home, configured.settings, null_log())
    assert made.make({}, []).levels.keys() == {"arithmetic-l01", DECIDING}


def test_a_person_s_suite_may_begin_as_those_that_are_made(problems: FixedProblems,
                                                           configured: config.Configuration) -> None:
    for name in ("held-out-mine", "job-titles"):
        suites.write(configured.home.suites / name, [CHAT], kind="loss")
    assert {"held-out-mine", "job-titles"} <= problems.make({}, []).levels.keys()


@pytest.mark.parametrize(("settings", "why"), [
    ({"TRAINQ_SERVICES_PROFILE": "standard"}, 'the datagen is not in profile: [services] profile = "standard"'),
    ({**FULL, "TRAINQ_SERVICES_DATAGEN": "{enabled = false}"},
     "the datagen is not enabled: [services.datagen] enabled = false"),
    ({**FULL, "TRAINQ_DATAGEN_MAX_SHARE": "0"}, "[datagen] max_share is 0")])
def test_what_is_generated_decides_only_where_it_is_trained(settings: dict[str, str], why: str, tmp_path: Path) -> None:
    def fixed(**more: str) -> FixedProblems:
        configured = config.load({
            "TRAINQ_HOME": str(tmp_path / "home"), "TRAINQ_EVALUATION_PROBLEMS": "12", **settings, **more,
            "TRAINQ_CURRICULUM_MIN_PROBLEMS": "12", "TRAINQ_EVALUATION_HELD_OUT_JOBS": "2"}, tmp_path)
        return FixedProblems(configured.home, configured.settings, null_log())

    home = Home(tmp_path / "home")
    suites.write(home.suites / DECIDING, [CHAT], kind="loss")  # of before
    made = fixed().make({}, [])
    assert (made.held_out, made.levels.keys()) == ("", {"arithmetic-l01"})
    assert made.undecided == (
        f"nothing can decide: no generated problems ({why}), and no held-out rows of files ([data] held_out_fraction "
        "is 0): make that 0.02, say, or name suites of your own in [promotion] suites")
    assert "no trained file has two" in fixed(TRAINQ_DATA_HELD_OUT_FRACTION="0.1").make({}, []).undecided
    # Held-out rows of people's files do, if there are some.
    (person,) = trained(home, "train-1")
    (generated,) = (msgspec.structs.replace(each, generated=True) for each in trained(home, "train-2"))
    made = fixed().make({}, [person, generated])
    assert made.undecided == ""
    asked = {row.sample.messages[0].content[:7] for row in suites.load(home.suites / made.held_out).rows
             if isinstance(row.sample, ChatSample)}
    assert asked == {"train-1"}
    # What a person names is scored, whatever made it.
    named = fixed(TRAINQ_PROMOTION_SUITES=f'["{DECIDING}"]').make({}, [])
    assert DECIDING in named.levels


def test_the_problems_of_a_generator_that_is_configured_no_more_are_not_scored_any_more(tmp_path: Path) -> None:
    def fixed(generators: str) -> FixedProblems:
        configured = config.load({
            "TRAINQ_HOME": str(tmp_path / "home"), **FULL, "TRAINQ_DATAGEN_GENERATORS": generators,
            "TRAINQ_EVALUATION_PROBLEMS": "12", "TRAINQ_CURRICULUM_MIN_PROBLEMS": "12"}, tmp_path)
        return FixedProblems(configured.home, configured.settings, null_log())

    two = '{sums = {use = "arithmetic"}, arithmetic = {}}'
    assert {"sums-l01", "sums-l02", "arithmetic-l01"} <= fixed(two).make({"sums": 2}, []).levels.keys()
    suites.write(tmp_path / "home" / "suites" / "maths-l01", [CHAT], kind="loss", description="a person's")
    for less in ("{arithmetic = {}}", '{sums = {use = "arithmetic", weight = 0.0}, arithmetic = {}}'):
        assert fixed(less).make({}, []).levels.keys() == {"arithmetic-l01", DECIDING, "maths-l01"}
    assert fixed(two).make({"sums": 2}, []).levels["sums-l01"] == Level("sums", 1, 10, 1), "they are back"
