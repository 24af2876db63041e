"""The status picture: one folded view of everything, with the age of every figure, and its answer to *why?*

The status service publishes it and writes it to ``status.json``; the command line folds the same from what it asks the
broker itself, and reads the file for the rest, or for all of it when the broker is down. This module is pure: it holds
the picture and the fold from what the broker said, which processes live, and what the status process has observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from trainq import alarms, forecasting
from trainq.config import BrokerSettings
from trainq.figures import (
    ABSENT,
    DEAD,
    SILENT,
    Ages,
    Alarm,
    Cpu,
    Expected,
    Generation,
    Life,
    Measured,
    Observations,
    RunningJob,
    ServiceStatus,
    SnapshotFigure,
    WaitingJob,
)
from trainq.gpu import Devices
from trainq.messages import (
    BackgroundTasks,
    DiskView,
    JobView,
    LearningFigures,
    Lifecycle,
    Overview,
    PauseCause,
    ServiceView,
)

__all__ = ["ABSENT", "DEAD", "PICTURE_VERSION", "SERVICES", "SILENT", "STATUS_TOPIC", "ServiceStatus", "StatusPicture",
           "explain", "fold", "observations_of", "older", "silent_after"]

PICTURE_VERSION = 2
STATUS_TOPIC = b"status"

# The processes of the standard installation, in the order in which people look for them.
SERVICES = ("broker", "watcher", "preparer", "trainer", "snapshot", "retention", "consolidator",
            "evaluator", "datagen", "status", "web")

# One lost heartbeat is bad luck; more is silence.
_MISSED_HEARTBEATS = 2
NOTHING_OBSERVED = Observations()
# The trainer does not go on when an order is over: these say why nothing is trained, whatever is ordered.
_BESIDE_ORDERS = frozenset({PauseCause.GIVEN_UP, PauseCause.DISABLED, PauseCause.HINDERED})


class StatusPicture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as of ``at`` (wall seconds since 1970). ``broker_age_seconds``: how old the broker's figures are.

    What version 1 did not have has a default, so that a ``status.json`` of before can be read. ``session`` is the life
    of the status process that has made it, ``n`` the number of the newest change in it (:mod:`trainq.deltas`).
    """

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
    waiting: tuple[WaitingJob, ...]
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
    session: str = ""
    n: int = 0
    ages: Ages = Ages()
    held: str = ""
    running_job: RunningJob | None = None
    measured: Measured | None = None
    generations: tuple[Generation, ...] = ()
    snapshots: tuple[SnapshotFigure, ...] = ()
    cpu: Cpu | None = None
    gpu: Devices = Devices(reason="not looked for yet")
    alarms: tuple[Alarm, ...] = ()
    learning: LearningFigures = LearningFigures()


def silent_after(settings: BrokerSettings) -> float:
    """The seconds without an answer or a heartbeat after which a living process counts as hung.

    The broker takes a silent worker's job away after its lease, so the picture calls it silent no earlier: whoever
    follows the advice to restart it interrupts no work that would still have counted.
    """
    return max(_MISSED_HEARTBEATS * settings.heartbeat_seconds, settings.lease_seconds)


