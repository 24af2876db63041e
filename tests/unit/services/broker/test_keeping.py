"""Pins and removals at the desk: what is asked, and what the broker allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.generations import publish
from tests.stories import Story
from trainq import files
from trainq.jobs import JobKind, Store
from trainq.messages import (
    AnyReply,
    Done,
    GetKept,
    GetOverview,
    Hello,
    Kept,
    Leased,
    Overview,
    Pin,
    PurgeRemoval,
    Refused,
    Remove,
    RetentionTask,
    SnapshotTask,
    SubmitTask,
    TakeLease,
    TaskLease,
    UndoRemoval,
    Unpin,
)
from trainq.retention import trash

OLD = "g000001-s00000010"


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    folder = made.configuration.home.checkpoints
    for generation in range(1, 6):
        publish(folder, generation, {"w": b"w"}, base=OLD if generation == 3 else "")
    made.ask(Hello(request_id=made.id(), worker="trainer", session="s", generation=5, name="g000005-s00000050",
                   step=50))
    yield made
    made.journal.close()


def take(story: Story, kind: JobKind = JobKind.RETENTION) -> TaskLease | None:
    reply = story.ask(TakeLease(request_id=story.id(), worker=kind.value, session="s", kinds=(kind,)))
    assert isinstance(reply, Leased)
    assert reply.lease is None or isinstance(reply.lease, TaskLease)
    return reply.lease


def begin(story: Story) -> TaskLease:
    story.ask(SubmitTask(request_id=story.id(), task=RetentionTask()))
    lease = take(story)
    assert lease is not None
    return lease


def remove(story: Story, lease: TaskLease, name: str = OLD, token: int = 0) -> AnyReply:
    return story.ask(Remove(request_id=story.id(), job=lease.job, token=token or lease.token, store=Store.CHECKPOINTS,
                            name=name, size_bytes=7, reason="no rule keeps it"))


def kept(story: Story) -> Kept:
    reply = story.ask(GetKept(request_id=story.id()))
    assert isinstance(reply, Kept)
    return reply


def test_a_removal_is_decided_once_and_ends_in_one_way(story: Story) -> None:
    lease = begin(story)
    decided = remove(story, lease)
    assert isinstance(decided, Done)
    assert remove(story, lease) == Done(changed=False, seq=decided.seq), "its reply was lost"
    (removal,) = kept(story).removals
    assert (removal.removal, removal.name, removal.state, removal.size_bytes) == (decided.seq, OLD, "trash", 7)
    purge = PurgeRemoval(request_id=story.id(), job=lease.job, token=lease.token, removal=decided.seq)
    assert story.ask(purge) == Done(changed=True, seq=story.journal.head_seq)
    assert story.ask(purge) == Done(changed=False, seq=story.journal.head_seq)
    undo = UndoRemoval(request_id=story.id(), job=lease.job, token=lease.token, removal=decided.seq, reason="r")
    assert isinstance(story.ask(undo), Refused), "it is gone"
    story.restart()
    assert kept(story).removals[0].state == "purged"


@pytest.mark.parametrize(("name", "why"), [
    ("g000005-s00000050", "stands at generation 5"), ("g000004-s00000040", "always stay"),
    ("g000009-s00000090", "not there")])
def test_what_training_needs_stays(story: Story, name: str, why: str) -> None:
    reply = remove(story, begin(story), name)
    assert isinstance(reply, Refused)
    assert why in reply.message


def test_the_newest_that_is_not_marked_stays_and_the_overview_says_that_the_head_is(story: Story) -> None:
    folder = story.configuration.home.checkpoints
    for generation in (6, 7, 8):
        publish(folder, generation, {"w": b"w"}, marks=("the loss was out of its band",))
    story.ask(Hello(request_id=story.id(), worker="trainer", session="s", generation=8, name="g000008-s00000080",
                    step=80))
    overview = story.ask(GetOverview(request_id=story.id()))
    assert isinstance(overview, Overview)
    assert overview.marks == ("the loss was out of its band",)
    lease = begin(story)
    reply = remove(story, lease, "g000005-s00000050")
    assert isinstance(reply, Refused)
    assert "the newest whose state is not marked" in reply.message
    assert isinstance(remove(story, lease, "g000006-s00000060"), Done)


def test_nothing_goes_while_the_head_cannot_be_read(story: Story) -> None:
    (story.configuration.home.checkpoints / "g000005-s00000050" / "manifest.json").unlink()
    reply = remove(story, begin(story))
    assert isinstance(reply, Refused)
    assert "cannot be read" in reply.message


def test_the_state_before_the_running_job_stays(story: Story) -> None:
    publish(story.configuration.home.checkpoints, 6, {"w": b"w"}, base=OLD)
    story.ask(Hello(request_id=story.id(), worker="trainer", session="s", generation=6, name="g000006-s00000060",
                    step=60))
    reply = remove(story, begin(story))
    assert isinstance(reply, Refused)
    assert "the generation before the job" in reply.message


def test_a_pin_keeps_until_it_is_taken_away(story: Story) -> None:
    pin = Pin(request_id=story.id(), store=Store.CHECKPOINTS, name=OLD, reason="mine")
    assert story.ask(pin) == Done(changed=True, seq=story.journal.head_seq)
    assert story.ask(pin) == Done(changed=False, seq=story.journal.head_seq)
    lease = begin(story)
    reply = remove(story, lease)
    assert isinstance(reply, Refused)
    assert "pinned: mine" in reply.message
    for changed in (True, False):
        unpinned = story.ask(Unpin(request_id=story.id(), store=Store.CHECKPOINTS, name=OLD))
        assert unpinned == Done(changed=changed, seq=story.journal.head_seq)
    assert isinstance(remove(story, lease), Done)


def test_only_the_holder_of_a_retention_task_removes(story: Story) -> None:
    lease = begin(story)
    assert isinstance(remove(story, lease, token=lease.token + 1), Refused)
    story.ask(SubmitTask(request_id=story.id(), task=SnapshotTask()))
    assert take(story, JobKind.SNAPSHOT) is None, "retention runs alone"


def test_retention_waits_for_what_runs(story: Story) -> None:
    story.ask(SubmitTask(request_id=story.id(), task=SnapshotTask()))
    snapshot = take(story, JobKind.SNAPSHOT)
    assert snapshot is not None
    story.ask(SubmitTask(request_id=story.id(), task=RetentionTask()))
    assert take(story) is None
    reply = remove(story, snapshot)
    assert isinstance(reply, Refused)
    assert "no retention task" in reply.message


def test_what_is_not_there_cannot_be_pinned(story: Story) -> None:
    assert isinstance(story.ask(Pin(request_id=story.id(), store=Store.SNAPSHOTS, name=OLD)), Refused)
    files.remove_tree(story.configuration.home.checkpoints / OLD)
    assert isinstance(story.ask(Pin(request_id=story.id(), store=Store.CHECKPOINTS, name=OLD)), Refused)


def test_what_was_made_again_is_removed_again(story: Story) -> None:
    """The one before lies in the trash, under its own number."""
    home, lease = story.configuration.home, begin(story)
    first = remove(story, lease)
    assert isinstance(first, Done)
    files.make_directory(home.trash)
    files.move(home.checkpoints / OLD, home.trash / trash.name_in_trash(first.seq, Store.CHECKPOINTS, OLD))
    publish(home.checkpoints, 1, {"w": b"again"})
    second = remove(story, lease)
    assert isinstance(second, Done)
    assert second.changed
    assert second.seq > first.seq
    assert remove(story, lease) == Done(changed=False, seq=second.seq), "its reply was lost"
