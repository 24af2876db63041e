"""How far a job is, in one line. Pure."""

from __future__ import annotations

from trainq.cli.rendering import columns_of, count, cut, duration
from trainq.messages import Progress

BAR_COLUMNS = 24
MIN_BAR_COLUMNS = 8


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
    room = min(BAR_COLUMNS, width - columns_of(label) - len(told) - 4)
    if room >= MIN_BAR_COLUMNS and progress.steps:
        done = min(room, room * progress.step // progress.steps)
        told = f"[{'#' * done}{'.' * (room - done)}] {told}"
    return cut(f"{label} {told}", width)
