"""How many rows at once have fitted into memory where more had not, kept from job to job, though not for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainq import gpu

# After so many jobs the settings are tried again: what was short may have passed, and a lack costs one step.
JOBS = 10


@dataclass(slots=True)
class Fitting:
    """``rows``: so many have; 0 while nothing is known. ``others`` says who else takes memory of the GPU."""

    others: Callable[[], str] = gpu.used_by_others
    rows: int = 0
    _jobs_left: int = 0

    def fitted(self, rows: int) -> None:
        """So many are to fit, where more have not; or the next job begins with what is known."""
        # Where others were the cause, it says nothing of the next job, which is not begun beside them.
        if rows != self.rows and not self.others():
            self.rows, self._jobs_left = rows, JOBS

    def job_begins(self) -> int:
        """The rows with which a job is to begin; 0 for those of its settings."""
        self._jobs_left -= 1
        if self._jobs_left < 0:
            self.rows = 0
        return self.rows
