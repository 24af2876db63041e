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
* A restore is a job like those, but for its end: the training process publishes the copy and says ``Ready`` from it,
  and the broker, greeted with that head, ends the job. It is taken also while no training can be: when the broker
  refuses the head, or when nothing verifies (``NoLine``). If it fails, the line is what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.trainer import wire
from services.trainer.effects import (
    AcknowledgeCancel,
    BeginLine,
    BeginRestore,
    BeginTraining,
    CompleteJob,
    DropLease,
    Effect,
    FailJob,
    ForgetJob,
    Greet,
    PauseTrainer,
    ReleaseJob,
    ReportFingerprint,
    ReportLostShard,
    ReportPublished,
    ShowProgress,
    ShowTrouble,
    StartProcess,
    StopProcess,
    TakeBack,
)
from trainq.errors import ShardLostError
from trainq.messages import Progress, TrainResult
from trainq.service.work import Interruption

# So many in a row, in the same step, are no accident.
MAX_OUTSIDE_ENDS_IN_ONE_STEP = 3
# After so many starts that failed the job that waits is given back, so that people see what holds the queue.
MAX_FAILED_STARTS = 3
MAX_OWN_ENDS = 5
MAX_START_PAUSE_SECONDS = 60.0


class Phase(StrEnum):
    """What the training process is doing, as far as the agent knows."""

    ABSENT = "absent"
    STARTING = "starting"
    IDLE = "idle"
    # Nothing verifies; a restore may bring a line back.
    LINELESS = "lineless"
    TRAINING = "training"
    RESTORING = "restoring"
    LEAVING = "leaving"
    PAUSED = "paused"


