"""Jobs in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trainq.cli import wording
from trainq.jobs import JobKind, JobState
from trainq.messages import JobView, Progress

JOB = JobView(id="train-7", number=7, kind=JobKind.TRAIN, state=JobState.QUEUED, name="a.jsonl", priority="normal",
              origin="people", digest="0" * 64, size_bytes=10, prepared=False, rows=0, tokens=0, attempts=0, failures=0,
              submitted_at=100.0, started_at=None, ended_at=None, retry_at=0.0, reason="", cancel_reason=None,
              result=None)


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "to be prepared"),
    ({"prepared": True}, "prepared"),
    ({"reason": "the worker died"}, "the worker died"),
    ({"kind": JobKind.PREPARE}, ""),
    ({"state": JobState.RUNNING}, ""),
    ({"state": JobState.RUNNING, "progress": Progress(step=3, steps=9, loss=1.25)}, "step 3 of 9, loss 1.250"),
    ({"state": JobState.RUNNING, "progress": Progress(step=3, steps=9, grad_spikes=2, out_of_band=4)},
     "step 3 of 9, 2 gradient spikes, loss out of its band for 4 steps"),
    ({"state": JobState.RUNNING, "progress": Progress(step=3, steps=9, unit="bytes")}, "33 % of the bytes"),
    ({"state": JobState.RUNNING, "cancel_reason": "no more"}, "ends at the next step: no more"),
    ({"state": JobState.SUCCEEDED, "result": {"steps_done": 1}}, "1 step"),
    ({"state": JobState.SUCCEEDED, "result": {"steps_done": 64, "first_loss": 5.0, "last_loss": 2.5}},
     "64 steps, loss 5.000 to 2.500"),
    ({"state": JobState.SUCCEEDED, "result": {"outcome": "PrepareResult"}}, ""),
    ({"state": JobState.REJECTED, "reason": "bad rows"}, "bad rows"),
])
def test_where_a_job_stands(changes: dict[str, Any], words: str) -> None:
    assert wording.standing(msgspec.structs.replace(JOB, **changes)) == words


@pytest.mark.parametrize(("state", "words"), [
    (JobState.QUARANTINED, "trainq retry 7"), (JobState.REJECTED, "trainq export 7"), (JobState.QUEUED, "next"),
    (JobState.RUNNING, "now"), (JobState.SUCCEEDED, "")])
def test_what_to_do_about_a_job_that_failed(state: JobState, words: str) -> None:
    assert wording.tried_again(msgspec.structs.replace(JOB, state=state)) == words


def test_an_ending_has_only_what_there_is() -> None:
    assert wording.ending(msgspec.structs.replace(JOB, state=JobState.CANCELLED, reason="why not")) == [
        "train-7", "cancelled", "a.jsonl", "why not"]
    assert wording.ending(msgspec.structs.replace(
        JOB, state=JobState.SUCCEEDED, started_at=100.0, ended_at=172.0, result={"steps_done": 4})) == [
        "train-7", "succeeded", "a.jsonl", "4 steps", "1 m 12 s"]


def test_every_state_has_its_style() -> None:
    assert {state.value for state in JobState} == wording.STATE_STYLES.keys()
