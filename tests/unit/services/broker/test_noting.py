"""Events of users' own: once for each request, and no more than the journal is to take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.broker.noting import BURST_BYTES, BYTES_A_SECOND, Allowance
from stories import Story
from trainq.messages import AnyReply, Done, Emit, Refused


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    yield made
    made.journal.close()


def emit(story: Story, name: str = "Mine", request_id: str = "", **fields: bool | int | float | str | None) -> AnyReply:
    return story.ask(Emit(request_id=request_id or story.id(), name=name, fields=fields))


def test_it_is_recorded_once_for_each_request(story: Story) -> None:
    assert emit(story, request_id="r", score=0.5, what="x", good=True, none=None) == Done(seq=1)
    assert emit(story, request_id="r", score=0.5, what="x", good=True, none=None) == Done(changed=False, seq=1)
    reused = emit(story, request_id="r", score=0.6)
    assert isinstance(reused, Refused)
    assert reused.code == "request_reused"
    story.restart()
    assert emit(story, request_id="r", score=0.5, what="x", good=True, none=None) == Done(changed=False, seq=1)
    assert story.types() == ["UserNoted"]


def test_nothing_follows_from_it(story: Story) -> None:
    story.submit()
    before = story.queries.counts()
    emit(story, "JobSucceeded", job="train-1")
    assert (story.queries.counts(), story.types("train-1")) == (before, ["JobSubmitted"])


def test_whoever_says_too_much_waits_and_others_do_not(story: Story) -> None:
    replies = [emit(story, text="x" * 3000) for _ in range(40)]
    taken = [reply for reply in replies if isinstance(reply, Done)]
    assert replies[:len(taken)] == taken
    assert BURST_BYTES // 3600 <= len(taken) <= BURST_BYTES // 3400
    assert {reply.code for reply in replies if isinstance(reply, Refused)} == {"busy"}
    assert story.submit().job == "train-1"
    story.clock.now += 4096 / BYTES_A_SECOND
    assert isinstance(emit(story, text="x" * 3000), Done)


def test_an_allowance_holds_what_it_says_and_no_more() -> None:
    allowance = Allowance(now=0.0)
    assert allowance.take(BURST_BYTES, now=0.0) == 0.0
    assert allowance.take(BYTES_A_SECOND, now=0.0) == 1.0
    assert allowance.take(BYTES_A_SECOND, now=0.5) == 0.5, "what is refused takes nothing"
    assert allowance.take(BYTES_A_SECOND, now=1.0) == 0.0
    assert allowance.take(BURST_BYTES + 1, now=1e9) > 0.0, "what was not used is not kept for ever"
