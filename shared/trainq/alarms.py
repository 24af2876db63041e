"""Alarms: what a person should know of, derived from the same facts as the picture. Pure.

An alarm is there as long as what it tells of is so, and goes by itself. Nothing is decided by it: what must stop work
stops it elsewhere, and says so here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from trainq.figures import ABSENT, DEAD, SILENT, Alarm, ServiceStatus
from trainq.gpu import Devices
from trainq.jobs import JobState, is_fall
from trainq.messages import LearningFigures, Lifecycle, Overview, PauseCause, ServiceView

# After so many seconds of the broker's life a service that was never heard of is missing.
_FIRST_WORD_SECONDS = 60.0
# People wanted it so.
_WANTED = frozenset({PauseCause.ORDERED, PauseCause.LENT, PauseCause.DISABLED})
# Its work is done later, and nobody has to mend anything.
_PASSES = frozenset({PauseCause.ORDERED, PauseCause.LENT, PauseCause.WAITING})
# Nothing is trained without them.
_NEEDED = frozenset({"broker", "watcher", "preparer", "trainer"})
# How the trainer's detail says that supervisord gives it too little time (services/trainer/stopping.py).
_STOP_TIME = "supervisord kills it"
_GB = 1e9
HUNG = "service_hung"
# So long one that hung is told of.
HUNG_SECONDS = 3600.0


def without_broker(before: Sequence[Alarm], services: Sequence[ServiceStatus], gpu: Devices,
                   now_wall: float) -> tuple[Alarm, ...]:
    """The alarms of a picture of before, with what is known now of the processes: the broker does not answer."""
    hung = [alarm for alarm in before if alarm.code == HUNG]
    now = derive(None, services, gpu, reachable=False, now_wall=now_wall, before=before, hung=hung)
    codes = {"gpu_trouble", "broker_unreachable", "stop_time_short", "status_trouble"}
    others = [alarm for alarm in before if alarm.code not in codes and not alarm.code.startswith("service_")]
    return (*now, *others)


def service_hung(service: str, text: str, at: float) -> Alarm:
    """The watchdog found one that hangs."""
    return msgspec.structs.replace(_alarm(HUNG, service, "warn", text,
                                          f"trainq logs {service}; its stacks are in run/{service}.crash or that log"),
                                   since=at)


def derive(overview: Overview | None, services: Sequence[ServiceStatus], gpu: Devices, *, reachable: bool,
           now_wall: float, before: Sequence[Alarm], hung: Sequence[Alarm] = ()) -> tuple[Alarm, ...]:
    """What there is to be alarmed of, the bad ones first.

    Args:
        overview: the broker's newest; None before the first.
        services: as the picture has them.
        gpu: what the driver says.
        reachable: whether the broker answers.
        now_wall: wall seconds.
        before: the alarms of the picture before, which say since when.
        hung: the services that hung (:func:`service_hung`), which say themselves since when; those of before the
            last hour are left out.
    """
    since = {(alarm.code, alarm.subject): alarm.since for alarm in before}
    found = [*_services(overview, services, reachable=reachable),
             *(_broker_says(overview) if overview is not None else ())]
    if gpu.trouble:
        found.append(_alarm("gpu_trouble", "gpu", "bad", f"the GPU cannot be used: {gpu.reason}",
                            "nvidia-smi; it goes on by itself when it can"))
    # When one hung is known, and not when it was first told of.
    lately = (alarm for alarm in hung if alarm.since > now_wall - HUNG_SECONDS)
    dated = (*lately, *(msgspec.structs.replace(alarm, since=since.get((alarm.code, alarm.subject), now_wall))
                        for alarm in found))
    return tuple(sorted(dated, key=lambda alarm: (alarm.level != "bad", alarm.since, alarm.code, alarm.subject)))


def _alarm(code: str, subject: str, level: str, text: str, mend: str) -> Alarm:
    return Alarm(code=code, subject=subject, level="bad" if level == "bad" else "warn", text=text, mend=mend, since=0.0)


def _services(overview: Overview | None, services: Sequence[ServiceStatus], *, reachable: bool) -> Iterator[Alarm]:
    for service in services:
        name, detail = service.name, service.detail or "it says no more"
        if service.state == DEAD:
            yield _alarm("service_dead", name, "bad", f"the {name} ended without a word",
                         f"supervisorctl start {name}; trainq logs {name} says what it said last")
        elif service.state == SILENT:
            yield _alarm("service_silent", name, "bad", f"the {name} lives and is not heard of: it hangs",
                         f"supervisorctl restart {name}")
        elif service.state == Lifecycle.ERROR:
            yield _alarm("service_error", name, "bad", f"the {name} fails: {detail}",
                         f"it tries again by itself; trainq logs {name}")
        elif service.state == Lifecycle.PAUSED and not is_wanted(service):
            yield _paused(service, detail)
        elif service.state == ABSENT and overview is not None and overview.up_seconds > _FIRST_WORD_SECONDS:
            yield _alarm("service_absent", name, "warn", f"the {name} was never heard of",
                         f"supervisorctl start {name}")
        if (at := service.detail.find(_STOP_TIME)) >= 0:
            yield _alarm("stop_time_short", name, "warn", service.detail[at:],
                         "supervisord.conf, then supervisorctl update")
        elif name == "evaluator" and service.state == Lifecycle.RUNNING and service.detail:
            yield _alarm("suite_refused", name, "warn", service.detail,
                         "mend the suite as the reason says, then trainq evaluate")
        elif name == "status" and service.state == Lifecycle.RUNNING and service.detail:
            yield _alarm("status_trouble", name, "warn", service.detail,
                         "room on the disk and its rights, or another [status] tcp_port: as the reason says")
    if not reachable and not any(service.name == "broker" and service.state in (DEAD, SILENT) for service in services):
        yield _alarm("broker_unreachable", "broker", "bad", "the broker does not answer", "supervisorctl status broker")


def _paused(service: ServiceStatus, detail: str) -> Alarm:
    name, needed = service.name, "bad" if service.name in _NEEDED else "warn"
    match service.cause:
        case PauseCause.WAITING:
            return _alarm("service_paused", name, "warn", f"the {name} waits: {detail}",
                          "none is needed: it goes on by itself when what the reason names is over")
        case PauseCause.HINDERED:
            return _alarm("service_paused", name, needed, f"the {name} cannot work: {detail}",
                          f"mend what the reason names, it goes on by itself then; trainq doctor, trainq logs {name}")
        case _:
            return _alarm("service_paused", name, needed, f"the {name} has paused by itself: {detail}",
                          f"trainq logs {name}; then supervisorctl restart {name}")


def is_wanted(service: ServiceStatus | ServiceView) -> bool:
    """Whether it is PAUSED because people wanted it so: an order, a loan of the GPU, the configuration."""
    return service.state == Lifecycle.PAUSED and service.cause in _WANTED


def passes(service: ServiceStatus | ServiceView) -> bool:
    """Whether it is PAUSED and takes up its work again with nothing mended: after an order, or by itself."""
    return service.state == Lifecycle.PAUSED and service.cause in _PASSES


def _broker_says(overview: Overview) -> Iterator[Alarm]:
    if overview.marks:
        yield _alarm("head_marked", overview.checkpoint, "warn",
                     f"{overview.checkpoint} is marked: {', '.join(overview.marks)}",
                     "trainq show of its job; trainq restore goes back to an earlier state")
    if overview.held:
        yield _alarm("queue_held", "queue", "bad", f"the queue is held: {overview.held}",
                     "mend what the reason names; it goes on by itself")
    disk = overview.disk
    if disk is not None and disk.state != "ok":
        forecast = f", full in {disk.full_in_hours:.1f} h" if disk.full_in_hours is not None else ""
        bad = disk.state == "hold"
        yield _alarm("disk_full" if bad else "disk_low", "disk", "bad" if bad else "warn",
                     f"the disk has {disk.free_bytes / _GB:.1f} GB free{forecast}"
                     + (": nothing that needs room is begun" if bad else ""),
                     "make room, or trainq retention; [disk] and [retention] have the limits")
    if quarantined := overview.counts.get("train", {}).get(JobState.QUARANTINED.value, 0):
        jobs = "1 job is" if quarantined == 1 else f"{quarantined} jobs are"
        yield _alarm("jobs_quarantined", "queue", "warn", f"{jobs} set aside after failing",
                     "trainq list --state quarantined; trainq retry JOB, or trainq export JOB")
    if held := overview.counts.get("train", {}).get(JobState.HELD.value, 0):
        jobs = "1 job is" if held == 1 else f"{held} jobs are"
        yield _alarm("jobs_held", "queue", "warn", f"{jobs} held for the quality of the file",
                     "trainq list --state held says why; trainq release JOB, or trainq cancel JOB")
    yield from _learning_says(overview.learning)
    seen: set[str] = set()
    for task in overview.background_tasks.recent:
        if task.kind.value not in seen and task.state is JobState.FAILED:
            yield _alarm("task_failed", task.kind.value, "warn", f"{task.id} ({task.name}) failed: {task.reason}",
                         f"trainq show {task.id}")
        seen.add(task.kind.value)


def _learning_says(learning: LearningFigures) -> Iterator[Alarm]:
    judged = learning.judgement
    champion = learning.champion.checkpoint if learning.champion is not None else ""
    reason = judged.reasons[0] if judged is not None and judged.reasons else "trainq champion says why"
    # As long as that champion is it.
    if judged is not None and is_fall(judged.checkpoint, judged.champion, champion, regressed=judged.regressed):
        yield _alarm("regressed", judged.checkpoint, "bad",
                     f"{judged.checkpoint} is significantly worse than the champion {champion}: {reason}",
                     f"trainq scores --matrix; trainq restore {champion} --from checkpoints goes back to it")
    if proposed := learning.proposal:
        beside = f"in place of {champion}" if champion else "as the first one"
        because = f": {reason}" if judged is not None and judged.checkpoint == proposed else ""
        yield _alarm("champion_proposed", proposed, "warn", f"{proposed} is proposed as champion {beside}{because}",
                     f"trainq promote {proposed}, or leave it")
