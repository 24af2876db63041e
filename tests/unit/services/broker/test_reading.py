"""What the broker says of the queue to who estimates: the tokens that each job is to train."""

from __future__ import annotations

from pathlib import Path

from tests.stories import PREPARED, Story
from trainq import messages
from trainq.jobs import JobKind


def overview(story: Story) -> messages.Overview:
    reply = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(reply, messages.Overview)
    return reply


def test_planned_tokens_count_repetitions_and_only_what_is_prepared(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.submit("a")
    story.submit("b", overrides=messages.Overrides(epochs=3))
    story.submit("c")
    assert overview(story).planned_tokens == {}
    story.prepare_next()
    story.prepare_next()
    assert overview(story).planned_tokens == {"train-1": PREPARED.tokens, "train-2": 3 * PREPARED.tokens}
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    again = overview(story)
    assert [job.id for job in again.running if job.kind is JobKind.TRAIN] == ["train-1"]
    assert set(again.planned_tokens) == {"train-1", "train-2"}