@dataclass(slots=True)
class Assignment:
    """The agent's state. Every method takes one event and returns the effects to perform, in order."""

    phase: Phase = Phase.ABSENT
    job: str = ""
    stopping: bool = False
    failure: str = ""
    generation: int = 0
    _greeted: bool = False
    # The line is new, and not published.
    _begun: bool = False
    # The last trouble that the process has named since it was ready, and whether it was the machine's.
    _trouble: str = ""
    _machine_fault: bool = False
    _own_ends: int = 0
    # Ends after a fault of the machine, since anything was last got done.
    _excused_ends: int = 0
    _failed_starts: int = 0
    _cancelling: bool = False
    # The job is a restore.
    _restores: bool = False
    _lineless: bool = False
    _ready_from: wire.Ready | None = None
    # Of the job: its highest published step, that step when the attempt began, and the last step done.
    _best_step: int = 0
    _best_step_before: int = 0
    _step: int = 0
    # Ends from outside: how many in a row fell in the step.
    _outside_ends: int = 0
    _outside_step: int = -1

    @property
    def wants_job(self) -> bool:
        """Whether the agent should ask for a lease."""
        return not self.job and not self.stopping and self.phase is Phase.IDLE and self._greeted

    @property
    def wants_restore(self) -> bool:
        """Whether a restore could be done, whether or not the broker agrees with the head."""
        return not self.job and not self.stopping and self.phase in (Phase.IDLE, Phase.LINELESS)

    def begin(self) -> list[Effect]:
        """The agent is up: have a warm process before the first job comes."""
        self.phase = Phase.STARTING
        return [StartProcess()]

    def leased(self, job: str, *, cancel: bool = False, failure: str = "", best_step: int = 0) -> list[Effect]:
        """A job was leased while the process was idle.

        Args:
            job: its id.
            cancel: it is to be left with none of its steps in the weights.
            failure: it is to be left in the same way, and failed for this reason.
            best_step: its highest published step, of all attempts.
        """
        self.job, self._cancelling, self.failure = job, cancel, failure
        self._best_step = self._best_step_before = best_step
        self._step, self._outside_ends, self._outside_step = 0, 0, -1
        return self._go()

    def leased_restore(self, job: str) -> list[Effect]:
        """A restore was leased while the process was idle, or had no line."""
        self.job, self._restores, self._cancelling, self.failure = job, True, False, ""
        self._outside_ends = 0
        return self._begin_restore()

    def greeted(self, *, lost: bool) -> list[Effect]:
        """The broker and the head agree. ``lost``: the job that was held is in the line again."""
        if self._begun:
            self._begun = False
            return [BeginLine()]  # it says Ready again, and that is greeted, too
        self._greeted = True
        if self._restores:
            self._forget_job()
            return [DropLease()]
        if lost and self.job:
            training, self.phase = self.phase is Phase.TRAINING, Phase.IDLE
            self._forget_job()
            return [ForgetJob(), *(self._stop_process() if training else [])]
        return self._go() if self.job and self.phase is Phase.IDLE else []

    def doubted(self) -> None:
        """The broker has decided otherwise over a job that is all in the head: no other one before they agree again."""
        self._greeted = False

    def interrupted(self, why: Interruption) -> list[Effect]:
        """The broker or a signal wants the work ended; said again and again until it is."""
        if why is Interruption.STOPPING:
            return self.stop()
        if not self.job or self.phase is Phase.LEAVING:
            return []
        if why is Interruption.LOST:
            self._forget_job()
            return [ForgetJob(), *self._stop_process()]
        if self._cancelling or self.phase not in (Phase.TRAINING, Phase.RESTORING):
            return []
        self._cancelling = True
        return [TakeBack(job=self.job)]

    def stop(self) -> list[Effect]:
        """The agent is to end: save first."""
        if self.stopping:
            return []
        self.stopping = True
        return self._stop_process()

    def heard(self, message: wire.FromTraining) -> list[Effect]:
        """The training process said something."""
        if isinstance(message, wire.Progress | wire.Published | wire.Finished | wire.Cancelled):
            self._excused_ends = 0
        match message:
            case wire.Ready():
                return self._ready(message)
            case wire.NoLine():
                return self._no_line(message)
            case wire.OtherFingerprint() if message.job == self.job:
                return [ReportFingerprint(before=message.before, after=message.after)]
            case wire.Progress() | wire.Restoring() if message.job == self.job:
                self._step = message.job_step if isinstance(message, wire.Progress) else 0
                return [ShowProgress(progress=_shown(message))]
            case wire.Published():
                self._published(message)
                # A generation that takes an earlier job back is published under the lease of the present one.
                return [ReportPublished(published=message)] if self.job else []
            case wire.Finished() if message.job == self.job:
                return self._left(CompleteJob(result=TrainResult(
                    steps_done=message.steps_done, steps_planned=message.steps_planned,
                    global_step=message.global_step, generation=message.generation, checkpoint=message.checkpoint,
                    first_loss=message.first_loss, last_loss=message.last_loss)))
            case wire.Cancelled() if message.job == self.job:
                return self._taken_back()
            case wire.Failed() if not message.job:
                self._note_trouble(message)
                return [ShowTrouble(reason=self._trouble)]
            case wire.Failed() if message.job == self.job:
                return self._failed(message)
            case _:
                return []  # about a job that is no longer held

    def ended(self, how: str, *, own: bool) -> list[Effect]:
        """The training process ended: by its ``own`` doing (exit, exception, crash, hang), or from outside."""
        before, self.phase = self.phase, Phase.ABSENT
        self._greeted = False
        if self.stopping:
            job = self.job
            self._forget_job()
            return [ReleaseJob(reason="the trainer stops")] if job else []
        how = f"{how}; {self._trouble}" if self._trouble else how
        excused, self._machine_fault, self._trouble = own and self._machine_fault, False, ""
        self._own_ends += own and not excused and before is not Phase.LEAVING
        self._excused_ends += excused
        self._failed_starts = self._failed_starts + own if before is Phase.STARTING else 0
        if self.job and before is Phase.RESTORING:
            self._note_end_of_restore(how, own=own)
        if self.job and before is Phase.TRAINING and not self.failure and not excused:
            self.failure = self._own_failure(how) if own else self._outside_failure(how)
        if self._own_ends >= MAX_OWN_ENDS:
            reason = f"the training process ended {self._own_ends} times by itself without a new step (last: {how})"
            self.phase = Phase.PAUSED
            return [*self._given_back(reason), PauseTrainer(reason=reason)]
        self.phase = Phase.STARTING
        given_back = []
        if self._failed_starts >= MAX_FAILED_STARTS:
            given_back = self._given_back(f"the training process ends before it is ready ({how})")
        pause = min(MAX_START_PAUSE_SECONDS, 2.0**min(max(self._failed_starts, self._excused_ends), 10) - 1)
        trouble = ShowTrouble(reason=f"the training process ended, and is started again in {pause:.0f} s ({how})")
        return [*given_back, *([trouble] if pause else []), StartProcess(after_seconds=pause)]

    def _taken_back(self) -> list[Effect]:
        if self._restores and self.phase is Phase.IDLE:
            return []  # too late: it is published, and the broker is about to hear of it
        if not self.failure:
            return self._left(AcknowledgeCancel())
        return self._left(FailJob(reason=self.failure, counts=self._best_step <= self._best_step_before))

    def _note_end_of_restore(self, how: str, *, own: bool) -> None:
        """The process ended in a restore. By its own doing, it would so again; from outside, it is begun again.

        It may have published before: that is known when the next process says from where it goes on.
        """
        self._outside_ends += 1
        if own or self._outside_ends >= MAX_OUTSIDE_ENDS_IN_ONE_STEP:
            self.failure = f"its training process ended in the middle ({how})"

    def _own_failure(self, how: str) -> str:
        if self._best_step > self._best_step_before:
            self._best_step_before = self._best_step  # it got further; from here on it must again
            return ""
        return f"its training process ended by itself in step {self._step + 1} ({how})"

    def _outside_failure(self, how: str) -> str:
        same = self._step == self._outside_step
        self._outside_ends, self._outside_step = self._outside_ends + 1 if same else 1, self._step
        if self._outside_ends < MAX_OUTSIDE_ENDS_IN_ONE_STEP:
            return ""
        return f"its training process was ended {self._outside_ends} times in a row in step {self._step + 1} ({how})"

    def _given_back(self, reason: str) -> list[Effect]:
        if not self.job:
            return []
        self._forget_job()
        return [ReleaseJob(reason=reason, system_fault=True)]

    def _ready(self, ready: wire.Ready) -> list[Effect]:
        before, self.generation = self.generation, ready.generation
        self._failed_starts = 0
        self._begun, self._lineless, self._ready_from, self._greeted = ready.begun, False, ready, False
        self._machine_fault, self._trouble = False, ""
        if self.phase is Phase.LEAVING:
            return [StopProcess()]  # it was told before there was anybody to hear it
        if self._restores and ready.made_by != self.job:
            return self._not_restored()
        self.phase = Phase.IDLE
        if ready.job == self.job:
            self._step = ready.job_step
        # A head that is older than what was published before lacks what other jobs taught: the broker decides first.
        goes_on = self.job and not self._restores and ready.generation >= before and not ready.begun
        return [Greet(ready=ready), *(self._go() if goes_on else [])]

    def _no_line(self, message: wire.NoLine) -> list[Effect]:
        self._failed_starts, self._lineless, self._ready_from = 0, True, None
        if self.phase is Phase.LEAVING:
            return [StopProcess()]
        if self._restores:
            return self._not_restored()
        self.phase = Phase.LINELESS
        return [*self._given_back(message.reason), ShowTrouble(reason=message.reason)]

    def _not_restored(self) -> list[Effect]:
        """The process has another line than the one that it was to publish, or none."""
        if self.phase is Phase.RESTORING and not self.failure:  # it has not ended since: it did publish
            self.failure = "what it has published does not verify"
        # Else the process ended before it had published anything.
        return self._left(FailJob(reason=self.failure)) if self.failure else self._begin_restore()

    def _begin_restore(self) -> list[Effect]:
        self.phase = Phase.RESTORING
        return [BeginRestore()]

    def _published(self, message: wire.Published) -> None:
        self.generation = message.generation
        if message.job == self.job and (message.job_step > self._best_step or message.done):
            self._best_step, self._own_ends = max(self._best_step, message.job_step), 0

    def _go(self) -> list[Effect]:
        self.phase = Phase.TRAINING
        self._machine_fault, self._trouble = False, ""
        # A failed or cancelled job may have steps in a published generation: they are taken back first.
        return [TakeBack(job=self.job)] if self.failure or self._cancelling else [BeginTraining()]

    def _failed(self, message: wire.Failed) -> list[Effect]:
        if self._restores:
            self._note_trouble(message)
            return self._left(FailJob(reason=self._trouble))
        if message.code == ShardLostError.code:
            return self._left(ReportLostShard(reason=message.reason))
        self._note_trouble(message)
        if message.system:
            return self._left(ReleaseJob(reason=self._trouble, system_fault=True))
        self.failure = self._trouble
        return [TakeBack(job=self.job)]

    def _note_trouble(self, message: wire.Failed) -> None:
        self._trouble, self._machine_fault = f"{message.code}: {message.reason}", message.system

    def _left(self, effect: Effect) -> list[Effect]:
        restored = self._restores
        self._forget_job()
        if restored or self.phase in (Phase.TRAINING, Phase.RESTORING):
            self.phase = Phase.LINELESS if self._lineless else Phase.IDLE
        if restored and not self._greeted and self._ready_from is not None:
            return [effect, Greet(ready=self._ready_from)]  # which was put off for the restore
        return [effect]

    def _forget_job(self) -> None:
        self.job, self.failure, self._cancelling, self._restores = "", "", False, False

    def _stop_process(self) -> list[Effect]:
        if self.phase in (Phase.ABSENT, Phase.LEAVING, Phase.PAUSED):
            return []
        self.phase = Phase.LEAVING
        return [StopProcess()]


def _shown(message: wire.Progress | wire.Restoring) -> Progress:
    if isinstance(message, wire.Restoring):
        return Progress(step=message.done_bytes, steps=message.total_bytes, unit="bytes")
    left = message.steps_planned - message.job_step
    per_step = message.elapsed_seconds / message.steps_this_run if message.steps_this_run else None
    return Progress(
        step=message.job_step, steps=message.steps_planned, unit="steps", global_step=message.global_step,
        loss=message.loss, learning_rate=message.learning_rate, tokens_per_second=message.tokens_per_second,
        seconds_left=None if per_step is None else round(left * per_step, 1))
