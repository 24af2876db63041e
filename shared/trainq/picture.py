"""The status picture: one folded view of everything, with the age of every figure, and its answer to *why?*

The status service publishes it and writes it to ``status.json``; the command line reads it when the broker is down.
This module is pure: it holds the types and the fold from what the broker said and which processes live.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trainq.config import BrokerSettings
from trainq.jobs import JobKind
from trainq.messages import BackgroundTasks, DiskView, JobView, Lifecycle, Overview, ServiceView

PICTURE_VERSION = 1
STATUS_TOPIC = b"status"

# The processes of the standard installation, in the order in which people look for them.
SERVICES = ("broker", "watcher", "preparer", "trainer", "snapshot", "retention", "consolidator",
            "status")

DEAD = "DEAD"
SILENT = "SILENT"
ABSENT = "ABSENT"

# One lost heartbeat is bad luck; more is silence.
_MISSED_HEARTBEATS = 2


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process. ``state`` is a lifecycle state, or one of three that no process says of itself.

    ``DEAD``: it ended without a word; ``SILENT``: it lives, and has not been heard of for too long (it hangs);
    ``ABSENT``: never heard of.

    ``age_seconds`` is how long ago it was last heard of.
    """

    name: str
    pid: int
    state: str
    detail: str
    uptime_seconds: float | None
    age_seconds: float | None


class StatusPicture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as of ``at`` (wall seconds since 1970). ``broker_age_seconds``: how old the broker's figures are."""

    v: int
    at: float
    journal_id: str
    seq: int
    training: bool
    why: str
    broker_age_seconds: float | None
    paused_reason: str | None
    counts: dict[str, dict[str, int]]
    running: tuple[JobView, ...]
    waiting: tuple[JobView, ...]
    generation: int
    checkpoint: str
    step: int
    services: tuple[ServiceStatus, ...]
    background_tasks: BackgroundTasks = BackgroundTasks()
    disk: DiskView | None = None
    pause: str = ""
    drain: str = ""
    stop: str = ""
    marks: tuple[str, ...] = ()


def silent_after(settings: BrokerSettings) -> float:
    """The seconds without an answer or a heartbeat after which a living process counts as hung.

    The broker takes a silent worker's job away after its lease, so the picture calls it silent no earlier: whoever
    follows the advice to restart it interrupts no work that would still have counted.
    """
    return max(_MISSED_HEARTBEATS * settings.heartbeat_seconds, settings.lease_seconds)


def fold(overview: Overview | None, *, overview_age_seconds: float | None, now_wall: float,
         is_alive: Callable[[int], bool], silent_after_seconds: float) -> StatusPicture:
    """The picture from the broker's newest overview and which of its processes live.

    Args:
        overview: the newest that the broker sent; None before the first.
        overview_age_seconds: how long ago that was.
        now_wall: seconds since 1970.
        is_alive: whether a process with this pid exists.
        silent_after_seconds: :func:`silent_after`; an answer or a heartbeat older than this means that its sender is
            not well.
    """
    age = overview_age_seconds or 0.0
    heard = {view.name: view for view in overview.services} if overview else {}
    names = (*SERVICES, *sorted(heard.keys() - set(SERVICES)))
    services = tuple(_service(name, heard.get(name), age, now_wall, is_alive, silent_after_seconds) for name in names)
    by_name = {service.name: service for service in services}
    # A broker that ended is known at once; one that hangs, by its silence.
    reachable = overview is not None and age < silent_after_seconds and by_name["broker"].state != DEAD
    training = reachable and any(job.kind is JobKind.TRAIN for job in overview.running) if overview else False
    trainer_up = by_name["trainer"].state == Lifecycle.RUNNING
    return StatusPicture(
        v=PICTURE_VERSION, at=now_wall, journal_id=overview.journal_id if overview else "",
        seq=overview.seq if overview else 0, training=training and trainer_up,
        why=explain(overview, by_name, reachable=reachable, age_seconds=overview_age_seconds) + _marked(overview),
        broker_age_seconds=overview_age_seconds, paused_reason=overview.paused_reason if overview else None,
        counts=overview.counts if overview else {}, running=tuple(overview.running) if overview else (),
        waiting=tuple(overview.waiting) if overview else (), generation=overview.generation if overview else 0,
        checkpoint=overview.checkpoint if overview else "", step=overview.step if overview else 0, services=services,
        background_tasks=overview.background_tasks if overview else BackgroundTasks(),
        disk=overview.disk if overview else None, pause=overview.pause if overview else "",
        drain=overview.drain if overview else "", stop=overview.stop if overview else "",
        marks=overview.marks if overview else ())


