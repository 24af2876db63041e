"""What is kept for listeners has no gap, and is bounded."""

from __future__ import annotations

import asyncio

from services.web import feed
from services.web.feed import Bell, Feed
from trainq.messages import EventView


def events(*seqs: int, size: int = 0) -> list[EventView]:
    return [EventView(seq=seq, at=1.0, type="JobRetried", job=f"train-{seq}", body={"x": "x" * size}) for seq in seqs]


def seqs(found: list[feed.Entry] | None) -> list[int] | None:
    return None if found is None else [entry.seq for entry in found]


def test_what_is_recent_is_had_here() -> None:
    kept = Feed()
    kept.add(events(5, 6, 7))
    assert seqs(kept.after(4)) == [5, 6, 7]
    assert seqs(kept.after(6)) == [7]
    assert seqs(kept.after(7)) == []


def test_what_is_older_or_unknown_is_asked_of_the_journal() -> None:
    kept = Feed()
    assert kept.after(3) is None
    kept.add(events(5, 6))
    assert kept.after(3) is None
    assert kept.after(9) is None  # of another journal


def test_after_a_gap_only_what_follows_it_is_kept() -> None:
    kept = Feed()
    kept.add(events(1, 2, 4))
    assert kept.after(1) is None
    assert seqs(kept.after(3)) == [4]


def test_a_last_event_that_was_lost_is_noticed_by_the_picture() -> None:
    kept = Feed()
    kept.add(events(1, 2))
    kept.note_journal("a", 2)
    rung = kept.events_bell.rung
    kept.note_journal("a", 1)  # an older picture
    assert (kept.head, kept.events_bell.rung) == (2, rung)
    kept.note_journal("a", 3)
    assert kept.events_bell.rung > rung
    assert kept.after(2) is None
    kept.add(events(3, 4))
    assert seqs(kept.after(2)) == [3, 4]


def test_another_journal_has_other_events() -> None:
    kept = Feed()
    kept.note_journal("a", 2)
    kept.add(events(1, 2))
    kept.note_journal("b", 1)
    assert kept.after(0) is None


def test_it_is_bounded_by_number_and_by_bytes() -> None:
    kept = Feed()
    kept.add(events(*range(1, feed.KEPT_EVENTS + 11)))
    assert len(kept.after(10) or ()) == feed.KEPT_EVENTS
    assert kept.after(9) is None
    kept = Feed()
    kept.add(events(*range(1, 41), size=256 * 1024))
    assert kept.after(0) is None
    assert 20 < len(kept.after(10) or ()) < 32


def test_a_bell_wakes_who_has_not_heard_it() -> None:
    async def story() -> None:
        bell = Bell()
        waiting = asyncio.create_task(bell.wait(0, 60.0))
        await asyncio.sleep(0)
        bell.ring()
        await waiting
        await bell.wait(0, 60.0)  # it was rung already
        await bell.wait(1, 0.001)  # in vain, and without an error

    asyncio.run(story())
