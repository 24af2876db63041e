"""A place in the journal that only moves on, and what cannot be an event of one's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.errors import AnotherJournalError, UsageError
from trainq.events import Reader, emit, subscribe
from trainq.messages import Events, EventView, Replay


class Paper:
    """A journal on paper, asked as the broker is; ``page`` is the most that it gives at once."""

    def __init__(self, events: int = 0, page: int = 1000) -> None:
        self.journal_id, self.page, self.asked = "one", page, 0
        self.events: list[EventView] = []
        self.grow(events)

    def grow(self, events: int, at: float = 1.0) -> None:
        for seq in range(len(self.events) + 1, len(self.events) + events + 1):
            self.events.append(EventView(seq=seq, at=at, type="T", job=f"train-{seq % 2}", body={"type": "T"}))

    def ask(self, request: Replay, _expect: type[Events]) -> Events:
        self.asked += 1
        found = [event for event in self.events if event.seq > request.after_seq
                 and request.job in ("", event.job)][:min(self.page, request.limit)]
        return Events(journal_id=self.journal_id, head_seq=len(self.events), events=found)


def read(reader: Reader) -> list[int]:
    return [event.seq for event in reader.read()]


@given(first=st.integers(0, 12), since=st.none() | st.integers(0, 12), growth=st.lists(st.integers(0, 7), max_size=4),
       page=st.integers(1, 5))
def test_each_event_comes_once_and_in_order(first: int, since: int | None, growth: list[int], page: int) -> None:
    paper = Paper(first, page)
    reader = Reader(paper.ask, since=None if since is None else min(since, first))
    seen = read(reader)
    for events in growth:
        paper.grow(events)
        seen += read(reader)
    start = first if since is None else min(since, first)
    assert seen == list(range(start + 1, len(paper.events) + 1))


def test_only_one_jobs_events() -> None:
    paper = Paper(5)
    reader = Reader(paper.ask, since=0, job="train-1")
    assert read(reader) == [1, 3, 5]
    paper.grow(2)
    assert (read(reader), reader.seq) == ([7], 7)
    assert read(reader) == []


def test_another_journal_is_an_error() -> None:
    paper = Paper(3)
    reader = Reader(paper.ask, since=1)
    assert read(reader) == [2, 3]
    paper.journal_id = "two"
    with pytest.raises(AnotherJournalError, match="another one now, two in place of one") as caught:
        read(reader)
    assert (caught.value.seq, caught.value.head_seq, caught.value.exit_code) == (3, 3, 66)
    with pytest.raises(AnotherJournalError):
        read(Reader(paper.ask, since=1, journal_id="one"))


@pytest.mark.parametrize(("left", "grown", "words"), [
    (3, 0, "ends at event 3"), (3, 1, "ends at event 4"), (3, 2, "event 5 is another one"),
    (3, 9, "event 5 is another one")])
def test_a_journal_that_was_put_back_is_an_error_however_much_came_since(left: int, grown: int, words: str) -> None:
    paper = Paper(5)
    reader = Reader(paper.ask, since=0)
    assert read(reader) == [1, 2, 3, 4, 5]
    del paper.events[left:]
    paper.grow(grown, at=2.0)
    with pytest.raises(AnotherJournalError, match=words):
        read(reader)


def test_a_place_behind_the_end_is_an_error() -> None:
    with pytest.raises(AnotherJournalError, match="ends at event 2, and was read up to 9"):
        read(Reader(Paper(2).ask, since=9))


def test_what_was_heard_is_not_asked_for() -> None:
    paper = Paper(2)
    reader = Reader(paper.ask)
    assert read(reader) == []
    paper.grow(2)
    reader.took(paper.events[2])
    assert (read(reader), read(reader)) == ([4], [])


def test_a_type_that_there_is_not_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="no events of type JobSuceeded"):
        subscribe("/nowhere", "JobSucceeded", "JobSuceeded")


@pytest.mark.parametrize(("name", "fields"), [
    ("", {}), ("a b", {}), ("1a", {}), ("x" * 65, {}), ("a", {"x y": 1}), ("a", {"x": [1]}), ("a", {"x": "y" * 4096}),
    ("a", {"x": 2**70}), ("a", {"x": "\udcff"}), ("a", {f"f{n}": n for n in range(65)})])
def test_what_cannot_be_an_event_is_said_before_anything_is_asked(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot be recorded"):
        emit("/nowhere", name, **fields)  # type: ignore[arg-type]
