"""The trainer's agent: holds the lease, keeps it alive, and tells the training process what to do.

It has no torch and does no work of its own: the training process is forked from a preloaded fork server and talks
over a socket pair, so that a crash costs a fork and a model load, and a hang is seen from outside. Whether a file is
trained is derived from the published checkpoint alone; the agent only reports. What it decides is in ``assignment``;
this module performs it. What the broker must hear waits in an outbox, so that a missing broker stops no training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from services.trainer import controls, effects, orders, outbox, wire
from services.trainer.assignment import Assignment
from services.trainer.child import ChildExited, TrainingChild
from services.trainer.claim import Claim
from services.trainer.effects import AgentEffect
from services.trainer.ends import MachineFaults
from services.trainer.forking import Arguments
from services.trainer.gpuguard import GpuGuard
from services.trainer.head import Head
from services.trainer.outbox import Outbox
from services.trainer.phases import Phase
from services.trainer.stopping import StopTime
from services.trainer.watch import Watch
from trainq.errors import TrainqError
from trainq.jobs import JobKind
from trainq.messages import Lease, Lifecycle, PauseCause, ReportEffects, ReportFingerprint, TaskLease
from trainq.service import HeldLease, HeldTask, Peer, Process, take_work

IDLE_SECONDS = 1.0
SHOW_SECONDS = 1.0
# What makes an answer to a heartbeat worth having at once.
_ORDERS = frozenset({"QueuePaused", "QueueResumed", "QueueDrained", "TrainerStopped", "CheckpointRequested",
                     "CancelRequested", "TaskSubmitted", "LeaseGranted", "JobSucceeded", "JobFailed", "JobCancelled"})


class Agent:
    """Performs what the assignment decides. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peer = Peer(process)
        # During a backoff the lease must be kept as well.
        process.on_pause = self._keep  # type: ignore[method-assign]  # the hook exists to be set
        settings = process.settings
        self._child = TrainingChild(Arguments(
            home=str(process.home.root), model=settings.model.path, threads=settings.train.threads,
            seed=settings.train.seed, lora=settings.lora, log=str(process.home.logs / "training-process.log"),
            stacks=str(process.home.run / "training-process.stacks"), gpu_required=settings.trainer.gpu == "required",
            on_fingerprint_change=settings.trainer.on_fingerprint_change, foreign_mib=settings.trainer.foreign_mib))
        self._assignment, self._claim = Assignment(), Claim()
        self._expected = Watch(settings.trainer)
        self._stop_time = StopTime(process.home, process.log)
        self._gpu = GpuGuard(settings.trainer, process.clock.monotonic)
        # Why no job is begun on the GPU as it is.
        self._gpu_hold = ""
        self._controls = controls.Controls()
        self._hung = ""
        self._head = Head(process, self._peer)
        self._faults = MachineFaults()
        self._checkpoint_bytes = 0
        self._held: HeldLease | HeldTask | None = None
        self._outbox = Outbox(process, self._peer)
        self._not_before = 0.0
        self._start_at: float | None = None
        self._next_show = 0.0
        self._idle_since = process.clock.monotonic()
        self._checkpoint_asked = 0

    def close(self) -> None:
        """Save, hand back, say goodbye; within the time that supervisord gives."""
        process = self._process
        process.set_state(Lifecycle.SHUTTING_DOWN, "saving")
        deadline = process.clock.monotonic() + self._stop_time.save_seconds
        self._perform(self._assignment.stop())
        while self._assignment.phase not in (Phase.ABSENT, Phase.PAUSED) and process.clock.monotonic() < deadline:
            self._listen()
            self._keep()
            self._child.watch(process.poller)
            process.linger(0.2)
        self._child.close()
        with_broker_until = process.clock.monotonic() + 5.0
        while not self._outbox.is_empty and process.clock.monotonic() < with_broker_until:
            self._outbox.send()
        process.set_state(Lifecycle.STOPPED)
        self._peer.close()

    def turn(self) -> None:
        """One round: hear the training process, tell the broker, ask for work, wait."""
        self._control()
        if self._assignment.phase is Phase.ABSENT and not self._assignment.stopping and not self._gpu_hold:
            self._perform(self._assignment.begin())
        self._start_if_due()
        self._listen()
        self._end_if_hung()
        self._show_rest()
        self._outbox.send()
        self._greet_if_due()
        self._keep()
        self._ask_for_work()
        self._child.watch(self._process.poller)
        for event in self._peer.wait(IDLE_SECONDS):
            if event.type in _ORDERS:
                self._peer.beat_soon()  # the answer says what is ordered

    def _control(self) -> None:
        """Have what is ordered done."""
        self._peer.hear()
        told, now = self._peer.told, self._process.clock.monotonic()
        seen = self._gpu.verdict(self._child.pid)
        self._gpu_hold = seen.hold
        self._controls = controls.read(self._process.home, told, seen)
        self._perform(self._assignment.controlled(pause=self._controls.pause, stop=self._controls.stop,
                                                  asks=not self._controls.unheard_of))
        wanted = self._assignment.checkpoint_asked() if told.checkpoint > self._checkpoint_asked else None
        if wanted is not None:
            self._checkpoint_asked = told.checkpoint
            if self._held is not None and told.checkpoint > self._held.lease.seq:
                self._perform(wanted)
        idle_minutes = self._process.settings.trainer.idle_minutes
        if self._held is not None or not idle_minutes:
            self._idle_since = now
        elif now - self._idle_since >= idle_minutes * 60:
            self._perform(self._assignment.idle_for_long())

    def _show_rest(self) -> None:
        """Say whether the memory is held, and why the training process is gone on purpose."""
        phase = self._assignment.phase
        self._process.until_told = self._controls.by_file or phase is Phase.PAUSED
        self._process.rests = self._process.until_told or self._controls.unheard_of or bool(self._gpu_hold)
        self._claim.hold(phase not in (Phase.ABSENT, Phase.DORMANT, Phase.PAUSED), rests=self._process.rests)
        self._process.gpu_claim = self._claim.number
        ordered = self._controls.stop or self._controls.pause
        if phase is Phase.DORMANT and ordered:
            self._process.set_state(Lifecycle.PAUSED, ordered, self._controls.cause)
        elif self._gpu_hold and (self._start_at is not None or phase in (Phase.ABSENT, Phase.IDLE, Phase.DORMANT)):
            self._process.set_state(Lifecycle.PAUSED, self._gpu_hold, self._controls.gpu_cause)
        elif self._process.state is Lifecycle.PAUSED and phase is not Phase.PAUSED:
            self._process.set_state(Lifecycle.RUNNING)

    def _ask_for_work(self) -> None:
        """Ask for a job, if one could be done now; while no training can be, for a restore alone."""
        if self._assignment.wants_job and self._gpu.is_passed_over(self._head.device):
            self._perform(self._assignment.idle_for_long())  # the next one is begun on the GPU
        kinds = list[JobKind]()
        if self._assignment.wants_restore and (self._head.is_refused or self._assignment.phase is Phase.LINELESS):
            kinds = [JobKind.RESTORE]
        elif self._assignment.wants_job and not self._gpu_hold and self._process.clock.monotonic() >= self._not_before:
            kinds = [JobKind.RESTORE, JobKind.REBASE, JobKind.TRAIN]
        if not kinds or not self._outbox.is_empty:
            return
        held, reason = take_work(self._peer, tuple(kinds))
        if self._assignment.wants_job and self._process.state is not Lifecycle.PAUSED:
            self._show_running(reason)
        if held is None:
            return
        self._held, lease = held, held.lease
        self._head.newest = max(self._head.newest, lease.generation)
        if isinstance(lease, TaskLease):
            self._perform(self._assignment.leased_restore(lease.job))
        else:
            self._perform(self._assignment.leased(lease.job, cancel=lease.cancel, keep=lease.keep,
                                                  failure=lease.failure, best_step=lease.best_step))

    def _greet_if_due(self) -> None:
        """Have the broker and the head agree; until they do, no job is asked for."""
        if not self._head.is_to_be_told or not self._outbox.is_empty or self._assignment.phase is Phase.RESTORING:
            return  # in the last case it is about to be another one
        reply = self._head.tell()
        if reply is not None:
            self._show_running()
            self._perform(self._assignment.greeted(lost=reply.lost))

    def _start_if_due(self) -> None:
        # One that is begun while the GPU is away would stay on the processor.
        if self._start_at is None or self._gpu_hold:
            return
        waited_seconds = self._process.clock.monotonic() - self._start_at
        if waited_seconds >= 0 and self._claim.is_granted(self._peer.told, waited_seconds,
                                                          has_job=self._held is not None):
            self._start_at = None
            self._process.log.info("training_process_starts")
            self._expected.expect_start(self._process.clock.monotonic())
            try:
                self._child.start()
            except OSError as error:  # no memory, no descriptor, no process: all may pass
                self._expected.expect_nothing()
                self._perform(self._assignment.heard(
                    wire.Failed(job="", system=True, code="cannot_start", reason=str(error))))
                self._perform(self._assignment.ended("it could not be started", own=True))

    def _listen(self) -> None:
        for message in self._child.receive():
            if isinstance(message, ChildExited):
                self._heard_end(message)
                continue
            self._note(message)
            if not isinstance(message, wire.Progress | wire.Restoring):
                self._process.log.info("training_process_says", message=type(message).__name__, said=message)
            if isinstance(message, wire.Ready):
                self._show_running()
            self._perform(self._assignment.heard(message))

    def _heard_end(self, end: ChildExited) -> None:
        how, self._hung = self._hung or end.how, ""
        own = end.own or how != end.how
        self._expected.expect_nothing()
        self._head.lost()
        self._process.log.warning("training_process_ended", how=how, own=own, job=self._assignment.job)
        self._perform(self._assignment.ended(how, own=own))

    def _note(self, message: wire.FromTraining) -> None:
        """What the training process has said changes what is known of it, and what is expected next."""
        match message:
            case wire.Published():
                # An adapter is small; what is read to go back to it is not.
                self._checkpoint_bytes = max(self._checkpoint_bytes, message.size_bytes)
                self._faults.is_over()
                self._process.progressed()
                self._head.published(message)
                self._stop_time.saved(message, self._expected.slowest_step_seconds)
            case wire.Ready():
                self._head.ready, self._checkpoint_bytes = message, message.size_bytes
            case wire.NoLine():
                self._head.ready = None
        self._expected.heard(self._process.clock.monotonic(), message)
        if self._assignment.phase is Phase.LEAVING:
            self._expect_saves(1)  # whatever it has done last, it is to end

    def _end_if_hung(self) -> None:
        """A step that has been missing for too long: write down what it does, then end it and all it has started."""
        overdue = self._expected.overdue(self._process.clock.monotonic())
        if not overdue or self._start_at is not None:
            return
        self._expected.expect_nothing()
        self._hung = f"it hung: {overdue}"
        self._process.log.error("training_process_hangs", job=self._assignment.job, pid=self._child.pid,
                                reason=overdue, stacks=self._child.dump_stacks())
        self._child.kill()

    def _show_running(self, reason: str = "") -> None:
        self._process.set_state(Lifecycle.RUNNING, "; ".join(filter(None, (reason, self._stop_time.warning))))

    def _keep(self) -> None:
        if self._held is None:
            self._peer.beat()
            return
        self._held.keep()
        why = self._held.interruption()
        if why is not None and not self._process.stopping:
            self._perform(self._assignment.interrupted(why))

    def _perform(self, wanted: list[AgentEffect]) -> None:
        for effect in wanted:
            self._perform_one(effect)

    def _perform_one(self, effect: AgentEffect) -> None:
        match effect:
            case effects.StartProcess():
                self._start_at = self._process.clock.monotonic() + effect.after_seconds
                self._start_if_due()
            case effects.ShowTrouble():
                self._process.set_state(Lifecycle.ERROR, effect.reason)
            case effects.PauseTrainer():
                self._process.log.error("trainer_paused", reason=effect.reason)
                says = f"{effect.reason}; trainq services restart trainer tries again"
                self._process.set_state(Lifecycle.PAUSED, says, PauseCause.GIVEN_UP)
            case effects.Greet():
                self._head.tell_again()
            case _ if isinstance(effect, effects.ToProcess):
                self._order(effect)
            case _ if self._held is not None:
                self._perform_on_job(effect, self._held)
            case _:
                raise TrainqError(f"{effect} without a job")

    def _order(self, effect: effects.ToProcess) -> None:
        """Tell the training process."""
        match effect:
            case effects.BeginLine():
                self._expect_saves(1)
                self._child.send(wire.Begin())
            case effects.StopProcess() if self._start_at is not None:
                self._start_at = None  # a start that waits for its time is none
                self._perform(self._assignment.ended("it was not started", own=False))
            case effects.StopProcess():
                self._expect_saves(1)
                self._child.send(wire.Stop())
            case effects.KeepSteps():
                self._child.send(wire.Keep(job=effect.job, step=effect.step))
            case effects.PublishNow():
                self._child.send(wire.Checkpoint(job=effect.job))
            case effects.TakeBack():
                self._expect_saves(2)  # two are read and one is written, at most
                self._child.send(wire.Cancel(job=effect.job, newest=self._head.newest))

    def _perform_on_job(self, effect: AgentEffect, held: HeldLease | HeldTask) -> None:
        match effect:
            case effects.BeginRestore() | effects.BeginTraining():
                self._begin(held.lease)
            case effects.ReportFingerprint():
                report, asked_by = outbox.fingerprint(held.lease, effect), self._child.pid
                self._outbox.put(lambda: self._report_what_is_waited_for(report, asked_by))
            case effects.ReportEffects():
                asked_by = self._child.pid
                self._outbox.put(lambda: self._report_effects(held, effect, asked_by))
            case effects.ShowProgress():
                held.progress = effect.progress
                self._show_soon()
            case effects.ReportPublished():
                made = outbox.checkpoint(held.lease, effect.published)
                self._outbox.put(lambda: self._outbox.tell(made))
            case effects.ReleaseJob():
                hold_seconds = 0.0
                if effect.system_fault:
                    self._process.set_state(Lifecycle.ERROR, effect.reason)
                    hold_seconds = self._faults.hold_seconds()
                    self._not_before = self._process.clock.monotonic() + hold_seconds
                self._end(lambda: held.release(effect.reason, hold_seconds=hold_seconds))
            case effects.DropLease() | effects.ForgetJob():
                if isinstance(effect, effects.ForgetJob):
                    self._process.log.warning("lease_lost", job=held.lease.job)
                self._process.log.end_attempt()
                self._held = None
            case _:
                self._end_job(effect, held)

    def _end_job(self, effect: AgentEffect, held: HeldLease | HeldTask) -> None:
        match effect:
            case effects.CompleteJob():
                self._end(lambda: held.complete(effect.result))
            case effects.FailJob():
                self._end(lambda: held.fail(effect.reason, counts=effect.counts, final=effect.final))
            case effects.ReportLostShard():
                self._end(lambda: held.lose_shard(effect.reason))
            case effects.AcknowledgeCancel():
                self._end(held.acknowledge_cancel)

    def _expect_saves(self, times: int) -> None:
        self._expected.expect_save(self._process.clock.monotonic(), times * self._checkpoint_bytes)

    def _show_soon(self) -> None:
        """People who follow a job see it move: the heartbeat goes out early, though not with every step."""
        now = self._process.clock.monotonic()
        if now >= self._next_show:
            self._next_show = now + SHOW_SECONDS
            self._peer.beat_soon()

    def _end(self, report: Callable[[], bool]) -> None:
        """The job is over on this side; the lease is held on to until the broker has heard of it."""

        def ended() -> None:
            if not report() and self._head.ready is not None:
                # What the broker has made of the job may rest on what it did not hear of the head.
                self._assignment.doubted()
                self._head.tell_again()
            self._held = None

        self._outbox.put(ended)

    def _report_what_is_waited_for(self, report: ReportFingerprint | ReportEffects, asked_by: int) -> bool:
        """Whether it is recorded; the process that waits for it is told so, if it is still there."""
        recorded = self._outbox.tell(report)
        if self._assignment.phase is Phase.TRAINING and self._child.pid == asked_by:
            # Also after a no, which means that the lease is lost: the process is told to stop, and if not, it hangs.
            self._expected.expect_step(self._process.clock.monotonic())
            if recorded:
                self._child.send(wire.Recorded(job=report.job))
        return recorded

    def _report_effects(self, held: HeldLease | HeldTask, decided: effects.ReportEffects, asked_by: int) -> None:
        recorded = self._report_what_is_waited_for(outbox.decided(held.lease, decided), asked_by)
        self._assignment.decided()
        if recorded and isinstance(held.lease, Lease):
            # The next process of this very lease does its steps like that, too.
            held.lease = msgspec.structs.replace(held.lease, effects=(*held.lease.effects, *decided.effects))

    def _begin(self, lease: Lease | TaskLease) -> None:
        now = self._process.clock.monotonic()
        if isinstance(lease, TaskLease):
            self._expected.expect_save(now, 2 * self._checkpoint_bytes)
            self._child.send(orders.line_task(lease, self._head.newest))
            return
        message = orders.train(self._process.home, lease, self._head.newest)
        # It may have to take back another job first: two checkpoints are read then, and one is written.
        self._expected.expect_job(now, 3 * self._checkpoint_bytes + orders.size_bytes(Path(message.shard)))
        self._child.send(message)


def serve(process: Process) -> None:
    """Run the agent until it is told to stop."""
    agent = Agent(process)
    try:
        process.loop(agent.turn, rests=False)
    finally:
        agent.close()
