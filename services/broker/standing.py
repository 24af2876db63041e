"""Standing orders: pause, drain, stop, yield and quiet hours; what the trainer is told, and why nothing is granted.

Each of them holds by itself, whatever the others say, so that they may come in any order: paused or in quiet hours,
nothing is trained; drained, nothing new is begun; stopped, this life of the trainer does nothing. A resume ends all but
the quiet hours. What is ordered is in the journal and outlives the broker; a yield's end is told by the monotonic
clock while one broker lives, and by the wall clock over its restarts.
"""

from __future__ import annotations

import math
from datetime import datetime

from services.broker.recording import Recorder
from services.broker.roster import Roster
from trainq import messages
from trainq.clock import Clock
from trainq.config import Settings
from trainq.config.quiet import parse, quiet_until
from trainq.config.schedules import zone
from trainq.errors import UsageError
from trainq.jobs import (
    AnyEvent,
    CheckpointRequested,
    JobKind,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    TrainerStopped,
)
from trainq.journal import LineRow, Queries
from trainq.messages import Done, Heartbeat

TRAINER = "trainer"
REQUESTS = (messages.PauseQueue, messages.DrainQueue, messages.ResumeQueue, messages.StopTrainer,
            messages.AskCheckpoint)


class StandingOrders:
    """Runs inside the desk's transaction, and for those who only look."""

    def __init__(self, queries: Queries, recorder: Recorder, roster: Roster, settings: Settings, clock: Clock) -> None:
        self._queries = queries
        self._recorder = recorder
        self._roster = roster
        self._clock = clock
        self._quiet = [parse(text) for text in settings.trainer.quiet_hours]
        self._zone = zone(settings.schedule)
        self._resume_at: float | None = None
        self._lease_seconds = settings.broker.lease_seconds
        line = queries.line()
        if line.paused_until:
            self._resume_at = clock.monotonic() + min(
                messages.MAX_YIELD_SECONDS, max(0.0, line.paused_until - clock.wall()))

    @property
    def due(self) -> float | None:
        """When :meth:`tick` has something to do, in monotonic seconds."""
        return self._resume_at

    def tick(self) -> None:
        """End a yield whose time is over."""
        if self._resume_at is not None and self._clock.monotonic() >= self._resume_at:
            self._recorder.append(QueueResumed(after_yield=True))

    def postpone(self, until: float) -> None:
        """What was due could not be recorded: not before ``until``, in monotonic seconds."""
        if self._resume_at is not None:
            self._resume_at = max(self._resume_at, until)

    def committed(self, event: AnyEvent) -> None:
        """This event is on disk: let the memory follow."""
        if isinstance(event, QueuePaused):
            self._resume_at = self._clock.monotonic() + event.seconds if event.seconds else None
        elif isinstance(event, QueueResumed):
            self._resume_at = None

    def answer(self, request: messages.AnyRequest) -> Done:
        """Record what one of :data:`REQUESTS` changes.

        Raises:
            UsageError: there is no trainer to stop.
        """
        line = self._queries.line()
        match request:
            case messages.PauseQueue():
                # The longer one holds, whichever comes first; the longest is until further notice.
                until = self._clock.wall() + request.seconds if request.seconds else math.inf
                is_so = line.paused_reason is not None and until <= (line.paused_until or math.inf)
                return self._record(None if is_so else QueuePaused(reason=request.reason, seconds=request.seconds))
            case messages.DrainQueue():
                return self._record(None if line.drained_reason is not None else QueueDrained(reason=request.reason))
            case messages.StopTrainer():
                return self._stop(line, request.reason)
            case messages.AskCheckpoint():
                training = any(row.kind is JobKind.TRAIN for row in self._queries.running())
                # What is paused was saved for it.
                return self._record(CheckpointRequested() if training and not self.why_paused() else None)
            case messages.ResumeQueue():
                ordered = line.paused_reason is not None or line.drained_reason is not None or line.stopped_session
                return self._record(QueueResumed() if ordered else None)
            case _:
                raise UsageError(f"{type(request).__name__} is no order")

    def reply(self, beat: Heartbeat) -> tuple[str, str, int]:
        """What the trainer is told with each heartbeat: why to pause, why to stop, and the checkpoint asked for."""
        if beat.service != TRAINER:
            return "", "", 0
        line = self._queries.line()
        stop = line.stopped_reason or "stopped" if line.stopped_session == beat.session else ""
        return self.why_paused(), stop, line.checkpoint_asked

    def why_paused(self) -> str:
        """Why nothing is trained now; empty if it may be."""
        line = self._queries.line()
        if line.paused_reason is not None:
            until = f" (until {self._moment(line.paused_until)})" if line.paused_until else ""
            return f"the queue is paused: {line.paused_reason}{until}"
        now = self._clock.wall()
        quiet = quiet_until(self._quiet, datetime.fromtimestamp(now, self._zone)) if self._quiet else None
        return f"quiet hours until {self._moment(quiet.timestamp())}" if quiet is not None else ""

    def why_stopped(self) -> str:
        """Why the trainer that was last heard of does no more; empty if it may."""
        line = self._queries.line()
        if not line.stopped_session or line.stopped_session != self._roster.session_of(TRAINER):
            return ""
        return (f"the trainer is stopped: {line.stopped_reason}; trainq resume, or supervisorctl restart trainer, has "
                "it go on")

    def why_nothing_new(self, *, half_done: bool = False) -> str:
        """Why no train job is granted by a standing order; empty if one may be.

        ``half_done``: one that was given back in the middle, which a drain lets go on to its end.
        """
        line = self._queries.line()
        if stopped := self.why_stopped():
            return stopped
        if line.paused_reason is None and line.drained_reason is not None and not half_done:
            return f"the queue is drained: {line.drained_reason}"
        return self.why_paused()

    def _stop(self, line: LineRow, reason: str) -> Done:
        session = self._roster.session_of(TRAINER)
        heard = self._roster.is_heard(TRAINER, self._clock.monotonic(), self._lease_seconds)
        if not session or not heard:
            raise UsageError("no trainer has been heard of lately", mend="supervisorctl status trainer")
        return self._record(None if line.stopped_session == session
                            else TrainerStopped(session=session, reason=reason))

    def _record(self, event: AnyEvent | None) -> Done:
        return self._recorder.record(*([event] if event is not None else []))

    def _moment(self, wall: float) -> str:
        return f"{datetime.fromtimestamp(wall, self._zone):%Y-%m-%d %H:%M}"
