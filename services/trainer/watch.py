"""The watch over the training process: when a step has been missing for too long. Pure: ``now`` comes in as a number.

A step may take ten times the slowest recent one, and never less than two minutes are allowed (both are settings): a
long row, a busy machine or a slow disk is no hang, while a lost GPU or a dead lock stays for ever. Nothing is expected
of a process that has no job. A checkpoint that is written beside the steps has an allowance of its own, and changes
nothing about the step that is expected.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from services.trainer import wire
from trainq.config import TrainerSettings

# Enough to have seen a checkpoint and the longest rows among them.
RECENT_STEPS = 200
# The slowest disk that a checkpoint is expected to go to.
SAVE_BYTES_PER_SECOND = 10e6
_STEP = "a step is missing"


@dataclass(slots=True)
class Watch:
    """What is expected next, since when, and how long it may take. All times are monotonic seconds."""

    settings: TrainerSettings
    _since: float | None = None
    _what: str = ""
    _allowed_seconds: float = 0.0
    # Until when a checkpoint that is written beside the steps must be done, and what it was allowed. That it is on the
    # disk is told at the next step boundary: it is late once a step began after that time and ended without a word.
    _beside_until: float | None = None
    _beside_seconds: float = 0.0
    _steps_ended_late: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    def heard(self, now: float, message: wire.FromTraining) -> None:
        """The training process has said this: what comes next?"""
        match message:
            case wire.Progress():
                self.stepped(now)
            case wire.Saving(waits=False):
                self.expect_save_beside(now, message.size_bytes)
            case wire.Saving():
                # What was being written beside the steps is waited for first, and need not have come to anything.
                self._beside_until = None
                self.expect_save(now, message.size_bytes)
            case wire.Published():
                self.saved(now)
            # A step comes only after the broker has recorded what is waited for, whenever it is there.
            case wire.OtherFingerprint() | wire.Deciding():
                self.expect_answer()
            case wire.Ready() | wire.NoLine() | wire.Finished() | wire.Cancelled() | wire.Failed():
                self.expect_nothing()

    def expect_start(self, now: float) -> None:
        """The process was forked: it loads the model."""
        self._since, self._what, self._allowed_seconds = now, "the model is being loaded", self.settings.start_seconds

    def expect_job(self, now: float, size_bytes: int) -> None:
        """It begins a job: reads and proves so many bytes (the shard; checkpoints, if another job is taken back)."""
        self.expect_save(now, size_bytes)
        self._what = "the first step is missing"

    def expect_step(self, now: float) -> None:
        """It may go on, or has just done a step."""
        slowest = self.slowest_step_seconds
        self._since, self._what = now, _STEP
        self._allowed_seconds = max(self.settings.hang_seconds, self.settings.hang_factor * slowest)

    def stepped(self, now: float) -> None:
        """A step is done."""
        if self._beside_until is not None and now > self._beside_until:
            self._steps_ended_late += 1
        # The first one of a job took what came before it as well, which says nothing of a step.
        if self._since is not None and self._what == _STEP:
            self._recent.append(now - self._since)
        self.expect_step(now)

    def expect_save(self, now: float, size_bytes: int) -> None:
        """It writes a checkpoint of about this size before it goes on."""
        self.expect_step(now)
        self._what = "a checkpoint is being written"
        self._allowed_seconds += size_bytes / SAVE_BYTES_PER_SECOND

    def expect_save_beside(self, now: float, size_bytes: int) -> None:
        """It writes a checkpoint of about this size while it goes on with its steps."""
        # A writer beside the steps gets what they leave: as long as it is allowed to hold them up, and as much again.
        self._beside_seconds = 2 * (self.settings.hang_seconds + size_bytes / SAVE_BYTES_PER_SECOND)
        self._beside_until, self._steps_ended_late = now + self._beside_seconds, 0

    def saved(self, now: float) -> None:
        """A checkpoint is on the disk, whoever waited for it."""
        self._beside_until = None
        if self._what != _STEP or self._since is None:
            self.expect_step(now)

    @property
    def slowest_step_seconds(self) -> float:
        """Of the recent ones; 0 if there was none."""
        return max(self._recent, default=0.0)

    def expect_answer(self) -> None:
        """It waits for the broker, however long that is away."""
        self._since = None

    def expect_nothing(self) -> None:
        """It has no work, or it is gone."""
        self._since = self._beside_until = None

    def overdue(self, now: float) -> str:
        """What has been missing for too long, for people; empty if nothing has."""
        if self._beside_until is not None and self._steps_ended_late > 1:
            return (f"a checkpoint is being written beside the steps for more than {self._beside_seconds:.0f} s, which "
                    "is what is allowed")
        if self._since is None or now - self._since <= self._allowed_seconds:
            return ""
        return f"{self._what} for {now - self._since:.0f} s, {self._allowed_seconds:.0f} s are allowed"
