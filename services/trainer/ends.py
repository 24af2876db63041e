"""The ends of the training process: how many, whose doing, and what they mean for its job and for the next start. Pure.

An end of its own doing (exit, exception, SIGSEGV, hang) without a new highest published step is a failed attempt. Ends
from outside (SIGKILL, SIGTERM) count only when three in a row fall in the same step. Five of its own doing without a
new published step are too many for any job. An end after a named fault of the machine is none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

# So many in a row, in the same step, are no accident.
MAX_OUTSIDE_ENDS_IN_ONE_STEP = 3
# After so many starts that failed the job that waits is given back, so that people see what holds the queue.
MAX_FAILED_STARTS = 3
MAX_OWN_ENDS = 5
MAX_START_PAUSE_SECONDS = 60.0


# After a fault of the machine, not of a file: wait before anything is tried again, longer each time.
SYSTEM_FAULT_SECONDS = 30.0
MAX_SYSTEM_FAULT_SECONDS = 900.0


@dataclass(slots=True)
class MachineFaults:
    """How many faults of the machine there were since anything was last got done."""

    _number: int = 0

    def hold_seconds(self) -> float:
        """There is one more: how long the queue is held for it."""
        seconds = min(MAX_SYSTEM_FAULT_SECONDS, SYSTEM_FAULT_SECONDS * 2.0**self._number)
        self._number = min(self._number + 1, 10)
        return seconds

    def is_over(self) -> None:
        """A generation was published."""
        self._number = 0


@dataclass(slots=True)
class Ends:
    """What is counted. ``step`` is the last one that the job did."""

    step: int = 0
    # The furthest that this attempt was heard of.
    furthest_step: int = 0
    _own: int = 0
    # Ends after a fault of the machine, since anything was last got done.
    _excused: int = 0
    _failed_starts: int = 0
    # Of the job: its highest published step, that step when the attempt began.
    _best_step: int = 0
    _best_step_before: int = 0
    # Ends from outside: how many in a row fell in the step.
    _outside: int = 0
    _outside_step: int = -1

    @property
    def has_progressed(self) -> bool:
        """Whether the attempt has published a step beyond all before it."""
        return self._best_step > self._best_step_before

    @property
    def too_many(self) -> str:
        """Why no process is started any more; empty if one is."""
        if self._own < MAX_OWN_ENDS:
            return ""
        return f"the training process ended {self._own} times by itself without a new step"

    @property
    def starts_fail(self) -> bool:
        """Whether the process has ended so often before it was ready that nobody should wait for it."""
        return self._failed_starts >= MAX_FAILED_STARTS

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the next start."""
        return min(MAX_START_PAUSE_SECONDS, 2.0**min(max(self._failed_starts, self._excused), 10) - 1)

    def begin_job(self, best_step: int = 0) -> None:
        """Another job is held; ``best_step`` is its highest published step, of all attempts."""
        self._best_step = self._best_step_before = best_step
        self.step, self.furthest_step, self._outside, self._outside_step = 0, 0, 0, -1

    def stands_at(self, step: int) -> None:
        """So many steps of the job are done."""
        self.step, self.furthest_step = step, max(self.furthest_step, step)

    def got_done(self) -> None:
        """Something was done: whatever was wrong with the machine is not so now."""
        self._excused = 0

    def is_up(self) -> None:
        """The process is ready."""
        self._failed_starts = 0

    def published(self, job_step: int, *, done: bool) -> None:
        """The job has a new generation."""
        if job_step > self._best_step or done:
            self._best_step, self._own = max(self._best_step, job_step), 0

    def note(self, *, own: bool, excused: bool, starting: bool, leaving: bool) -> None:
        """The process has ended: by its own doing, after a fault of the machine; while it started, or was to end."""
        self._own += own and not excused and not leaving
        self._excused += excused
        self._failed_starts = self._failed_starts + own if starting else 0

    def failure_in_training(self, how: str, *, own: bool) -> str:
        """Why the job's attempt has failed by this end; empty if it goes on."""
        if own:
            if self.has_progressed:
                self._best_step_before = self._best_step  # it got further; from here on it must again
                return ""
            return f"its training process ended by itself in step {self.step + 1} ({how})"
        same = self.step == self._outside_step
        self._outside, self._outside_step = self._outside + 1 if same else 1, self.step
        if self._outside < MAX_OUTSIDE_ENDS_IN_ONE_STEP:
            return ""
        return f"its training process was ended {self._outside} times in a row in step {self.step + 1} ({how})"

    def failure_in_restore(self, how: str, *, own: bool) -> str:
        """As for a training. By its own doing it would end so again; from outside it is begun again, for a while."""
        self._outside += 1
        if own or self._outside >= MAX_OUTSIDE_ENDS_IN_ONE_STEP:
            return f"its training process ended in the middle ({how})"
        return ""
