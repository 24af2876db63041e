"""Whatever the clock does, and however often the broker is restarted: each slot asks for one task at most."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.broker import scheduling
from services.broker.timetable import Timetable, listed
from tests.stories import TRAINED, Story
from trainq.config import ScheduleRule, ScheduleSettings
from trainq.jobs import JobKind, ScheduleFired, ScheduleSkipped
from trainq.messages import Hello, Leased, SubmitTask, TakeLease, TaskLease, TaskResult, VerifyTask

HOUR = 3600.0
RULES = {
    "hourly": ScheduleRule(task="snapshot", every_hours=1),
    "daily": ScheduleRule(task="verify", cron="0 3 * * *"),
}
START = 1_790_000_000.0 // 86_400 * 86_400


class Watched:
    """A desk with a timetable, and a worker that does at once whatever is asked for."""

    def __init__(self, folder: Path, missed: str = "once", rules: dict[str, ScheduleRule] | None = None) -> None:
        self.story = Story(folder)
        self.story.clock.now = START
        off = {name: ScheduleRule(enabled=False) for name in ScheduleSettings().all_rules}
        self.story.ask(Hello(request_id=self.story.id(), worker="trainer", session="s", generation=1,
                             name="g000001-s00000000", step=0))
        self.settings = ScheduleSettings(time_zone="UTC", missed=missed, rules={**off, **(rules or RULES)})
        self.begin()

    def begin(self) -> None:
        desk = self.story.desk
        desk.timetable = Timetable(self.story.queries, desk._recorder, self.settings, self.story.clock)

    def restart(self) -> None:
        self.story.restart()
        self.begin()

    def tick(self, *, works: bool = True) -> None:
        story = self.story
        if story.desk.timetable.is_due:
            with story.journal.transaction():
                story.desk.timetable.tick()
            story.desk.committed(story.desk.take_recorded())
        while works and self.work():
            pass

    def work(self) -> bool:
        reply = self.story.ask(TakeLease(request_id=self.story.id(), worker="snapshot", session="s1",
                                         kinds=(JobKind.SNAPSHOT, JobKind.VERIFY)))
        assert isinstance(reply, Leased)
        if not isinstance(reply.lease, TaskLease):
            return False
        self.story.complete(reply.lease, TaskResult(summary="done"))  # type: ignore[arg-type]  # a task's lease will do
        return True

    def events(self) -> list[ScheduleFired | ScheduleSkipped]:
        return [entry.event for entry in self.story.journal.replay(0, 10_000)
                if isinstance(entry.event, ScheduleFired | ScheduleSkipped)]

    def fired(self, name: str) -> list[int]:
        return [event.slot for event in self.events() if isinstance(event, ScheduleFired) and event.name == name]


MOVES = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 30)), st.tuples(st.just("jump"), st.integers(-400, 400)),
    st.tuples(st.just("restart"), st.just(0)))


@settings(max_examples=15, deadline=None)
@given(moves=st.lists(MOVES, max_size=12), missed=st.sampled_from(["once", "skip"]))
@example(moves=[("run", 5), ("jump", 24 * 365), ("run", 3), ("jump", -24 * 365), ("run", 5)], missed="once")
def test_each_slot_fires_once_at_most_and_while_the_clock_runs_exactly_once(moves: list[tuple[str, int]],
                                                                             missed: str) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        watched = Watched(folder, missed)
        watched.tick()
        seen = {int(START)}
        for move, hours in moves:
            if move == "restart":
                watched.restart()
            elif move == "jump":
                watched.story.clock.now += hours * HOUR
            else:
                for _ in range(hours * 2):
                    watched.story.clock.now += HOUR / 2
                    watched.tick()
                    slot = int(watched.story.clock.now // HOUR * HOUR)
                    if watched.story.clock.now == slot:
                        # It came in time: it has fired now, unless it was done before the clock was set back.
                        done = {event.slot for event in watched.events() if event.name == "hourly"}
                        assert slot in done | seen
        counted = Counter((event.name, event.slot) for event in watched.events())
        assert all(times == 1 for times in counted.values())
        fired = [event for event in watched.events() if isinstance(event, ScheduleFired)]
        assert len({event.job for event in fired}) == len(fired)
        asked = watched.story.queries.listing(kinds=[JobKind.SNAPSHOT, JobKind.VERIFY], states=[], before_number=None,
                                              limit=1000)
        assert len(asked) == len(fired)
        watched.story.journal.close()
    finally:
        shutil.rmtree(folder)


def test_what_passed_unseen_is_made_up_for_once_or_not_at_all(tmp_path: Path) -> None:
    for missed, expected in (("once", 1), ("skip", 0)):
        watched = Watched(tmp_path / missed, missed)
        watched.tick()
        watched.story.clock.now += 10.5 * HOUR
        watched.restart()
        watched.tick()
        assert len(watched.fired("hourly")) == expected
        assert len([event for event in watched.events() if event.name == "hourly"]) == 1
        watched.story.journal.close()


def test_a_task_that_has_not_ended_is_not_asked_for_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.tick()
    for _ in range(3):
        watched.story.clock.now += HOUR
        watched.tick(works=False)
    assert len(watched.fired("hourly")) == 1
    (view,) = [view for view in listed(watched.story.queries, watched.settings, watched.story.clock.now).schedules
               if view.name == "hourly"]
    assert (view.last_job, view.last_state) == ("snapshot-1", "queued")
    assert "has not ended" in view.reason
    while watched.work():
        pass
    watched.story.clock.now += HOUR
    watched.tick()
    assert len(watched.fired("hourly")) == 2
    watched.story.journal.close()


def test_before_there_is_a_model_nothing_is_asked_for() -> None:
    assert scheduling.why_not(RULES["hourly"], 1, now=1.0, missed="once", open_job="", has_model=False)


def test_who_has_used_the_slots_name_for_something_else_stops_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.tick()
    slot = int(START + HOUR)
    watched.story.ask(SubmitTask(request_id=f"schedule-hourly-{slot}", task=VerifyTask()))
    watched.story.clock.now += HOUR
    watched.tick()
    watched.story.clock.now += HOUR
    watched.tick()
    assert [type(event).__name__ for event in watched.events() if event.name == "hourly"] == ["ScheduleSkipped",
                                                                                             "ScheduleFired"]
    watched.story.journal.close()


def test_another_rule_under_an_old_name_begins_anew(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.tick()
    watched.settings = msgspec.structs.replace(watched.settings, rules={
        **watched.settings.rules, "hourly": ScheduleRule(task="snapshot", cron="0 0 * * *")})
    watched.story.clock.now += 5 * HOUR
    watched.restart()
    watched.tick()
    assert watched.fired("hourly") == []
    watched.story.journal.close()


def test_after_so_many_files(tmp_path: Path) -> None:
    watched = Watched(tmp_path, rules={"lots": ScheduleRule(task="snapshot", after_jobs=2)})
    story = watched.story
    watched.tick()
    for number in range(1, 6):
        story.submit(f"file {number}")
        story.prepare_next()
        lease = story.lease(JobKind.TRAIN)
        assert lease is not None
        story.complete(lease, msgspec.structs.replace(TRAINED, generation=number + 1))
        watched.tick()
    assert watched.fired("lots") == [2, 4]
    watched.restart()
    watched.tick()
    assert watched.fired("lots") == [2, 4]
    story.journal.close()
