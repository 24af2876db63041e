"""Alarms: there as long as it is so, with since when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pictures import CHALLENGER, CHAMPION, job, judgement, learning, overview
from trainq import alarms
from trainq.figures import Alarm, ServiceStatus
from trainq.gpu import Devices
from trainq.jobs import JobKind, JobState
from trainq.messages import BackgroundTasks, DiskView, Overview, PauseCause

NO_GPU = Devices(reason="there is no NVIDIA driver")


def service(name: str = "trainer", state: str = "RUNNING", detail: str = "",
            cause: PauseCause | None = None) -> ServiceStatus:
    return ServiceStatus(name=name, pid=1, state=state, detail=detail, uptime_seconds=1.0, age_seconds=1.0, cause=cause)


def derive(of: Overview | None = None, *services: ServiceStatus, **changes: Any) -> tuple[Alarm, ...]:
    fields: dict[str, Any] = {"gpu": NO_GPU, "reachable": True, "now_wall": 1000.0, "before": (), **changes}
    return alarms.derive(overview() if of is None else of, services, **fields)


def disk(state: str) -> DiskView:
    return DiskView(state=state, free_bytes=2_500_000_000, total_bytes=10**12, warn_below_bytes=1, hold_below_bytes=1,
                    full_in_hours=4.0)


FAILED = job(id="snapshot-3", kind=JobKind.SNAPSHOT, state=JobState.FAILED, name="snapshot", reason="no room")
DONE = job(id="snapshot-4", kind=JobKind.SNAPSHOT, state=JobState.SUCCEEDED, name="snapshot")


@pytest.mark.parametrize(("of", "services", "code", "level", "words"), [
    (overview(), [service(state="DEAD")], "service_dead", "bad", "the trainer ended without a word"),
    (overview(), [service(state="SILENT")], "service_silent", "bad", "it hangs"),
    (overview(), [service(state="ERROR", detail="no tokenizer")], "service_error", "bad", "no tokenizer"),
    (overview(), [service(state="PAUSED", detail="ended five times")], "service_paused", "bad", "ended five times"),
    (overview(pause="quiet hours until 6"), [service(state="PAUSED", detail="ended", cause=PauseCause.GIVEN_UP)],
     "service_paused", "bad", "has paused by itself: ended"),
    (overview(), [service(state="PAUSED", detail="the GPU has 91 degrees", cause=PauseCause.WAITING)],
     "service_paused", "warn", "the trainer waits: the GPU has 91 degrees"),
    (overview(), [service(state="PAUSED", detail="the GPU cannot be used", cause=PauseCause.HINDERED)],
     "service_paused", "bad", "the trainer cannot work: the GPU cannot be used"),
    (overview(), [service("retention", state="PAUSED", detail="no room", cause=PauseCause.HINDERED)],
     "service_paused", "warn", "no room"),
    (overview(up_seconds=61.0), [service(state="ABSENT")], "service_absent", "warn", "never heard of"),
    (overview(), [service(detail="training; supervisord kills it 10 s after a stop")], "stop_time_short", "warn",
     "supervisord kills it 10 s"),
    (overview(), [service("status", detail="status.json: no room")], "status_trouble", "warn", "no room"),
    (overview(), [service("evaluator", detail="the suite half is refused: it says 0.5")], "suite_refused", "warn",
     "half is refused"),
    (overview(marks=("a batch was left out",), checkpoint="g1"), [], "head_marked", "warn", "g1 is marked: a batch"),
    (overview(held="three jobs failed in a row"), [], "queue_held", "bad", "three jobs failed in a row"),
    (overview(disk=disk("warn")), [], "disk_low", "warn", "2.5 GB free, full in 4.0 h"),
    (overview(disk=disk("hold")), [], "disk_full", "bad", "nothing that needs room is begun"),
    (overview(counts={"train": {"quarantined": 2}}), [], "jobs_quarantined", "warn", "2 jobs are set aside"),
    (overview(counts={"train": {"held": 1}}), [], "jobs_held", "warn", "1 job is held for the quality of the file"),
    (overview(background_tasks=BackgroundTasks(recent=[FAILED])), [], "task_failed", "warn", "snapshot-3"),
    (overview(learning=learning(judgement=judgement(regressed=True))), [], "regressed", "bad",
     f"{CHALLENGER} is significantly worse than the champion {CHAMPION}: held-out"),
    (overview(learning=learning(judgement=judgement(outcome="propose"), proposal=CHALLENGER)), [],
     "champion_proposed", "warn", f"{CHALLENGER} is proposed as champion in place of {CHAMPION}: held-out"),
    # It waits, whatever is judged after it.
    (overview(learning=learning(proposal="g000004-s00000040", champion=None)), [], "champion_proposed", "warn",
     "g000004-s00000040 is proposed as champion as the first one"),
])
def test_each_is_seen_with_its_mend(of: Overview, services: list[ServiceStatus], code: str, level: str,
                                    words: str) -> None:
    (alarm,) = derive(of, *services)
    assert (alarm.code, alarm.level, alarm.since) == (code, level, 1000.0)
    assert words in alarm.text
    assert alarm.mend


@pytest.mark.parametrize("quiet", [
    derive(overview(), service()),
    derive(overview(), service(state="STOPPED")),
    derive(overview(pause="lunch"), service(state="PAUSED", detail="lunch", cause=PauseCause.ORDERED)),
    derive(overview(), service(state="PAUSED", detail="control/.stop is there", cause=PauseCause.ORDERED)),
    derive(overview(), service(state="PAUSED", detail="lend-3 (x) has the GPU", cause=PauseCause.LENT)),
    derive(overview(), service("snapshot", "PAUSED", "not in profile: minimal", PauseCause.DISABLED)),
    derive(overview(), service("watcher", "PAUSED", "control/.pause-watcher is there: lunch", PauseCause.ORDERED)),
    derive(overview(up_seconds=5.0), service(state="ABSENT")),
    derive(overview(disk=disk("ok"))),
    derive(overview(background_tasks=BackgroundTasks(recent=[DONE, FAILED]))),
    derive(overview(learning=learning())),
    # The champion has moved since.
    derive(overview(learning=learning(judgement=judgement(regressed=True, champion="g000001-s00000010")))),
    # Somebody has scored an old one.
    derive(overview(learning=learning(judgement=judgement(regressed=True, checkpoint="g000001-s00000010")))),
])
def test_what_is_well_or_was_wanted_is_none(quiet: tuple[Alarm, ...]) -> None:
    assert quiet == ()


def test_a_broker_that_does_not_answer_is_one_alarm() -> None:
    assert [each.code for each in derive(reachable=False)] == ["broker_unreachable"]
    assert [each.code for each in derive(overview(), service("broker", "DEAD"), reachable=False)] == ["service_dead"]


def test_a_gpu_that_cannot_be_used_is_one_and_none_at_all_is_not() -> None:
    (alarm,) = derive(gpu=Devices(reason="GPU is lost", trouble=True))
    assert (alarm.code, alarm.text) == ("gpu_trouble", "the GPU cannot be used: GPU is lost")


def test_it_keeps_the_moment_at_which_it_was_first_seen() -> None:
    before = derive(overview(held="hot"), service(state="DEAD"))
    after = derive(overview(held="still hot"), service(state="DEAD"), service("watcher", "DEAD"), before=before,
                   now_wall=2000.0)
    assert [(each.code, each.subject, each.since) for each in after] == [
        ("queue_held", "queue", 1000.0), ("service_dead", "trainer", 1000.0), ("service_dead", "watcher", 2000.0)]


def test_the_bad_ones_come_first() -> None:
    found = derive(overview(marks=("x",), disk=disk("hold")), service(state="ERROR"))
    assert [each.level for each in found] == ["bad", "bad", "warn"]


def test_with_the_broker_down_the_others_stay() -> None:
    before = derive(overview(disk=disk("warn")), service("watcher", "DEAD"))
    found = alarms.without_broker(before, [service("broker", "DEAD")], NO_GPU, 3000.0)
    assert [(each.code, each.subject, each.since) for each in found] == [
        ("service_dead", "broker", 3000.0), ("disk_low", "disk", 1000.0)]


def test_who_hung_lately_is_told_of() -> None:
    hung = alarms.service_hung("preparer", "preparer hangs: no sign of life for 61 s; it is started again", 990.0)
    (found,) = derive(overview(), service(), hung=(hung,))
    assert (found.code, found.subject, found.since) == ("service_hung", "preparer", 990.0)
    assert "started again" in found.text


def test_after_an_hour_it_is_told_of_no_more() -> None:
    hung = alarms.service_hung("preparer", "preparer hangs; it is started again", 990.0)
    assert [each.code for each in derive(hung=(hung,), now_wall=4589.0)] == ["service_hung"]
    assert derive(hung=(hung,), now_wall=4591.0) == ()


def test_who_hung_lately_is_told_of_without_a_broker_too_for_an_hour() -> None:
    hung = alarms.service_hung("preparer", "preparer hangs; it is started again", 990.0)
    before = derive(overview(), service(), hung=(hung,))
    found = alarms.without_broker(before, [service("broker", "DEAD")], NO_GPU, 4589.0)
    assert [(each.code, each.since) for each in found] == [("service_dead", 4589.0), ("service_hung", 990.0)]
    late = alarms.without_broker(before, [service("broker", "DEAD")], NO_GPU, 4591.0)
    assert [each.code for each in late] == ["service_dead"]


@pytest.mark.parametrize(("cause", "is_wanted", "passes"), [
    (PauseCause.ORDERED, True, True), (PauseCause.LENT, True, True), (PauseCause.WAITING, False, True),
    (PauseCause.DISABLED, True, False), (PauseCause.HINDERED, False, False), (PauseCause.GIVEN_UP, False, False),
    (None, False, False)])
def test_what_is_wanted_and_what_passes(cause: PauseCause | None, is_wanted: bool, passes: bool) -> None:
    paused = service(state="PAUSED", detail="the queue is paused", cause=cause)
    assert (alarms.is_wanted(paused), alarms.passes(paused)) == (is_wanted, passes)
    assert not alarms.is_wanted(service(cause=cause))
