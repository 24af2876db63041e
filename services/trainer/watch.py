"""The watch over the training process: when a step has been missing for too long. Pure: ``now`` comes in as a number.

A step may take ten times the slowest recent one, and never less than two minutes are allowed (both are settings): a
long row, a busy machine or a slow disk is no hang, while a lost GPU or a dead lock stays for ever. Nothing is expected
of a process that has no job.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

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
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    def expect_start(self, now: float) -> None:
        """The process was forked: it loads the model."""
        self._since, self._what, self._allowed_seconds = now, "the model is being loaded", self.settings.start_seconds

    def expect_job(self, now: float, size_bytes: int) -> None:
        """It begins a job: reads and proves so many bytes (the shard; checkpoints, if another job is taken back)."""
        self.expect_save(now, size_bytes)
        self._what = "the first step is missing"

    def expect_step(self, now: float) -> None:
        """It may go on, or has just done a step."""
        slowest = max(self._recent, default=0.0)
        self._since, self._what = now, _STEP
        self._allowed_seconds = max(self.settings.hang_seconds, self.settings.hang_factor * slowest)

    def stepped(self, now: float) -> None:
        """A step is done."""
        # The first one of a job took what came before it as well, which says nothing of a step.
        if self._since is not None and self._what == _STEP:
            self._recent.append(now - self._since)
        self.expect_step(now)

    def expect_save(self, now: float, size_bytes: int) -> None:
        """It writes a checkpoint of about this size before it goes on."""
        self.expect_step(now)
        self._what = "a checkpoint is being written"
        self._allowed_seconds += size_bytes / SAVE_BYTES_PER_SECOND

    def expect_nothing(self) -> None:
        """It has no work, or it is gone."""
        self._since = None

    def overdue(self, now: float) -> str:
        """What has been missing for too long, for people; empty if nothing has."""
        if self._since is None or now - self._since <= self._allowed_seconds:
            return ""
        return f"{self._what} for {now - self._since:.0f} s, {self._allowed_seconds:.0f} s are allowed"