def explain(overview: Overview | None, services: dict[str, ServiceStatus], *, reachable: bool,
            age_seconds: float | None) -> str:
    """Why nothing is training, or what is: one sentence, the nearest cause first."""
    if overview is None:
        return "the broker has not been heard of: supervisorctl start broker"
    if not reachable:
        return f"the broker has not answered for {age_seconds or 0:.0f} s: supervisorctl status broker"
    trainer, preparer = services["trainer"], services["preparer"]
    if trainer.state == ABSENT:
        return "the trainer has not been heard of yet: supervisorctl status trainer"
    if trainer.state in (DEAD, Lifecycle.STOPPED):
        return "the trainer is not running: supervisorctl start trainer"
    if trainer.state == SILENT:
        return f"the trainer {_unheard(trainer)}: supervisorctl restart trainer"
    if trainer.state == Lifecycle.PAUSED and (ordered := overview.stop or overview.pause):
        waiting = next((f"; {job.id} ({job.name}){_at_step(job)}, goes on then" for job in overview.running
                        if job.kind is JobKind.TRAIN), "")
        return ordered + waiting
    if trainer.state != Lifecycle.RUNNING:
        return f"the trainer is {trainer.state}: {trainer.detail or 'it says no more'}"
    for job in overview.running:
        if job.kind is JobKind.TRAIN:
            return f"training {job.id} ({job.name}){_at_step(job)}"
    head = overview.waiting[0] if overview.waiting else None
    if head is not None and not head.prepared and preparer.state != Lifecycle.RUNNING and not overview.pause:
        waits = f"{head.id} waits to be prepared and the preparer"
        if preparer.state == SILENT:
            return f"{waits} {_unheard(preparer)}: supervisorctl restart preparer"
        return f"{waits} is {preparer.state}: supervisorctl status preparer"
    return overview.waiting_reason or "the trainer is about to ask for work"


def _marked(overview: Overview | None) -> str:
    if overview is None or not overview.marks:
        return ""
    return f"; {overview.checkpoint} is marked: {', '.join(overview.marks)}"


def _unheard(service: ServiceStatus) -> str:
    return f"has not been heard of for {service.age_seconds or 0:.0f} s"


def _at_step(job: JobView) -> str:
    progress = job.progress
    if progress is None or not progress.steps:
        return ""
    loss = f", loss {progress.loss:.3f}" if progress.loss is not None else ""
    return f": step {progress.step} of {progress.steps}{loss}"


def _service(name: str, view: ServiceView | None, overview_age: float, now_wall: float,
             is_alive: Callable[[int], bool], silent_after_seconds: float) -> ServiceStatus:
    if view is None:
        return ServiceStatus(name=name, pid=0, state=ABSENT, detail="", uptime_seconds=None, age_seconds=None)
    state = view.state.value
    age = view.age_seconds + overview_age
    # While the broker does not answer, nothing new is known of the others: only its own silence grows.
    unheard = age if name == "broker" else view.age_seconds
    if view.state is not Lifecycle.STOPPED:
        if not is_alive(view.pid):
            state = DEAD
        elif unheard > silent_after_seconds:
            state = SILENT
    uptime = max(0.0, now_wall - view.started_at) if view.started_at and state not in (DEAD, "STOPPED") else None
    return ServiceStatus(name=name, pid=view.pid, state=state, detail=view.detail, uptime_seconds=uptime,
                         age_seconds=round(age, 3))