def fold(overview: Overview | None, *, overview_age_seconds: float | None, now_wall: float,
         is_alive: Callable[[int], bool], silent_after_seconds: float,
         observed: Observations = NOTHING_OBSERVED, maker: ServiceView | None = None) -> StatusPicture:
    """The picture from the broker's newest overview and which of its processes live.

    Args:
        overview: the newest that the broker sent; None before the first.
        overview_age_seconds: how long ago that was.
        now_wall: seconds since 1970.
        is_alive: whether a process with this pid exists.
        silent_after_seconds: :func:`silent_after`; an answer or a heartbeat older than this means that its sender is
            not well.
        observed: what the status process has seen beside it.
        maker: the process that folds. A broker that was just started has not heard of it yet, and it may be the last
            that the picture says of it: whoever reads that needs its pid to see that it has ended.
    """
    age = overview_age_seconds or 0.0
    heard = {maker.name: maker} if maker else {}
    heard |= {view.name: view for view in overview.services} if overview else {}
    names = (*SERVICES, *sorted(heard.keys() - set(SERVICES)))
    services = tuple(_service(name, heard.get(name), age, now_wall, is_alive, silent_after_seconds, observed.lives)
                     for name in names)
    by_name = {service.name: service for service in services}
    # A broker that ended is known at once; one that hangs, by its silence.
    reachable = overview is not None and age < silent_after_seconds and by_name["broker"].state != DEAD
    training = reachable and overview.training is not None if overview else False
    trainer_up = by_name["trainer"].state == Lifecycle.RUNNING
    running_job = _running_job(overview, observed) if overview else None
    return StatusPicture(
        v=PICTURE_VERSION, at=now_wall, journal_id=overview.journal_id if overview else "",
        seq=overview.seq if overview else 0, training=training and trainer_up,
        why=explain(overview, by_name, reachable=reachable, age_seconds=overview_age_seconds) + _marked(overview),
        broker_age_seconds=overview_age_seconds, paused_reason=overview.paused_reason if overview else None,
        counts=overview.counts if overview else {}, running=tuple(overview.running) if overview else (),
        waiting=_line(overview, running_job, observed, now_wall, moves=reachable and trainer_up) if overview else (),
        generation=overview.generation if overview else 0,
        checkpoint=overview.checkpoint if overview else "", step=overview.step if overview else 0, services=services,
        background_tasks=overview.background_tasks if overview else BackgroundTasks(),
        disk=overview.disk if overview else None, pause=overview.pause if overview else "",
        drain=overview.drain if overview else "", stop=overview.stop if overview else "",
        marks=overview.marks if overview else (), session=observed.session, n=observed.n,
        ages=_ages(overview, overview_age_seconds, by_name["trainer"], running_job, observed, now_wall),
        held=overview.held if overview else "", running_job=running_job, measured=observed.measured,
        generations=observed.generations, snapshots=observed.snapshots, cpu=observed.cpu, gpu=observed.gpu,
        alarms=alarms.derive(overview, services, observed.gpu, reachable=reachable, now_wall=now_wall,
                             before=observed.alarms, hung=observed.hung),
        learning=overview.learning if overview else LearningFigures())


def observations_of(picture: StatusPicture) -> Observations:
    """What a picture says that its status process had observed: for whoever folds anew, and its next life."""
    ages, running = picture.ages, picture.running_job
    expected = Expected(job=running.job, ends_at=running.ends_at) if running and running.ends_at else None
    return Observations(
        session=picture.session, n=picture.n,
        lives={service.name: Life(session=service.session, restarts=service.restarts,
                                  memory_bytes=service.memory_bytes, last_error=service.last_error)
               for service in picture.services},
        machine_at=_moment(picture.at, ages.machine), cpu=picture.cpu, gpu_at=_moment(picture.at, ages.gpu),
        gpu=picture.gpu, copies_at=_moment(picture.at, ages.copies), generations=picture.generations,
        snapshots=picture.snapshots, expected=expected, measured=picture.measured, alarms=picture.alarms,
        hung=tuple(alarm for alarm in picture.alarms if alarm.code == alarms.HUNG))


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
    by_order = trainer.state == Lifecycle.PAUSED and trainer.cause not in _BESIDE_ORDERS
    if by_order and (ordered := overview.stop or overview.pause):
        job = overview.training
        return ordered + (f"; {job.id} ({job.name}){_at_step(job)}, goes on then" if job is not None else "")
    if trainer.state != Lifecycle.RUNNING:
        return f"the trainer is {trainer.state}: {trainer.detail or 'it says no more'}"
    if (job := overview.training) is not None:
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
             is_alive: Callable[[int], bool], silent_after_seconds: float,
             lives: Mapping[str, Life]) -> ServiceStatus:
    life = lives.get(name, Life())
    if view is None:
        return ServiceStatus(name=name, pid=0, state=ABSENT, detail="", uptime_seconds=None, age_seconds=None,
                             session=life.session, restarts=life.restarts, last_error=life.last_error)
    state = view.state.value
    age = view.age_seconds + overview_age
    # While the broker does not answer, nothing new is known of the others: only its own silence grows.
    unheard = age if name == "broker" else view.age_seconds
    if view.state is not Lifecycle.STOPPED:
        if not is_alive(view.pid):
            state = DEAD
        elif unheard > silent_after_seconds:
            state = SILENT
    is_up = state not in (DEAD, Lifecycle.STOPPED)
    uptime = max(0.0, now_wall - view.started_at) if view.started_at and is_up else None
    # The memory that was measured is that of the life that was observed.
    memory = life.memory_bytes if is_up and life.session == view.session else None
    return ServiceStatus(name=name, pid=view.pid, state=state, detail=view.detail, uptime_seconds=uptime,
                         age_seconds=round(age, 3), session=view.session, restarts=life.restarts,
                         memory_bytes=memory, last_error=life.last_error, cause=view.cause)


