"""When a file is made, of what, and how hard: as lists of what is known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.datagen import feeding
from services.datagen.feeding import Known
from trainq.config import DatagenSettings, GeneratorSettings
from trainq.jobs import JobKind, JobState
from trainq.messages import WAITING_SHOWN, GenerateTask, JobView

SETTINGS = DatagenSettings(rows=100, cooldown_seconds=10)
NOW = 1000.0


def job(number: int = 1, kind: JobKind = JobKind.TRAIN, **changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "id": f"{kind}-{number}", "number": number, "kind": kind, "state": JobState.SUCCEEDED, "name": "x",
        "priority": "normal", "origin": "people", "digest": "", "size_bytes": 1, "prepared": True, "rows": 100,
        "tokens": 1, "attempts": 1, "failures": 0, "submitted_at": 0.0, "started_at": None, "ended_at": None,
        "retry_at": 0.0, "reason": "", "cancel_reason": None, "result": None, **changes}
    return JobView(**fields)


WAITS = job(99, state=JobState.QUEUED)


def made(name: str, *, rows: int = 100, ended_at: float = 0.0, **changes: Any) -> JobView:
    return job(kind=JobKind.GENERATE, ended_at=ended_at,
               result={"facts": {"generator": name, "rows": rows}}, **changes)


def known(**changes: Any) -> Known:
    return Known(**{"counts": {}, "files": [], "made": [], "levels": {}, "has_champion": False, "now": NOW, **changes})


def decide(settings: DatagenSettings = SETTINGS, **changes: Any) -> GenerateTask | str:
    return feeding.decide(known(**changes), settings)


def test_from_an_empty_inbox_a_file_is_made() -> None:
    task = decide()
    assert isinstance(task, GenerateTask)
    assert (task.generator, task.name, task.count, task.level) == ("arithmetic", "arithmetic", 100, 1)
    assert decide() == task, "decided again, it is the same file"


@pytest.mark.parametrize(("counts", "words"), [
    ({"generate": {"queued": 1}}, "being made"),
    ({"generate": {"running": 1}}, "being made")])
def test_while_files_wait_or_one_is_being_made_none_is(counts: dict[str, dict[str, int]], words: str) -> None:
    assert words in str(decide(counts=counts))


def test_while_enough_files_stand_in_the_line_none_is_made() -> None:
    assert decide(line=[WAITS, WAITS]) == "2 files wait"
    assert isinstance(decide(line=[WAITS], counts={"train": {"queued": 9, "held": 9}}), GenerateTask)
    later = msgspec.structs.replace(WAITS, retry_at=NOW + 60)
    assert isinstance(decide(line=[WAITS, later]), GenerateTask), "one that is tried later is nothing to train now"


def test_behind_what_the_broker_shows_of_the_line_all_count() -> None:
    settings = DatagenSettings(rows=100, queue_files=150)
    shown = [WAITS] * WAITING_SHOWN
    assert decide(settings, line=shown, counts={"train": {"queued": 150}}) == "150 files wait"
    assert isinstance(decide(settings, line=shown, counts={"train": {"queued": 149}}), GenerateTask)
    later = msgspec.structs.replace(WAITS, retry_at=NOW + 60)
    assert isinstance(decide(settings, line=[*shown[1:], later], counts={"train": {"queued": 150}}), GenerateTask)
    assert isinstance(decide(settings, line=shown[1:], counts={"train": {"queued": 150}}), GenerateTask), (
        "all of the line is shown: the others wait for something")


def test_no_seed_comes_twice() -> None:
    tasks = [decide(counts={"generate": {"succeeded": n, "failed": 1}}) for n in range(50)]
    assert len({task.seed for task in tasks if isinstance(task, GenerateTask)}) == 50
    other = decide(DatagenSettings(seed=1))
    assert isinstance(other, GenerateTask)
    assert other.seed != decide().seed  # type: ignore[union-attr]  # the first test shows that it is a task


def test_the_next_one_waits_a_little() -> None:
    assert "comes 10 s after the last one" in str(decide(made=[made("syllo", ended_at=994.0)]))
    assert isinstance(decide(made=[made("syllo", ended_at=990.0)]), GenerateTask)
    assert isinstance(decide(made=[made("syllo", ended_at=NOW + 86_400)]), GenerateTask), "a clock was set back"


def ended(name: str, ended_at: float = 980.0, **changes: Any) -> JobView:
    return job(kind=JobKind.GENERATE, name=f"100 rows of {name}, level 1", ended_at=ended_at, **changes)


def test_a_generator_that_fails_rests_longer_and_longer_and_the_others_go_on() -> None:
    failed = [ended("arithmetic", state=JobState.FAILED, reason="no program")]
    task = decide(made=failed, now=999.0)
    assert isinstance(task, GenerateTask)
    assert task.name == "syllo"
    both = [*failed, ended("syllo", state=JobState.CANCELLED, reason="not now")]
    assert "no program; arithmetic is tried again 20 s after it" in str(decide(made=both, now=999.0))
    assert "not now; syllo is tried again 20 s after it" in str(decide(made=both, now=999.0))
    assert isinstance(decide(made=both), GenerateTask)
    assert "160 s after it" in str(decide(made=both * 4))
    assert "3600 s after it" in str(decide(made=both * 40))


def test_a_generator_that_makes_the_same_file_again_rests_too() -> None:
    facts = {"generator": "syllo", "rows": 100, "file": {"digest": "a" * 64}}
    same = [ended("syllo", result={"facts": facts})] * 3
    settings = DatagenSettings(rows=100, cooldown_seconds=10, generators={"syllo": GeneratorSettings()})
    assert isinstance(decide(settings, made=same[:1]), GenerateTask)
    assert "made a file that was there before; syllo is tried again 40 s after it" in str(decide(settings, made=same))


def test_where_people_submit_files_only_a_part_is_generated() -> None:
    theirs = [job(n) for n in range(3)]
    assert isinstance(decide(files=theirs), GenerateTask)
    ours = [job(n, origin="generated") for n in range(2)]
    assert isinstance(decide(files=[*theirs, *ours]), GenerateTask)
    assert "at most 50% may be" in str(decide(files=[*theirs, *ours, *ours[:1]]))
    assert isinstance(decide(files=ours * 9), GenerateTask), "nobody's file is kept from anything"


@pytest.mark.parametrize("state", sorted({*JobState} - {JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED}))
def test_what_people_gave_and_nobody_trains_holds_up_nothing(state: JobState) -> None:
    ours = [job(n, origin="generated") for n in range(2)]
    theirs = job(2, rows=60)
    settings = msgspec.structs.replace(SETTINGS, rows=100)
    assert "may be while people submit files" in str(decide(settings, files=[*ours, theirs]))
    left = decide(settings, files=[*ours, msgspec.structs.replace(theirs, state=state)])
    assert isinstance(left, GenerateTask), left


def test_each_generator_gets_its_part_at_its_level() -> None:
    settings = DatagenSettings(rows=100, generators={
        "syllo": GeneratorSettings(weight=3, level=2), "sums": GeneratorSettings(use="arithmetic", options={"a": 1}),
        "never": GeneratorSettings(weight=0)})
    past: list[JobView] = []
    for _ in range(40):
        task = decide(settings, made=past, levels={"sums": 4})
        assert isinstance(task, GenerateTask)
        assert (task.name, task.generator, task.level, task.options) in [
            ("syllo", "syllo", 2, {}), ("sums", "arithmetic", 4, {"a": 1})]
        past.insert(0, made(task.name))
    names = [feeding_name(each) for each in past]
    assert (names.count("syllo"), names.count("sums")) == (30, 10)


def feeding_name(view: JobView) -> str:
    assert view.result is not None
    return str(view.result["facts"]["generator"])


def test_of_itself_the_model_learns_little_and_only_from_a_champion() -> None:
    settings = DatagenSettings(rows=100, max_selfplay_share=0.2, generators={
        "selfplay": GeneratorSettings(weight=100), "syllo": GeneratorSettings()})
    task = decide(settings)
    assert isinstance(task, GenerateTask)
    assert task.name == "syllo", "there is no champion"
    past: list[JobView] = []
    for _ in range(20):
        task = decide(settings, made=past, has_champion=True, line=[WAITS])
        assert isinstance(task, GenerateTask)
        past.insert(0, made(task.name))
    at_once = decide(settings, made=past[5:], has_champion=True)
    assert isinstance(at_once, GenerateTask)
    assert at_once.name == "syllo", "while nothing waits, what takes long is not what is made"
    assert sum(feeding_name(each) == "selfplay" for each in past) == 4


def test_what_is_known_well_is_made_less_of_and_never_none() -> None:
    settings = DatagenSettings(rows=100, cooldown_seconds=0, generators={
        "sums": GeneratorSettings(use="arithmetic"), "syllo": GeneratorSettings()})
    past: list[JobView] = []
    for _ in range(40):
        task = decide(settings, made=past, scores={"sums": 0.95, "syllo": 0.2})
        assert isinstance(task, GenerateTask)
        past.insert(0, made(task.name))
    assert 4 <= sum(feeding_name(each) == "sums" for each in past) <= 8


def test_what_people_gave_long_ago_holds_up_nothing() -> None:
    theirs = job(1, rows=10, submitted_at=NOW)
    assert "at most 50% may be" in str(decide(files=[theirs]))
    assert isinstance(decide(files=[msgspec.structs.replace(theirs, submitted_at=NOW - 86_401)]), GenerateTask)
    unknown = job(2, rows=0, origin="generated", state=JobState.QUEUED, submitted_at=NOW)
    many = [job(n, submitted_at=NOW) for n in range(2)]
    assert isinstance(decide(files=many), GenerateTask)
    assert "may be" in str(decide(files=[unknown, unknown, *many])), "what is not prepared counts as what it will be"


def test_self_play_is_at_the_level_of_the_puzzles_that_it_asks() -> None:
    settings = DatagenSettings(max_selfplay_share=1.0, generators={
        "own": GeneratorSettings(use="selfplay", options={"from": "syllo"}, level=2)})
    levels = [decide(settings, has_champion=True, levels=levels) for levels in ({}, {"syllo": 5}, {"arithmetic": 7})]
    assert [task.level for task in levels if isinstance(task, GenerateTask)] == [2, 5, 2]
    beside = msgspec.structs.replace(settings, generators={
        **settings.generators, "hard": GeneratorSettings(use="syllo", level=4, weight=0)})
    levels = [decide(beside, has_champion=True, levels=levels) for levels in ({}, {"hard": 6})]
    assert [task.level for task in levels if isinstance(task, GenerateTask)] == [4, 6]


def test_a_generator_of_which_came_no_file_waits_longer_each_time_and_others_do_not() -> None:
    settings = DatagenSettings(rows=100, cooldown_seconds=10, max_selfplay_share=1.0, generators={
        "selfplay": GeneratorSettings(weight=100), "sums": GeneratorSettings(use="arithmetic")})

    def next_after(*past: JobView, now: float = NOW) -> str:
        task = decide(settings, made=past, has_champion=True, now=now, line=[WAITS])
        return task.name if isinstance(task, GenerateTask) else task

    vain = made("selfplay", rows=0, ended_at=985.0)
    assert next_after(vain) == "sums"
    assert next_after(vain, made("sums"), now=1005.0) == "selfplay"
    assert next_after(vain, made("sums"), vain, now=1005.0) == "sums", "the second in a row waits 40 s"
    assert next_after(vain, made("sums"), vain, now=1025.0) == "selfplay"
    assert next_after(made("selfplay", ended_at=985.0), vain, made("sums")) == "selfplay", "the newest made a file"
    alone = msgspec.structs.replace(settings, generators={"selfplay": GeneratorSettings()})
    assert decide(alone, made=[vain], has_champion=True) == (
        "generate-1 came to nothing: there was no file; selfplay is tried again 20 s after it")
    assert "tried again 3600 s" in str(decide(alone, made=[vain] * 60, has_champion=True, now=995.0))


def test_with_nothing_to_make_it_says_so() -> None:
    assert "no generator" in str(decide(DatagenSettings(generators={})))


@pytest.mark.parametrize("state", [JobState.REJECTED, JobState.HELD, JobState.QUARANTINED])
def test_of_a_generator_whose_last_file_came_to_nothing_no_more_is_made(state: JobState) -> None:
    bad = job(9, name="arithmetic-l01-f00.jsonl", origin="generated", state=state, reason="too long")
    task = decide(files=[bad])
    assert isinstance(task, GenerateTask)
    assert task.name == "syllo"
    others = job(8, name="syllo-l01-f00.jsonl", origin="generated", state=state, reason="too long")
    assert "train-9, the last file of arithmetic" in str(decide(files=[bad, others]))
    good = job(10, name="arithmetic-l01-f01.jsonl", origin="generated")
    mended = decide(files=[good, bad, others])
    assert isinstance(mended, GenerateTask)
    assert mended.name == "arithmetic"
    theirs = job(9, name="arithmetic-l01-f00.jsonl", state=state)
    assert isinstance(decide(files=[theirs]), GenerateTask), "a person's file has nothing to do with it"
    long_ago = msgspec.structs.replace(bad, submitted_at=NOW - 3601, ended_at=NOW - 3600)
    again = decide(files=[long_ago])
    assert isinstance(again, GenerateTask)
    assert again.name == "arithmetic", "after an hour it is tried again"
    settings = DatagenSettings(generators={"sums": GeneratorSettings(use="arithmetic"),
                                           "sums-l1": GeneratorSettings(use="arithmetic")})
    named = decide(settings, files=[job(9, name="sums-l1-l01-f0.jsonl", origin="generated", state=state)])
    assert isinstance(named, GenerateTask)
    assert named.name == "sums", "one whose name begins alike has nothing to do with it"


def test_with_each_file_in_a_row_that_is_held_the_next_one_comes_later_a_day_at_most() -> None:
    settings = DatagenSettings(rows=100, window_jobs=1, generators={"syllo": GeneratorSettings()})

    def tried(hours: float, *states: JobState) -> bool:
        files = [job(9 - at, name="syllo-l01-f00.jsonl", origin="generated", state=state, reason="too long",
                     submitted_at=NOW - hours * 3600) for at, state in enumerate(states)]
        return isinstance(decide(settings, files=[*files]), GenerateTask)

    held, good = JobState.HELD, JobState.SUCCEEDED
    for row, hours in ((1, 1), (2, 2), (3, 4), (5, 16), (6, 24), (60, 24)):
        states = [held] * row
        assert (tried(hours - 0.1, *states), tried(hours, *states)) == (False, True), row
        assert (tried(hours - 0.1, *states, good, held), tried(hours, *states, good, held)) == (False, True), row
    for acted in (JobState.CANCELLED, JobState.QUEUED):
        assert tried(0.1, acted, held, held), "a person has acted"
    said = decide(settings, files=[job(9 - at, name="syllo-l01-f00.jsonl", origin="generated", state=held,
                                       reason="too long", submitted_at=NOW) for at in range(2)])
    assert said == ("train-9, the last file of syllo, is held: too long, and 2 in a row came to nothing; syllo is "
                    "tried again 2 h after it (or now: trainq generate syllo)")
