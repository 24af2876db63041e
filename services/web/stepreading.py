"""The steps that were done since the last look, from the jobs' histories on disk; bounded, and each step once.

A history may be cut and grow again while it is read: a job that is resumed does the steps behind its checkpoint anew.
What was counted is not counted again, so a step that is done twice is one step here.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from services.web.tallying import STEP_BOUNDS, Histogram
from trainq import stephistory
from trainq.stephistory import StepMetrics

# In one look; what is beyond waits for the next one. Some 16 thousand steps.
MAX_READ_BYTES = 4 * 1024 * 1024
# How far before the end of what was read a history that was cut and has grown again is looked through.
_STEP_BACK_BYTES = 64 * 1024
# One runs at a time; of the others only the last ones may still be read to their ends.
_MOST_OPEN = 16


class Place(msgspec.Struct):
    """How far a history was read: so many bytes, up to this step of the job (0: none). Missing: from its end on."""

    offset: int | None
    job_step: int = 0


class Steps:
    """Sums over steps, and the last one. Owned by whoever serializes the scrapes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, Place] = {}
        self.steps = self.rows = self.tokens = self.trained_tokens = self.skipped = self.spikes = 0
        self.seconds = Histogram(STEP_BOUNDS)
        # The last step that was seen, and its job.
        self.last: StepMetrics | None = None
        self.last_job = ""

    def follow(self, job: str, *, from_start: bool) -> None:
        """Read the steps of ``job`` from now on: all of them, or those that are done after the first look."""
        if job not in self._places:
            self._places[job] = Place(offset=0 if from_start else None)
            if len(self._places) > _MOST_OPEN:
                del self._places[next(iter(self._places))]

    def look(self) -> None:
        """Count the steps that have come. A history that is not there, or cannot be read, has none now."""
        left = MAX_READ_BYTES
        for job, place in self._places.items():
            try:
                with stephistory.path_of(self._folder, job).open("rb") as stream:
                    left -= self._read(stream, job, place, left)
            except OSError:
                continue

    def _read(self, stream: BinaryIO, job: str, place: Place, most_bytes: int) -> int:
        """Count whole lines, at most ``most_bytes``; how many bytes were read."""
        size_bytes = stream.seek(0, 2)
        if place.offset is None:
            self._skip_to_end(stream, job, place, size_bytes)
            return 0
        if size_bytes < place.offset:
            place.offset = _line_start(stream, size_bytes - _STEP_BACK_BYTES)
        if size_bytes == place.offset or most_bytes <= 0:
            return 0
        stream.seek(place.offset)
        content = stream.read(most_bytes)
        first = stephistory.decoded(content[:content.find(b"\n") + 1])
        if place.job_step and (first is None or first.job_step != place.job_step + 1):
            # Not what comes next: it was cut, and has grown again.
            place.offset = _line_start(stream, place.offset - _STEP_BACK_BYTES)
            stream.seek(place.offset)
            content = stream.read(most_bytes)
        whole = content[:content.rfind(b"\n") + 1]
        for line in whole.splitlines(keepends=True):
            step = stephistory.decoded(line)
            if step is not None and step.job_step > place.job_step:
                place.job_step = step.job_step
                self._count(step, job)
        place.offset += len(whole)
        return len(content)

    def _skip_to_end(self, stream: BinaryIO, job: str, place: Place, size_bytes: int) -> None:
        """Begin behind what is there; its last step is shown, and not counted."""
        start = _line_start(stream, size_bytes - _STEP_BACK_BYTES)
        stream.seek(start)
        content = stream.read(_STEP_BACK_BYTES)
        whole = content[:content.rfind(b"\n") + 1]
        place.offset = start + len(whole)
        step = stephistory.decoded(whole.splitlines(keepends=True)[-1]) if whole else None
        if step is not None:
            place.job_step, self.last, self.last_job = step.job_step, step, job

    def _count(self, step: StepMetrics, job: str) -> None:
        self.steps += 1
        self.rows += step.rows
        self.tokens += step.tokens
        self.trained_tokens += step.trained_tokens
        self.skipped += step.skipped
        self.spikes += step.grad_spike
        self.seconds.observe(step.seconds)
        self.last, self.last_job = step, job


def _line_start(stream: BinaryIO, offset: int) -> int:
    """Where the first line begins at or behind ``offset``; 0 for a place before the beginning."""
    if offset <= 0:
        return 0
    stream.seek(offset - 1)
    stream.readline()
    return stream.tell()
