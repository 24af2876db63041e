"""What is confirmed is done to these jobs and to no others, once; and what is known of a broker lost in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.web import bulk
from services.web.bulk import CancelManyBody, RetryManyBody
from stories import Story
from trainq import orders
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError
from trainq.jobs import JobState
from trainq.orders import Outcome


class AtDesk(BrokerClient):
    """Asks the desk itself; after ``calls`` it finds none."""

    def __init__(self, story: Story) -> None:
        self.story, self.calls = story, 1000

    def call(self, request: Any, *_: Any, **__: Any) -> Any:
        if not self.calls:
            raise BrokerUnavailableError("it has gone")
        self.calls -= 1
        return self.story.ask(request)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[AtDesk]:
    story = Story(tmp_path)
    yield AtDesk(story)
    story.journal.close()


def end(broker: BrokerClient, job: str) -> Outcome:
    return orders.end_job(broker, job, "by a person", keep=False)


def test_only_those_shown_are_ended_and_only_as_they_were(desk: AtDesk) -> None:
    jobs = [desk.story.submit(name).job for name in "abc"]
    end(desk, jobs[1])
    named = dict.fromkeys(jobs[:2], JobState.QUEUED)
    told = bulk.done(desk, named, end)
    assert (told.matched, told.confirmed) == (2, True)
    assert [(job.id, job.state, job.changed) for job in told.jobs] == [
        (jobs[0], "cancelled", True), (jobs[1], "queued", False)]
    assert "is cancelled by now" in told.jobs[1].error
    assert desk.story.state(jobs[2]) is JobState.QUEUED
    again = bulk.done(desk, named, end)
    assert [job.changed for job in again.jobs] == [False, False]
    assert desk.story.state(jobs[2]) is JobState.QUEUED


def test_a_broker_lost_in_the_middle_is_the_error_of_the_rest(desk: AtDesk) -> None:
    jobs = [desk.story.submit(name).job for name in "abc"]
    named = dict.fromkeys(jobs, JobState.QUEUED)
    desk.calls = 3  # how it stands, and the order with its outcome
    told = bulk.done(desk, named, end)
    assert [(job.id, job.state, job.changed, job.error) for job in told.jobs] == [
        (jobs[0], "cancelled", True, ""), (jobs[1], "queued", False, "it has gone"),
        (jobs[2], "queued", False, "it has gone")]
    with pytest.raises(BrokerUnavailableError):
        bulk.done(desk, named, end)


@pytest.mark.parametrize("body", [CancelManyBody, RetryManyBody])
@pytest.mark.parametrize("confirm", [b"true", b'{"train-1": "succeeded"}', b'["train-1"]'])
def test_nothing_is_confirmed_but_jobs_with_the_states_shown(body: type[Any], confirm: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"failed": true, "confirm": ' + confirm + b"}", type=body)
