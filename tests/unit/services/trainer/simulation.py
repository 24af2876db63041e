"""The assignment with a training process that answers as the real one does, and a broker that may be away.

What it is told goes through real messages and effects; only time is left out: :meth:`Simulation.pass_time` has the
process do one thing at a time, so that whatever is ordered can come between any two.
"""

from __future__ import annotations

from services.trainer import wire
from services.trainer.assignment import Assignment
from services.trainer.effects import (
    AcknowledgeCancel,
    AgentEffect,
    BeginLine,
    BeginRestore,
    BeginTraining,
    CompleteJob,
    DropLease,
    FailJob,
    ForgetJob,
    Greet,
    KeepSteps,
    PublishNow,
    ReleaseJob,
    ReportEffects,
    StartProcess,
    StopProcess,
    TakeBack,
)
from services.trainer.phases import Phase
from trainq.jobs import Effect, EffectKind
from trainq.service.work import Interruption

STEPS = 4
_ENDS = (CompleteJob, FailJob, AcknowledgeCancel, ReleaseJob, ForgetJob, DropLease)


class Process:
    """What the training process has in memory: ``orders`` wait until it comes to a boundary."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.step = head.step
        self.ready = False
        self.orders: list[wire.ToTraining | str] = []
        self.job = ""
        self.waits = False
        self.planned = STEPS


class Head:
    """What is on disk: the job in the middle of which the newest generation is, and its step."""

    def __init__(self) -> None:
        self.generation, self.job, self.step, self.made_by = 1, "", 0, ""


class Simulation:
    """One agent. ``ended`` has how each job's lease ended; ``log`` all effects, for the reader of a failure."""

    def __init__(self) -> None:
        self.assignment = Assignment()
        self.process: Process | None = None
        self.head = Head()
        self.pause = self.stop = ""
        self.ended: list[tuple[str, str]] = []
        self.kept_steps: dict[str, int] = {}
        self.wanted: Interruption | None = None
        self.log: list[AgentEffect] = []
        self._numbers = 0
        self._job = ""
        # At which step the journal says that the job ends; 0: at its plan's.
        self._cut = 0
        self.broker_is_away = False
        self._outbox: list[tuple[ReportEffects, str, Process | None]] = []
        self._greets = False

    # ------------------------------------------------------------------------------------------ the agent's turn

    def turn(self) -> None:
        """As the agent's: standing orders, what is wanted of the job, work to ask for."""
        self._hear_broker()
        self.perform(self.assignment.controlled(pause=self.pause, stop=self.stop))
        if self.assignment.phase is Phase.ABSENT and not self.assignment.stopping:
            self.perform(self.assignment.begin())
        if self.wanted is not None and self.assignment.job and not self.assignment.stopping:
            self.perform(self.assignment.interrupted(self.wanted))

    def lease(self) -> str:
        """A new job is leased, if the agent wants one; its id."""
        if not self.assignment.wants_job or self.pause or self.broker_is_away or self._outbox:
            return ""
        self._numbers += 1
        self._job, self.wanted, self._cut = f"train-{self._numbers}", None, 0
        self.perform(self.assignment.leased(self._job))
        return self._job

    def restore(self) -> str:
        """A restore is leased, if the agent wants one; its id."""
        if not self.assignment.wants_restore or self.broker_is_away or self._outbox:
            return ""
        self._numbers += 1
        self._job, self.wanted = f"restore-{self._numbers}", None
        self.perform(self.assignment.leased_restore(self._job))
        return self._job

    def perform(self, effects: list[AgentEffect]) -> None:
        for effect in effects:
            self.log.append(effect)
            self._perform(effect)

    def _perform(self, effect: AgentEffect) -> None:
        match effect:
            case StartProcess():
                assert self.process is None, "two training processes"
                self.process = Process(self.head)
            case Greet():
                self._greets = True
                self._hear_broker()
            case ReportEffects():
                self._outbox.append((effect, self._job, self.process))
                self._hear_broker()
            case BeginTraining():
                self._tell(wire.Train(job=self._job, token=1, shard="", shard_digest="", settings=None,  # type: ignore[arg-type]  # not looked at
                                      journal_seq=0))
            case TakeBack():
                self._tell(wire.Cancel(job=effect.job))
            case KeepSteps():
                self._tell(wire.Keep(job=effect.job, step=effect.step))
            case PublishNow():
                self._tell(wire.Checkpoint(job=effect.job))
            case BeginRestore() | BeginLine():
                self._tell("restore")
            case StopProcess():
                self._tell(wire.Stop())
            case _ if isinstance(effect, _ENDS):
                if isinstance(effect, CompleteJob):
                    self.kept_steps[self._job] = effect.result.steps_done
                    assert effect.result.steps_done == self._planned, "other steps than the journal says"
                self.ended.append((self._job, type(effect).__name__))
                self.wanted = None
            case _:
                pass

    def _hear_broker(self) -> None:
        """What the broker answers, if it is there: reports in their order, and then the greeting."""
        while self._outbox and not self.broker_is_away:
            effect, job, asked_by = self._outbox.pop(0)
            if job == self.assignment.job:  # else its lease is over, and the report is refused
                self._cut = effect.effects[0].step
                if self.process is asked_by and self.assignment.phase is Phase.TRAINING:
                    self._tell(wire.Recorded(job=job))
            self.assignment.decided()
        if self._greets and not self.broker_is_away and self.assignment.phase is not Phase.RESTORING:
            self._greets = False
            self.perform(self.assignment.greeted(lost=False))

    def _tell(self, order: wire.ToTraining | str) -> None:
        if self.process is not None:
            self.process.orders.append(order)

    # --------------------------------------------------------------------------------------- the training process

    def pass_time(self) -> None:
        """The process does one thing: loads, does a step, or what it was told."""
        process = self.process
        if process is None:
            return
        if not process.ready:
            process.ready = True
            self._say(wire.Ready(fingerprint={}, head="g", generation=self.head.generation, step=0, journal_seq=0,
                                 job=self.head.job, job_step=self.head.step, made_by=self.head.made_by))
        elif process.job:
            self._at_a_boundary(process)
        elif process.orders:
            self._obey(process, process.orders.pop(0))

    def die(self, *, own: bool = False) -> None:
        """The process ends in the middle of whatever it does; what it had not published is gone."""
        if self.process is not None:
            self.process = None
            self.perform(self.assignment.ended("exit 1" if own else "signal 9", own=own))

    @property
    def _planned(self) -> int:
        return self._cut or STEPS

    def _at_a_boundary(self, process: Process) -> None:
        job = process.job
        if wire.Stop() in process.orders:
            self._publish(process)
            self._end()
        elif wire.Cancel(job=job) in process.orders:
            process.job, process.waits = "", False
        elif process.waits:
            if wire.Recorded(job=job) in process.orders:
                process.orders.remove(wire.Recorded(job=job))
                self._finish(process)
        elif process.step == process.planned:
            self._finish(process)
        elif any(isinstance(order, wire.Keep) and order.step <= process.step for order in process.orders):
            if process.step:
                process.waits = True
                cut = Effect(kind=EffectKind.CUT, step=process.step)
                self._say(wire.Deciding(job=job, effects=(cut,), reason="skipped"))
            else:
                process.job = ""
        else:
            if wire.Checkpoint(job=job) in process.orders:
                process.orders.remove(wire.Checkpoint(job=job))
                self._publish(process)
            process.step += 1
            self._say(wire.Progress(job=job, job_step=process.step, steps_planned=STEPS, global_step=0, loss=1.0,
                                    learning_rate=0.1, tokens_per_second=1.0, steps_this_run=1, elapsed_seconds=1.0))
            if process.step == process.planned:
                self._finish(process)

    def _finish(self, process: Process) -> None:
        job, process.job, process.waits = process.job, "", False
        self._publish_as(job, process.step)
        process.step, self.head.job, self.head.step = process.step, "", 0
        self._say(wire.Finished(job=job, steps_done=process.step, steps_planned=process.step, global_step=0,
                                generation=self.head.generation, checkpoint="g", first_loss=None, last_loss=None))

    def _publish(self, process: Process) -> None:
        if process.step and (self.head.job, self.head.step) != (process.job, process.step):
            self._publish_as(process.job, process.step)

    def _publish_as(self, job: str, step: int) -> None:
        self.head.generation += 1
        self.head.job, self.head.step, self.head.made_by = job, step, ""
        self._say(wire.Published(generation=self.head.generation, name="g", step=step, reason="stop", seconds=0.0,
                                 size_bytes=1, job=job, job_step=step))

    def _obey(self, process: Process, order: wire.ToTraining | str) -> None:
        match order:
            case wire.Train():
                process.job = order.job
                process.step = self.head.step if self.head.job == order.job else 0
                process.planned = self._planned
            case wire.Cancel() | wire.Keep():
                if self.head.job == order.job and self.head.step:
                    self._publish_as("", 0)
                self.head.job, self.head.step = ("", 0) if self.head.job == order.job else (self.head.job,
                                                                                            self.head.step)
                self._say(wire.Cancelled(job=order.job, taken_back=0))
            case wire.Stop():
                self._end()
            case "restore":
                self._publish_as("", 0)
                self.head.made_by = self._job
                process.ready = False
            case _:
                pass

    def _end(self) -> None:
        self.process = None
        self.perform(self.assignment.ended("exit 0", own=True))

    def _say(self, message: wire.FromTraining) -> None:
        self.perform(self.assignment.heard(message))

    # ------------------------------------------------------------------------------------------------ to the end

    def settle(self, rounds: int = 40) -> None:
        """Until nothing moves any more."""
        for _ in range(rounds):
            self.turn()
            self.pass_time()
