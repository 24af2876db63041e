"""When jobs start and end, from what was seen of those before. Pure; the only estimator that there is.

Each estimate is a span, because none is exact: of a running job from the spread of its recent steps, of a waiting one
from the slowest and the fastest of the last jobs. Where nothing was measured there is no estimate.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from trainq.figures import Measured, Span, WaitingJob
from trainq.messages import JobView, Progress

# A minute of the past tells the future best: long enough for a checkpoint's pause, short enough to follow a change.
WINDOW_SECONDS = 60.0
# Where steps take longer than that, so many of them.
LEAST_SEEN = 9
# Before the spread of steps is known: so much around the one figure that there is.
_MARGIN = 0.25
# Of so many last jobs the slowest and the fastest count.
JOBS_KEPT = 10
# What differs by less from what was said before is not said anew: whoever follows would be told of nothing else.
_STEADY_SHARE, _STEADY_SECONDS = 0.05, 2.0


class Pace:
    """The steps of one job seen lately. Going back (a new attempt) starts anew."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, step: int, now: float) -> None:
        """At ``now`` (monotonic seconds) so many steps were done."""
        if self._seen and step < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or step != self._seen[-1][1]:
            self._seen.append((now, step))
        while len(self._seen) > LEAST_SEEN and now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    def span_left(self, progress: Progress, now: float) -> Span | None:
        """The least and the most seconds that are expected to be left; None while nothing can be said.

        The steps that are left, as fast as the faster and as slow as the slower half of what was seen; the worker's own
        estimate, which is the mean of its whole run, where less was seen.
        """
        if not progress.steps:
            return None
        paces = self._paces()
        if len(paces) < 3:
            return self._rough(paces, progress, now)
        (last_at, last), half = self._seen[-1], (len(paces) + 1) // 2
        since, left = now - last_at, progress.steps - last
        least, most = (sum(seconds for seconds, _ in part) / sum(steps for _, steps in part)
                       for part in (paces[:half], paces[-half:]))
        return max(0.0, left * least - since), max(0.0, left * most - since)

    def seconds_left(self, progress: Progress, now: float) -> float | None:
        """The middle of :meth:`span_left`, for a line that has room for one number."""
        span = self.span_left(progress, now)
        return None if span is None else (span[0] + span[1]) / 2

    def _paces(self) -> list[tuple[float, int]]:
        """(seconds, steps) from one sighting to the next, the fastest first."""
        paces = [(at - before, step - former) for (before, former), (at, step) in itertools.pairwise(self._seen)]
        return sorted(paces, key=lambda pace: pace[0] / pace[1])

    def _rough(self, paces: Sequence[tuple[float, int]], progress: Progress, now: float) -> Span | None:
        if progress.seconds_left is not None:
            left = progress.seconds_left
        elif paces:
            last_at, last = self._seen[-1]
            per_step = sum(seconds for seconds, _ in paces) / sum(steps for _, steps in paces)
            left = max(0.0, (progress.steps - last) * per_step - (now - last_at))
        else:
            return None
        return left * (1 - _MARGIN), left * (1 + _MARGIN)


class Rates:
    """How fast the last train jobs went, and how long each took beyond its steps. ``before``: of a former life."""

    def __init__(self, before: Measured | None = None) -> None:
        ends = before.tokens_per_second if before else ()
        # By job, the oldest first; those of a former life have no name that a job can have.
        self._rates: dict[str, float] = {f"before {number}": rate for number, rate in enumerate(ends)}
        self._beyond: deque[float] = deque(before.beyond_seconds if before and before.beyond_seconds else (),
                                           maxlen=JOBS_KEPT)
        self._measured = before

    def stepped(self, job: str, tokens_per_second: float) -> None:
        """This job does so many tokens a second."""
        if tokens_per_second > 0:
            self._rates[job] = tokens_per_second
            while len(self._rates) > JOBS_KEPT:
                del self._rates[next(iter(self._rates))]

    def ended(self, job: str, tokens: int, seconds: float) -> None:
        """This job has trained so many tokens (repetitions count) from its start to its end without a break."""
        rate = self._rates.get(job) or (sum(self._rates.values()) / len(self._rates) if self._rates else 0.0)
        if rate and tokens:
            self._beyond.append(max(0.0, seconds - tokens / rate))

    def measured(self) -> Measured | None:
        """What there is; steady, so that what has hardly changed stays the same."""
        if not self._rates:
            return None
        beyond = _rounded(min(self._beyond), max(self._beyond)) if self._beyond else None
        now = Measured(tokens_per_second=_rounded(min(self._rates.values()), max(self._rates.values())),
                       beyond_seconds=beyond)
        if self._measured is None or not _is_near(self._measured, now):
            self._measured = now
        return self._measured