def _running_job(overview: Overview, observed: Observations) -> RunningJob | None:
    job = overview.training
    if job is None:
        return None
    progress, expected = job.progress, observed.expected
    is_stepping = progress is not None and progress.unit == "steps"
    moves = expected is not None and expected.job == job.id and is_stepping and not (overview.pause or overview.stop)
    return RunningJob(
        job=job.id, name=job.name, step=progress.step if progress else 0, steps=progress.steps if progress else 0,
        unit=progress.unit if progress else "steps", loss=progress.loss if progress else None,
        learning_rate=progress.learning_rate if progress else None,
        tokens_per_second=progress.tokens_per_second if progress else None, started_at=job.started_at,
        ends_at=expected.ends_at if moves and expected else None, checkpoint=overview.checkpoint,
        checkpoint_at=_published_at(overview.checkpoint, observed))


def _published_at(checkpoint: str, observed: Observations) -> float | None:
    return next((found.at for found in observed.generations if found.name == checkpoint), None)


def _line(overview: Overview, running_job: RunningJob | None, observed: Observations, now_wall: float, *,
          moves: bool) -> tuple[WaitingJob, ...]:
    stopped = overview.stop or overview.pause or overview.drain
    if overview.held:
        stopped = stopped or f"the queue is held: {overview.held}"
    if not moves:
        stopped = stopped or "the trainer is not up"
    return forecasting.line(
        overview.waiting, overview.planned_tokens, now_wall=now_wall, stopped=stopped,
        reason=overview.waiting_reason, is_running=running_job is not None,
        running_ends_at=running_job.ends_at if running_job else None, measured=observed.measured)


def _ages(overview: Overview | None, broker: float | None, trainer: ServiceStatus, running_job: RunningJob | None,
          observed: Observations, now_wall: float) -> Ages:
    head = max((found.at for found in observed.generations), default=None)
    return Ages(broker=broker, progress=trainer.age_seconds if running_job else None,
                machine=_age(now_wall, observed.machine_at), gpu=_age(now_wall, observed.gpu_at),
                copies=_age(now_wall, observed.copies_at), checkpoint=_age(now_wall, head),
                evaluation=_age(now_wall, overview.learning.evaluated_at if overview else None))


def older(ages: Ages, seconds: float) -> Ages:
    """The ages so many seconds later."""
    return Ages(**{name: None if age is None else round(age + seconds, 3)
                   for name, age in msgspec.structs.asdict(ages).items()})


def _age(now_wall: float, at: float | None) -> float | None:
    return None if at is None else round(max(0.0, now_wall - at), 3)


def _moment(at: float, age: float | None) -> float | None:
    return None if age is None else at - age
