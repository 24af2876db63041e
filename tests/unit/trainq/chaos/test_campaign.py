"""What a campaign says of itself, and which process it kills at which point."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainq.chaos import campaign, processes
from trainq.chaos.campaign import Order, Outcome
from trainq.chaos.load import User
from trainq.config import Home
from trainq.jobs import JobKind, JobState
from trainq.messages import JobView


def outcome() -> Outcome:
    made = Outcome(seed=3, fault_seconds=60.2, submits=4, jobs={"succeeded": 3, "rejected": 1}, steps=77,
                   tasks={"backup": {"succeeded": 2}, "snapshot": {"succeeded": 2, "failed": 1}})
    made.tally.kills.update({("broker", "kill"): 2, ("training", "pair"): 1, ("broker", "crash point"): 1})
    made.tally.points["broker.journal.commit"] = 1
    made.tally.freezes["watcher"] = 2
    return made


def test_the_verdict_is_one_line_with_the_numbers() -> None:
    assert outcome().verdict == ("chaos: PASS seed=3 seconds=60 kills=4 freezes=2 restarts=0 jobs=4 rejected=1 "
                                 "succeeded=3 tasks=5 steps=77")


def test_a_failure_names_the_first_reason() -> None:
    made = outcome()
    made.wrong += ["train-2 is lost", "and more"]
    assert made.verdict.startswith("chaos: FAIL seed=3 ")
    assert made.verdict.endswith(": train-2 is lost")


def test_the_document_counts_kills_by_process_kind_and_point() -> None:
    found = outcome().document()
    assert found["kills"] == {"broker": {"crash point": 1, "kill": 2}, "training": {"pair": 1}}
    assert found["kills_total"] == 4
    assert found["crash_points"] == {"broker.journal.commit": 1}
    assert found["passed"] is True
    assert "broker.journal.commit" not in found["not_reached"]
    assert "training.training.stepped" in found["not_reached"]


def test_each_point_is_its_owners() -> None:
    pairs = campaign.crash_pairs()
    assert {process for process, point in pairs if point == "files.fsync"} == {
        "watcher", "preparer", "snapshot", "retention", "datagen", processes.GENERATION, processes.EVALUATION,
        processes.TRAINING}
    for family, owner in (("journal", "broker"), ("training", processes.TRAINING), ("checkpoint", processes.TRAINING)):
        assert {process for process, point in pairs if point.startswith(f"{family}.")} == {owner}
    assert len(set(pairs)) == len(pairs)


def job(state: JobState, number: int = 1, digest: str = "0" * 64) -> JobView:
    return JobView(id=f"train-{number}", number=number, kind=JobKind.TRAIN, state=state, name="n", priority="normal",
                   origin="people", digest=digest, size_bytes=1, prepared=True, rows=1, tokens=1, attempts=1,
                   failures=0,
                   submitted_at=0.0, started_at=0.0, ended_at=0.0, retry_at=0.0, reason="r", cancel_reason=None,
                   result=None, progress=None)


def test_a_good_file_that_was_set_aside_is_wrong(tmp_path: Path) -> None:
    user = User(Home(tmp_path), 1, tmp_path)
    user.bad, user.cancelled = {"b" * 64}, {"train-7"}
    right = [job(JobState.SUCCEEDED), job(JobState.REJECTED, digest="b" * 64), job(JobState.CANCELLED, 7)]
    assert campaign.set_aside_wrongly(right, user.bad, user.cancelled) == []
    for lie in (job(JobState.QUARANTINED, 7), job(JobState.FAILED), job(JobState.REJECTED), job(JobState.CANCELLED),
                job(JobState.SUCCEEDED, digest="b" * 64)):
        assert len(campaign.set_aside_wrongly([*right, lie], user.bad, user.cancelled)) == 1, lie


@pytest.mark.parametrize(("order", "killed", "wrong"), [
    (Order(seed=1, seconds=60.0), 0, "only 0 of 1 kills met anybody within 60 s"),
    (Order(seed=1, seconds=60.0), 1, ""),
    (Order(seed=1, seconds=0.0), 0, ""),
    (Order(seed=1, seconds=0.0, kills=5), 4, "only 4 of 5 kills met anybody within 170 s"),
    (Order(seed=1, seconds=60.0, kills=5), 5, ""),
])
def test_too_few_kills_are_wrong(order: Order, killed: int, wrong: str) -> None:
    assert campaign.too_few_kills(order, killed) == ([f"{wrong}: too little was proven"] if wrong else [])


def test_a_bad_file_may_be_cancelled_or_rejected_and_nothing_else(tmp_path: Path) -> None:
    user = User(Home(tmp_path), 1, tmp_path)
    user.bad, user.cancelled = {"b" * 64}, {"train-7"}
    endings = {state: campaign.set_aside_wrongly([job(state, 7, "b" * 64)], user.bad, user.cancelled)
               for state in (JobState.SUCCEEDED, JobState.REJECTED, JobState.CANCELLED, JobState.QUARANTINED,
                             JobState.FAILED)}
    assert [state for state, wrong in endings.items() if not wrong] == [JobState.REJECTED, JobState.CANCELLED]