def steady(before: Span | None, new: Span | None, now: float) -> Span | None:
    """``before``, if ``new`` (moments) says nothing else but for a second or a few percent of the time that is left."""
    if before is None or new is None:
        return new
    near = [abs(one - other) <= max(_STEADY_SECONDS, _STEADY_SHARE * (one - now))
            for one, other in zip(before, new, strict=True)]
    return before if all(near) else new


def moments(span: Span | None, now_wall: float) -> Span | None:
    """Seconds from now as moments, to the second."""
    return None if span is None else (float(round(now_wall + span[0])), float(round(now_wall + span[1])))


def line(waiting: Sequence[JobView], planned_tokens: Mapping[str, int], *, now_wall: float, stopped: str,
         reason: str, running_ends_at: Span | None, is_running: bool,
         measured: Measured | None) -> tuple[WaitingJob, ...]:
    """The waiting jobs with their place, why they wait, and when they are expected to start.

    Args:
        waiting: in the order in which they will start.
        planned_tokens: what each has to train; without those that nobody knows of.
        now_wall: wall seconds.
        stopped: why nothing is begun, for nobody knows how long; empty if the line moves.
        reason: why the first one has not begun, in the broker's words; empty if it may, or another one runs.
        running_ends_at: when the job that runs is expected to end.
        is_running: there is one.
        measured: how fast the last ones were.
    """
    # When the trainer is free for the next one; None: nobody knows.
    free: Span | None = running_ends_at if is_running else None if reason else (now_wall, now_wall)
    if stopped or measured is None:
        free = None
    found = []
    for position, job in enumerate(waiting, start=1):
        is_later = job.retry_at > now_wall
        takes = _duration(job, planned_tokens, measured)
        starts = ends = None
        if free is not None and not is_later and job.prepared:
            starts = max(free[0], now_wall), max(free[1], now_wall)
            ends = None if takes is None else (starts[0] + takes[0], starts[1] + takes[1])
        why = stopped or _why(job, position, reason=reason, is_later=is_later)
        found.append(WaitingJob(**msgspec.structs.asdict(job), position=position, why=why, starts_at=_whole(starts),
                                ends_at=_whole(ends)))
        # One that is tried again later may come in between.
        free = (free[0], free[1] + takes[1]) if is_later and free is not None and takes is not None else ends
    return tuple(found)


def _why(job: JobView, position: int, *, reason: str, is_later: bool) -> str:
    if is_later:
        return f"tried again later: {job.reason}" if job.reason else "tried again later"
    if not job.prepared:
        return "to be prepared"
    if position == 1:
        return reason or "next"
    return "one job goes first" if position == 2 else f"{position - 1} jobs go first"


def _duration(job: JobView, planned_tokens: Mapping[str, int], measured: Measured | None) -> Span | None:
    tokens = planned_tokens.get(job.id, 0)
    if measured is None or not tokens or not job.prepared:
        return None
    slow, fast = measured.tokens_per_second
    if measured.beyond_seconds is None or slow == fast:
        slow, fast = slow * (1 - _MARGIN), fast * (1 + _MARGIN)
    least, most = measured.beyond_seconds or (0.0, 0.0)
    # Of one that was begun before, some steps may be in the weights already.
    return (0.0 if job.attempts else tokens / fast) + least, tokens / slow + most


def _whole(span: Span | None) -> Span | None:
    return None if span is None else (float(round(span[0])), float(round(span[1])))


def _rounded(least: float, most: float) -> Span:
    return round(least, 1), round(most, 1)


def _is_near(one: Measured, other: Measured) -> bool:
    if (one.beyond_seconds is None) != (other.beyond_seconds is None):
        return False
    pairs = [*zip(one.tokens_per_second, other.tokens_per_second, strict=True),
             *zip(one.beyond_seconds or (), other.beyond_seconds or (), strict=True)]
    return all(abs(former - now) <= max(_STEADY_SHARE * former, 0.1) for former, now in pairs)
