"""The assignment: what the agent does about its job and its training process. Pure: events in, effects out.

Rules:

* At most one job and one training process. The process is kept warm between jobs.
* After each start of the process its head and the journal are made to agree (``Greet``) before any job is taken. A job
  that is held goes on without waiting for that, unless the head is older than what was published before. A new line is
  published only when the broker knows of none.
* A training process that ends while it has a job is started again and goes on from the newest checkpoint. An end of its
  own doing (exit, exception, SIGSEGV, hang) without a new highest published step is a failed attempt. Ends from outside
  (SIGKILL, SIGTERM) count only when three in a row fall in the same step.
* Five ends of its own doing without a new published step pause the trainer, until a person starts it again. An end
  after the process has named a fault of the machine is none of them: it is tried again, ever more slowly.
* A job is left in one of four ways: completed, failed, cancelled (each after the training process has said so), or
  released because the agent stops. A lease that was lost is simply forgotten: the process is stopped, which saves.
* ``Finished`` wins over a cancel that was asked for too late.
* Under a standing order (pause, stop, quiet hours) the process saves and ends, so that its memory is free; the job that
  is held stays held, or is given back for a stop. What ends a job, or changes the line by a person's wish, is done all
  the same: the process is started for that alone. With nothing to do for long it ends, too, until a job comes.
* A restore is a job like those, but for its end: the training process publishes the copy and says ``Ready`` from it,
  and the broker, greeted with that head, ends the job. It is taken also while no training can be: when the broker
  refuses the head, or when nothing verifies (``NoLine``). If it fails, the line is what it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.trainer import reporting, wire
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
    PauseTrainer,
    PublishNow,
    ReleaseJob,
    ReportEffects,
    ReportFingerprint,
    ReportLostShard,
    ReportPublished,
    ShowProgress,
    ShowTrouble,
    StartProcess,
    StopProcess,
    TakeBack,
)
from services.trainer.ends import Ends
from services.trainer.phases import Phase, Wanted
from trainq.errors import ShardLostError
from trainq.service.work import Interruption


@dataclass(slots=True)
class Assignment:
    """The agent's state. Every method takes one event and returns the effects to perform, in order."""

    phase: Phase = Phase.ABSENT
    job: str = ""
    stopping: bool = False
    failure: str = ""
    generation: int = 0
    # The failure is the file's, and another attempt would end the same.
    _final: bool = False
    _greeted: bool = False
    # The line is new, and not published.
    _begun: bool = False
    # The last trouble that the process has named since it was ready, and whether it was the machine's.
    _trouble: str = ""
    _machine_fault: bool = False
    _ends: Ends = field(default_factory=Ends)
    _wanted: Wanted = Wanted.NOTHING
    # Why nothing may be trained, and why nothing more in this life; whether the broker may be asked all the same.
    _pause: str = ""
    _stop: str = ""
    _asks: bool = True
    # How many reports of effects have had no answer.
    _undecided: int = 0
    # The process ends, or has ended, because there was nothing to do.
    _dozes: bool = False
    # The job is a restore.
    _restores: bool = False
    _lineless: bool = False
    _ready_from: wire.Ready | None = None

    @property
    def wants_job(self) -> bool:
        """Whether the agent should ask for a lease."""
        if self.job or self.stopping or self._stop:
            return False
        # While it is paused, the broker grants what is to be ended, and no other job.
        at_work = self.phase is Phase.IDLE and self._greeted and not self._pause
        return self._asks if self.phase is Phase.DORMANT else at_work

    @property
    def wants_restore(self) -> bool:
        """Whether a restore could be done, whether or not the broker agrees with the head."""
        return (not self.job and not self.stopping and not self._stop
                and self.phase in (Phase.IDLE, Phase.LINELESS, Phase.DORMANT))

    @property
    def _rests(self) -> bool:
        """Whether the process is to be gone: a standing order says so, and nothing has to be done all the same."""
        has_to = self.job and (self._wanted or self.failure or self._restores)
        return bool(self._pause or self._stop) and not has_to

    def begin(self) -> list[AgentEffect]:
        """The agent is up: have a warm process before the first job comes, if there may be one."""
        if self._rests:
            self.phase = Phase.DORMANT
            return []
        return self._start()

    def controlled(self, *, pause: str, stop: str, asks: bool = True) -> list[AgentEffect]:
        """The standing orders as they are now; said again and again.

        Args:
            pause: why nothing may be trained; empty if it may be.
            stop: why nothing more is to be done in this life; empty if it may be.
            asks: whether the broker knows of them, so that it may be asked for what is to be done all the same.
        """
        self._pause, self._stop, self._asks = pause, stop, asks
        if self.stopping:
            return []
        if self._rests:
            if self.phase is Phase.DORMANT:
                return self._given_up(self._stop) if self._stop else []
            return self._stop_process() if self.phase is not Phase.RESTORING else []
        return self._start() if self.phase is Phase.DORMANT and (self.job or not self._dozes) else []

    def decided(self) -> None:
        """It is known whether the effects that were told of are in the journal, or refused."""
        self._undecided -= 1

    def idle_for_long(self) -> list[AgentEffect]:
        """There was nothing to do for long: give the memory of the model back."""
        if self.job or self.phase is not Phase.IDLE or not self._greeted:
            return []
        self._dozes = True
        return self._stop_process()

    def checkpoint_asked(self) -> list[AgentEffect] | None:
        """Somebody wants what there is of the job published: nothing, if none is trained. None: ask again later."""
        if self.job and self.phase is Phase.STARTING:
            return None
        return [PublishNow(job=self.job)] if self.job and self.phase is Phase.TRAINING else []

    def leased(self, job: str, *, cancel: bool = False, keep: bool = False, failure: str = "",
               best_step: int = 0) -> list[AgentEffect]:
        """A job was leased while the process was idle, or gone on purpose.

        Args:
            job: its id.
            cancel: it is to be left with none of its steps in the weights,
            keep: or with those that are done.
            failure: it is to be left in the same way, and failed for this reason.
            best_step: its highest published step, of all attempts.
        """
        self.job, self.failure = job, failure
        self._wanted = Wanted.NOTHING if not cancel else Wanted.KEEP if keep else Wanted.TAKE_BACK
        self._ends.begin_job(best_step)
        if self.phase is Phase.DORMANT:
            return [] if self._rests else self._start()
        return self._go()

    def leased_restore(self, job: str) -> list[AgentEffect]:
        """A restore was leased while the process was idle, or had no line."""
        self.job, self._restores, self._wanted, self.failure = job, True, Wanted.NOTHING, ""
        self._ends.begin_job()
        return self._start() if self.phase is Phase.DORMANT else self._begin_restore()

    def greeted(self, *, lost: bool) -> list[AgentEffect]:
        """The broker and the head agree. ``lost``: the job that was held is in the line again."""
        if self._begun:
            self._begun = False
            return [BeginLine()]  # it says Ready again, and that is greeted, too
        self._greeted = True
        if self._restores:
            self._forget_job()
            return [DropLease()]
        if lost and self.job:
            training = self.phase is Phase.TRAINING
            self.phase = Phase.IDLE if training else self.phase
            self._forget_job()
            return [ForgetJob(), *(self._stop_process() if training else [])]
        return self._go() if self.job and self.phase is Phase.IDLE and not self._rests else []

    def doubted(self) -> None:
        """The broker has decided otherwise over a job that is all in the head: no other one before they agree again."""
        self._greeted = False

    def interrupted(self, why: Interruption) -> list[AgentEffect]:
        """The broker or a signal wants the work ended; said again and again until it is."""
        if why is Interruption.STOPPING:
            return self.stop()
        if not self.job or self.phase is Phase.LEAVING:
            return []
        if why is Interruption.LOST:
            self._forget_job()
            return [ForgetJob(), *self._stop_process()]
        wanted = Wanted.KEEP if why is Interruption.KEEP and not self._restores else Wanted.TAKE_BACK
        if self._wanted in (wanted, Wanted.TAKE_BACK):
            return []  # what is on its way out cannot be kept
        if self.phase is Phase.DORMANT:
            self._wanted = wanted
            return self._start()
        if self.phase not in (Phase.TRAINING, Phase.RESTORING):
            return []
        self._wanted = wanted
        return [self._keep() if wanted is Wanted.KEEP else TakeBack(job=self.job)]

    def stop(self) -> list[AgentEffect]:
        """The agent is to end: save first."""
        if self.stopping:
            return []
        self.stopping = True
        if self.phase is Phase.DORMANT:
            self.phase = Phase.ABSENT
            return self._given_up("the trainer stops")
        return self._stop_process()

    def heard(self, message: wire.FromTraining) -> list[AgentEffect]:
        """The training process said something."""
        if isinstance(message, wire.Progress | wire.Published | wire.Finished | wire.Cancelled):
            self._ends.got_done()
        match message:
            case wire.Ready():
                return self._ready(message)
            case wire.NoLine():
                return self._no_line(message)
            case wire.OtherFingerprint() if message.job == self.job:
                return [ReportFingerprint(before=message.before, after=message.after)]
            case wire.Deciding() if message.job == self.job:
                self._undecided += 1
                return [ReportEffects(effects=message.effects, reason=message.reason)]
            case wire.Progress() | wire.Restoring() if message.job == self.job:
                self._ends.stands_at(message.job_step if isinstance(message, wire.Progress) else 0)
                return [ShowProgress(progress=reporting.progress(message))]
            case wire.Published():
                self._published(message)
                # A generation that takes an earlier job back is published under the lease of the present one.
                return [ReportPublished(published=message)] if self.job else []
            case wire.Finished() if message.job == self.job:
                return self._left(CompleteJob(result=reporting.result(message)))
            case wire.Cancelled() if message.job == self.job:
                return self._taken_back()
            case wire.Failed() if not message.job:
                self._note_trouble(message)
                return [ShowTrouble(reason=self._trouble)]
            case wire.Failed() if message.job == self.job:
                return self._failed(message)
            case _:
                return []  # about a job that is no longer held

    def ended(self, how: str, *, own: bool) -> list[AgentEffect]:
        """The training process ended: by its ``own`` doing (exit, exception, crash, hang), or from outside."""
        before, self.phase = self.phase, Phase.ABSENT
        self._greeted = False
        if self.stopping:
            return self._given_up("the trainer stops")
        how = f"{how}; {self._trouble}" if self._trouble else how
        excused, self._machine_fault, self._trouble = own and self._machine_fault, False, ""
        self._ends.note(own=own, excused=excused, starting=before is Phase.STARTING, leaving=before is Phase.LEAVING)
        if self.job and before is Phase.RESTORING:
            # It may have published before: that is known when the next process says from where it goes on.
            self.failure = self._ends.failure_in_restore(how, own=own)
        if self.job and before is Phase.TRAINING and not self.failure and not excused:
            self.failure = self._ends.failure_in_training(how, own=own)
        if self._ends.too_many:
            reason = f"{self._ends.too_many} (last: {how})"
            self.phase = Phase.PAUSED
            return [*self._given_up(reason, system_fault=True), PauseTrainer(reason=reason)]
        if before is Phase.LEAVING and (self._rests or self._dozes):
            self.phase = Phase.DORMANT
            return self._given_up(self._stop) if self._stop else []
        self.phase = Phase.STARTING
        given_back = []
        if self._ends.starts_fail:
            given_back = self._given_up(f"the training process ends before it is ready ({how})", system_fault=True)
        pause = self._ends.pause_seconds
        trouble = ShowTrouble(reason=f"the training process ended, and is started again in {pause:.0f} s ({how})")
        return [*given_back, *([trouble] if pause else []), StartProcess(after_seconds=pause)]

    def _start(self) -> list[AgentEffect]:
        self.phase, self._dozes = Phase.STARTING, False
        return [StartProcess()]

    def _given_up(self, reason: str, *, system_fault: bool = False) -> list[AgentEffect]:
        """The job that is held is given back, with what is saved of it."""
        if not self.job:
            return []
        self._forget_job()
        return [ReleaseJob(reason=reason, system_fault=system_fault)]

    def _taken_back(self) -> list[AgentEffect]:
        if self._restores and self.phase is Phase.IDLE:
            return []  # too late: it is published, and the broker is about to hear of it
        if not self.failure:
            return self._left(AcknowledgeCancel())
        return self._left(FailJob(reason=self.failure, counts=not self._ends.has_progressed, final=self._final))

    def _ready(self, ready: wire.Ready) -> list[AgentEffect]:
        before, self.generation = self.generation, ready.generation
        self._ends.is_up()
        self._begun, self._lineless, self._ready_from, self._greeted = ready.begun, False, ready, False
        self._machine_fault, self._trouble = False, ""
        if self.phase is Phase.LEAVING:
            return [StopProcess()]  # it was told before there was anybody to hear it
        if self._restores and ready.made_by != self.job:
            return self._not_restored()
        self.phase = Phase.IDLE
        if ready.job == self.job:
            self._ends.stands_at(ready.job_step)
        # A head that is older than what was published before lacks what other jobs taught: the broker decides first.
        # And while nobody knows whether effects are in the journal, no process may pass their steps without them.
        goes_on = (self.job and not self._restores and ready.generation >= before and not ready.begun
                   and not self._undecided)
        return [Greet(ready=ready), *(self._go() if goes_on else [])]

    def _no_line(self, message: wire.NoLine) -> list[AgentEffect]:
        self._ends.is_up()
        self._lineless, self._ready_from = True, None
        if self.phase is Phase.LEAVING:
            return [StopProcess()]
        if self._restores:
            return self._not_restored()
        self.phase = Phase.LINELESS
        return [*self._given_up(message.reason, system_fault=True), ShowTrouble(reason=message.reason)]

    def _not_restored(self) -> list[AgentEffect]:
        """The process has another line than the one that it was to publish, or none."""
        if self.phase is Phase.RESTORING and not self.failure:  # it has not ended since: it did publish
            self.failure = "what it has published does not verify"
        # Else the process ended before it had published anything.
        return self._left(FailJob(reason=self.failure)) if self.failure else self._begin_restore()

    def _begin_restore(self) -> list[AgentEffect]:
        self.phase = Phase.RESTORING
        return [BeginRestore()]

    def _published(self, message: wire.Published) -> None:
        self.generation = message.generation
        if message.job == self.job:
            self._ends.published(message.job_step, done=message.done)

    def _go(self) -> list[AgentEffect]:
        self.phase = Phase.TRAINING
        self._machine_fault, self._trouble = False, ""
        # A failed or cancelled job may have steps in a published generation: they are taken back first.
        if self.failure or self._wanted is Wanted.TAKE_BACK:
            return [TakeBack(job=self.job)]
        return [BeginTraining(), *([self._keep()] if self._wanted is Wanted.KEEP else [])]

    def _keep(self) -> AgentEffect:
        return KeepSteps(job=self.job, step=self._ends.furthest_step)

    def _failed(self, message: wire.Failed) -> list[AgentEffect]:
        if self._restores:
            self._note_trouble(message)
            return self._left(FailJob(reason=self._trouble))
        if message.code == ShardLostError.code:
            return self._left(ReportLostShard(reason=message.reason))
        self._note_trouble(message)
        if message.system:
            return self._left(ReleaseJob(reason=self._trouble, system_fault=True))
        self.failure, self._final = self._trouble, message.final
        return [TakeBack(job=self.job)]

    def _note_trouble(self, message: wire.Failed) -> None:
        self._trouble, self._machine_fault = f"{message.code}: {message.reason}", message.system

    def _left(self, effect: AgentEffect) -> list[AgentEffect]:
        restored = self._restores
        self._forget_job()
        if restored or self.phase in (Phase.TRAINING, Phase.RESTORING):
            self.phase = Phase.LINELESS if self._lineless else Phase.IDLE
        if restored and not self._greeted and self._ready_from is not None:
            return [effect, Greet(ready=self._ready_from)]  # which was put off for the restore
        return [effect]

    def _forget_job(self) -> None:
        self.job, self.failure, self._wanted, self._restores = "", "", Wanted.NOTHING, False
        self._final = False

    def _stop_process(self) -> list[AgentEffect]:
        if self.phase in (Phase.ABSENT, Phase.LEAVING, Phase.DORMANT, Phase.PAUSED):
            return []
        self.phase = Phase.LEAVING
        return [StopProcess()]
