"""How fast a job goes and when it will be done, from what was seen of it. Pure."""

from __future__ import annotations

from collections import deque

from trainq.cli.rendering import count, cut, duration
from trainq.messages import Progress

# A minute of the past tells the future best: long enough for a checkpoint's pause, short enough to follow a change.
WINDOW_SECONDS = 60.0
BAR_COLUMNS = 24
MIN_BAR_COLUMNS = 8


class Pace:
    """The steps seen lately. Going back (a new attempt) starts anew."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, step: int, now: float) -> None:
        """At ``now`` (monotonic seconds) so many steps were done."""
        if self._seen and step < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or step != self._seen[-1][1]:
            self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    def seconds_left(self, progress: Progress, now: float) -> float | None:
        """The worker's own estimate, else one from the steps seen; None while nothing can be said."""
        if progress.seconds_left is not None:
            return progress.seconds_left
        if len(self._seen) < 2 or not progress.steps:
            return None
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        per_step = (last_at - first_at) / (last - first)
        return max(0.0, (progress.steps - last) * per_step - (now - last_at))


def progress_line(label: str, progress: Progress, seconds_left: float | None, width: int) -> str:
    """A progress bar in at most ``width`` columns: ``label [####....] 120/400  loss 2.310  5.2k tokens/s  ETA 40 s``.

    When there is no room the bar gives way first, then the end of the line. ``label`` has been escaped.
    """
    details = [f"{progress.step}/{progress.steps}" if progress.unit == "steps" else
               f"{100 * progress.step // max(1, progress.steps)} %"]
    if progress.loss is not None:
        details.append(f"loss {progress.loss:.3f}")
    if progress.tokens_per_second:
        details.append(f"{count(progress.tokens_per_second)} tokens/s")
    if seconds_left is not None:
        details.append(f"ETA {duration(seconds_left)}")
    told = "  ".join(details)
    room = min(BAR_COLUMNS, width - len(label) - len(told) - 4)
    if room >= MIN_BAR_COLUMNS and progress.steps:
        done = min(room, room * progress.step // progress.steps)
        told = f"[{'#' * done}{'.' * (room - done)}] {told}"
    return cut(f"{label} {told}", width)
