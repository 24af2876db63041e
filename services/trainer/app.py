"""The trainer's agent: holds the lease, keeps it alive, and tells the training process what to do.

It has no torch and does no work of its own: the training process is forked from a preloaded fork server and talks
over a socket pair, so that a crash costs a fork and a model load, and a hang is seen from outside. Whether a file is
trained is derived from the published checkpoint alone; the agent only reports. What it decides is in ``assignment``;
this module performs it. What the broker must hear waits in an outbox, so that a missing broker stops no training.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.trainer import assignment, wire
from services.trainer.assignment import Assignment, Effect, Phase
from services.trainer.child import ChildExited, TrainingChild
from services.trainer.forking import Arguments
from trainq.errors import BrokerUnavailableError, StorageError, StorageFullError, TrainqError
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import Done, Lifecycle, ReportCheckpoint
from trainq.service import HeldLease, Peer, Process, take_lease

IDLE_SECONDS = 1.0
SHOW_SECONDS = 1.0
# Shorter than stopwaitsecs in supervisord.conf, so that the agent is still there to see a slow save end.
SAVE_SECONDS = 150.0
# After a fault of the machine, not of a file: wait before anything is tried again.
SYSTEM_FAULT_SECONDS = 30.0


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
            seed=settings.train.seed, log=str(process.home.logs / "training-process.log")))
        self._assignment = Assignment()
        self._held: HeldLease | None = None
        self._outbox: deque[Callable[[], None]] = deque()
        self._watched: list[int] = []
        self._not_before = 0.0
        self._start_at: float | None = None
        self._next_show = 0.0

    def close(self) -> None:
        """Save, hand back, say goodbye; within the time that supervisord gives."""
        process = self._process
        process.set_state(Lifecycle.SHUTTING_DOWN, "saving")
        deadline = process.clock.monotonic() + SAVE_SECONDS
        self._perform(self._assignment.stop())
        if self._start_at is not None:  # a start that waits for its time is none
            self._start_at = None
            self._perform(self._assignment.ended("it was not started"))
        while self._assignment.phase is not Phase.ABSENT and process.clock.monotonic() < deadline:
            self._listen()
            self._keep()
            self._watch()
            process.linger(0.2)
        self._child.close()
        with_broker_until = process.clock.monotonic() + 5.0
        while self._outbox and process.clock.monotonic() < with_broker_until:
            self._report()
        process.set_state(Lifecycle.STOPPED)
        self._peer.close()

    def turn(self) -> None:
        """One round: hear the training process, tell the broker, ask for work, wait."""
        if self._assignment.phase is Phase.ABSENT and not self._assignment.stopping:
            self._perform(self._assignment.begin())
        self._start_if_due()
        self._listen()
        self._report()
        self._keep()
        if self._assignment.wants_job and not self._outbox and self._process.clock.monotonic() >= self._not_before:
            self._ask_for_work()
        self._watch()
        self._peer.wait(IDLE_SECONDS)

    def _ask_for_work(self) -> None:
        held, reason = take_lease(self._peer, (JobKind.TRAIN,), patient=False)
        self._process.set_state(Lifecycle.RUNNING, reason)
        if held is not None:
            self._held = held
            self._perform(self._assignment.leased(held.lease.job, cancel=held.lease.cancel,
                                                  known_generation=held.lease.generation))

    def _start_if_due(self) -> None:
        if self._start_at is not None and self._process.clock.monotonic() >= self._start_at:
            self._start_at = None
            self._process.log.info("training_process_starts")
            try:
                self._child.start()
            except OSError as error:  # no memory, no descriptor, no process: all may pass
                self._perform(self._assignment.ended(f"it could not be started: {error}"))

    def _listen(self) -> None:
        for message in self._child.receive():
            if isinstance(message, ChildExited):
                self._process.log.warning("training_process_ended", how=message.how, job=self._assignment.job)
                self._perform(self._assignment.ended(message.how))
                continue
            if not isinstance(message, wire.Progress):
                self._process.log.info("training_process_says", message=type(message).__name__, said=message)
            if isinstance(message, wire.Ready):
                self._process.set_state(Lifecycle.RUNNING)
            self._perform(self._assignment.heard(message))

    def _keep(self) -> None:
        if self._held is None:
            self._peer.beat()
            return
        self._held.keep()
        why = self._held.interruption()
        if why is not None and not self._process.stopping:
            self._perform(self._assignment.interrupted(why))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case assignment.StartProcess():
                self._start_at = self._process.clock.monotonic() + effect.after_seconds
                self._start_if_due()
            case assignment.ShowTrouble():
                self._process.set_state(Lifecycle.ERROR, effect.reason)
            case assignment.StopProcess():
                self._child.send(wire.Stop())
            case assignment.TakeBack():
                self._child.send(wire.Cancel(job=effect.job))
            case _ if self._held is not None:
                self._perform_on_job(effect, self._held)
            case _:
                raise TrainqError(f"{effect} without a job")

    def _perform_on_job(self, effect: Effect, held: HeldLease) -> None:
        match effect:
            case assignment.BeginTraining():
                self._child.send(self._train_message(held))
            case assignment.ShowProgress():
                held.progress = effect.progress
                self._show_soon()
            case assignment.ReportPublished():
                self._outbox.append(lambda: self._report_published(held, effect.published))
            case assignment.CompleteJob():
                self._end(lambda: held.complete(effect.result))
            case assignment.FailJob():
                self._end(lambda: held.fail(effect.reason))
            case assignment.ReportLostShard():
                self._end(lambda: held.lose_shard(effect.reason))
            case assignment.AcknowledgeCancel():
                self._end(held.acknowledge_cancel)
            case assignment.ReleaseJob():
                if effect.system_fault:
                    self._process.set_state(Lifecycle.ERROR, effect.reason)
                    self._not_before = self._process.clock.monotonic() + SYSTEM_FAULT_SECONDS
                self._end(lambda: held.release(effect.reason))
            case assignment.ForgetJob():
                self._process.log.warning("lease_lost", job=held.lease.job)
                self._held = None

    def _show_soon(self) -> None:
        """People who follow a job see it move: the heartbeat goes out early, though not with every step."""
        now = self._process.clock.monotonic()
        if now >= self._next_show:
            self._next_show = now + SHOW_SECONDS
            self._peer.beat_soon()

    def _end(self, report: Callable[[], bool]) -> None:
        """The job is over on this side; the lease is held on to until the broker has heard of it."""

        def ended() -> None:
            report()
            self._held = None

        self._outbox.append(ended)

    def _report(self) -> None:
        """Tell the broker what waits in the outbox, in order; what it does not hear stays."""
        while self._outbox:
            try:
                self._outbox[0]()
            except (BrokerUnavailableError, StorageError, StorageFullError) as error:
                self._process.log.warning("broker_does_not_take_it", error=str(error), waiting=len(self._outbox))
                return
            self._outbox.popleft()

    def _report_published(self, held: HeldLease, published: wire.Published) -> None:
        own = published.job == held.lease.job
        report = ReportCheckpoint(
            request_id=new_request_id(), job=held.lease.job, token=held.lease.token, generation=published.generation,
            name=published.name, step=published.step, job_step=published.job_step if own else 0,
            done=published.done and own, reason=published.reason)
        try:
            self._peer.client.call(report, Done, timeout_seconds=2.0)
        except (BrokerUnavailableError, StorageError, StorageFullError):
            raise
        except TrainqError as error:
            self._process.log.warning("checkpoint_report_refused", name=published.name, error=str(error))

    def _train_message(self, held: HeldLease) -> wire.Train:
        lease = held.lease
        return wire.Train(job=lease.job, token=lease.token, shard=str(self._process.home.cache / lease.shard),
                          shard_digest=lease.shard_digest, settings=lease.spec.train, journal_seq=lease.seq)

    def _watch(self) -> None:
        """Have the poller wake for the training process of now."""
        now = self._child.descriptors()
        for descriptor in set(self._watched) - set(now):
            self._process.poller.forget_descriptor(descriptor)
        for descriptor in set(now) - set(self._watched):
            self._process.poller.watch_descriptor(descriptor)
        self._watched = now


def serve(process: Process) -> None:
    """Run the agent until it is told to stop."""
    agent = Agent(process)
    try:
        process.loop(agent.turn)
    finally:
        agent.close()
