"""Whatever the rules, the room, the clock and the worker want: what must stay stays."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generations import publish
from tests.stories import Story
from trainq import checkpoints, snapshots
from trainq.config import RetentionSettings
from trainq.jobs import JobKind, Store
from trainq.messages import (
    Accepted,
    Done,
    Hello,
    Leased,
    Pin,
    Refused,
    Remove,
    RetentionTask,
    SubmitTask,
    TakeLease,
)
from trainq.retention import rules, trash
from trainq.retention.rules import Item

COUNTS = st.integers(0, 4)
SETTINGS = st.builds(
    RetentionSettings, checkpoints_last=COUNTS, checkpoints_best=COUNTS, snapshots_last=COUNTS,
    snapshots_best=COUNTS, snapshots_hourly=COUNTS, snapshots_daily=COUNTS,
    snapshots_weekly=COUNTS, snapshots_monthly=COUNTS)
# Also what no clock should ever say.
TIMES = st.floats(-1e12, 1e12) | st.floats(1.7e9, 1.7e9 + 40 * 86_400)
ITEMS = st.lists(
    st.builds(lambda store, generation, at, size_bytes, must_stay: Item(
        store=store, name=f"g{generation:06d}-s{generation:08d}", generation=generation, at=at, size_bytes=size_bytes,
        must_stay=must_stay, metric=generation % 7 / 7 if generation % 3 else None),
        store=st.sampled_from(Store), generation=st.integers(1, 40), at=TIMES, size_bytes=st.integers(0, 100),
        must_stay=st.sampled_from(["", "", "it is needed"])),
    unique_by=lambda item: (item.store, item.generation), max_size=30)


@given(items=ITEMS, wanted=SETTINGS)
def test_a_plan_has_a_verdict_and_a_reason_for_each(items: list[Item], wanted: RetentionSettings) -> None:
    verdicts = rules.plan(items, wanted)
    assert sorted((each.item.store, each.item.name) for each in verdicts) == sorted(
        (item.store, item.name) for item in items)
    for verdict in verdicts:
        assert all(verdict.reasons)
        assert verdict.reasons
        assert verdict.keep or not verdict.item.must_stay


@given(items=ITEMS, wanted=SETTINGS)
def test_the_newest_stay_by_generation_whatever_the_clock_said(items: list[Item], wanted: RetentionSettings) -> None:
    kept = {(each.item.store, each.item.generation) for each in rules.plan(items, wanted) if each.keep}
    for store, last in ((Store.CHECKPOINTS, wanted.checkpoints_last), (Store.SNAPSHOTS, wanted.snapshots_last)):
        newest = sorted((item.generation for item in items if item.store is store), reverse=True)[:last]
        assert {(store, generation) for generation in newest} <= kept


@given(items=ITEMS, wanted=SETTINGS)
def test_a_rule_keeps_as_many_periods_as_it_says(items: list[Item], wanted: RetentionSettings) -> None:
    for verdict in rules.plan(items, wanted):
        days = [reason for reason in verdict.reasons if reason.startswith("daily")]
        assert len(days) <= 1
    days = sum(reason.startswith("daily") for each in rules.plan(items, wanted) for reason in each.reasons)
    assert days <= wanted.snapshots_daily


@given(items=ITEMS, wanted=SETTINGS, excess=st.integers(0, 2000))
def test_for_want_of_room_the_oldest_go_and_never_what_must_stay(items: list[Item], wanted: RetentionSettings,
                                                                  excess: int) -> None:
    before = rules.plan(items, wanted)
    after = rules.fit(before, excess)
    given_up = [new.item for old, new in zip(before, after, strict=True) if old.keep and not new.keep]
    spared = [each.item for each in after if each.keep and not each.item.must_stay]
    assert not any(item.must_stay for item in given_up)
    assert all(old.keep or not new.keep for old, new in zip(before, after, strict=True))
    if given_up and spared:
        assert max(item.generation for item in given_up) <= min(item.generation for item in spared)
    # No more than are needed: without the last of them there would still be too little room.
    freed = [each.item.size_bytes for each in before if not each.keep]
    if given_up:
        last = max(given_up, key=lambda item: item.generation)
        tied = [item for item in given_up if item.generation == last.generation]
        assert sum(freed) + sum(item.size_bytes for item in given_up) - sum(item.size_bytes for item in tied) < excess


def _facts(path: Path) -> checkpoints.CheckpointFacts:
    if path.parent.name == Store.SNAPSHOTS.value:
        return snapshots.checkpoint_facts(snapshots.read(path))
    return checkpoints.read_facts(path)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_worker_that_wants_everything_gone_does_not_get_what_is_needed(data: st.DataObject) -> None:
    """The broker's word against the worst plan there is: every copy, in any order."""
    folder = Path(tempfile.mkdtemp())
    try:
        story = Story(folder)
        home = story.configuration.home
        names, weights = list[str](), list[str]()
        for generation in range(1, data.draw(st.integers(1, 7)) + 1):
            adapter_of = data.draw(st.sampled_from(["", "self", *weights]))
            names.append(publish(
                home.checkpoints, generation, {"w": bytes([generation])}, job=f"train-{generation}",
                adapter_of=adapter_of, base=data.draw(st.sampled_from(["", *names])),
                parent=names[-1] if names else ""))
            weights += names[-1:] if adapter_of == "self" else []
            if data.draw(st.booleans()):
                snapshots.create(home.snapshots, home.checkpoints / names[-1], jobs=b"", job_count=0, created_at=1.0,
                                 created_by="test", on_chunk=lambda _: None)
        head = checkpoints.read_facts(home.checkpoints / names[-1])
        story.ask(Hello(request_id=story.id(), worker="trainer", session="s", generation=head.generation,
                        name=head.name, step=head.step))
        copies = [(store, path.name) for store in Store for path in checkpoints.list_generations(home.root / store)]
        pinned = data.draw(st.lists(st.sampled_from(copies), unique=True, max_size=2))
        for store, name in pinned:
            assert isinstance(story.ask(Pin(request_id=story.id(), store=store, name=name)), Done)
        assert isinstance(story.ask(SubmitTask(request_id=story.id(), task=RetentionTask())), Accepted)
        taken = story.ask(TakeLease(request_id=story.id(), worker="retention", session="s",
                                    kinds=(JobKind.RETENTION,)))
        assert isinstance(taken, Leased)
        assert taken.lease is not None
        for store, name in data.draw(st.permutations(copies)):
            reply = story.ask(Remove(request_id=story.id(), job=taken.lease.job, token=taken.lease.token, store=store,
                                     name=name, size_bytes=1, reason="all of it"))
            if isinstance(reply, Done):
                trash.put(home, reply.seq, store, name)
            else:
                assert isinstance(reply, Refused)
                assert "stays" in reply.message
        left = {store: [path.name for path in checkpoints.list_generations(home.root / store)] for store in Store}
        assert set(names[-2:]) | ({head.base, head.parent} - {""}) <= set(left[Store.CHECKPOINTS])
        assert {(store, name) for store, name in pinned} <= {(store, name) for store in Store for name in left[store]}
        for store, there in left.items():
            needed = {name for each in there for name in _facts(home.root / store / each).needs}
            assert needed & {name for other, name in copies if other is store} <= set(there)
        taken_snapshots = [name for store, name in copies if store is Store.SNAPSHOTS]
        assert taken_snapshots[:1] == left[Store.SNAPSHOTS][:1]
        for name in left[Store.SNAPSHOTS]:
            assert snapshots.verify(home.snapshots, name, lambda _: None) == []
        story.journal.close()
    finally:
        shutil.rmtree(folder)
