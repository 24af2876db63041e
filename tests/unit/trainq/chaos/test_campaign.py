"""What a campaign says of itself, and which process it kills at which point."""

from __future__ import annotations

from trainq.chaos import campaign, processes
from trainq.chaos.campaign import Outcome


def outcome() -> Outcome:
    made = Outcome(seed=3, fault_seconds=60.2, submits=4, jobs={"succeeded": 3, "rejected": 1}, steps=77)
    made.tally.kills.update({("broker", "kill"): 2, ("training", "pair"): 1, ("broker", "crash point"): 1})
    made.tally.points["broker.files.fsync"] = 1
    made.tally.freezes["watcher"] = 2
    return made


def test_the_verdict_is_one_line_with_the_numbers() -> None:
    assert outcome().verdict == ("chaos: PASS seed=3 seconds=60 kills=4 freezes=2 restarts=0 jobs=4 rejected=1 "
                                 "succeeded=3 steps=77")


def test_a_failure_names_the_first_reason() -> None:
    made = outcome()
    made.wrong += ["train-2 is lost", "and more"]
    assert made.verdict.startswith("chaos: FAIL seed=3 ")
    assert made.verdict.endswith(": train-2 is lost")


def test_the_document_counts_kills_by_process_kind_and_point() -> None:
    found = outcome().document()
    assert found["kills"] == {"broker": {"crash point": 1, "kill": 2}, "training": {"pair": 1}}
    assert found["kills_total"] == 4
    assert found["crash_points"] == {"broker.files.fsync": 1}
    assert found["passed"] is True


def test_shared_points_are_everybodys_and_own_points_their_owners() -> None:
    pairs = campaign.crash_pairs()
    everybody = {*processes.SERVICES, processes.TRAINING}
    assert {process for process, point in pairs if point == "files.fsync"} == everybody
    for family, owner in (("journal", "broker"), ("training", processes.TRAINING), ("checkpoint", processes.TRAINING)):
        assert {process for process, point in pairs if point.startswith(f"{family}.")} == {owner}
    assert len(set(pairs)) == len(pairs)
