"""Counting what happened, from the journal's events. Pure: events in, sums out.

The counts begin with the first event that is taken; a new life of the process begins at 0 again, as Prometheus expects
of a counter (https://prometheus.io/docs/concepts/metric_types/#counter). What the journal counts itself (jobs by kind
and state, its own events) is not counted here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Any

from trainq.jobs import ChampionMove, JobKind
from trainq.messages import EventView

# Upper bounds in seconds. Jobs: from a maintenance task of a second to a training of two days; steps: from the built-in
# model's milliseconds to the minutes of a large one on a slow machine; checkpoints: a copy in memory, or a slow disk.
JOB_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 172_800.0)
STEP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
CHECKPOINT_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)

# What a judgement comes to.
OUTCOMES = ("first", "promote", "propose", "keep")
ROW_VERDICTS = ("trained", "held_out", "rejected", "dropped_long", "duplicate")
# By event type, the state in which the job ended.
ENDINGS = {"JobSucceeded": "succeeded", "JobFailed": "failed", "JobCancelled": "cancelled",
           "JobQuarantined": "quarantined", "JobRejected": "rejected"}
OTHER_KIND = "other"
# Whose fault it is that the queue is held: several jobs' in a row, perhaps; or the machine's.
FAILURES, MACHINE = "failures_in_a_row", "machine"

_KINDS = frozenset(JobKind)
# Jobs that are begun and not ended: more than workers ever hold. Of the oldest the end is not timed.
_MOST_OPEN = 10_000


class Histogram:
    """How often a value lay between bounds, and the sum of all values."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound is below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tally:
    """The sums. Owned by whoever serializes the scrapes."""

    def __init__(self) -> None:
        # What an alert may be about is there from the start, at 0: Prometheus sees no increase in what appears with 1.
        self.submitted: Counter[str] = Counter()  # by origin
        self.ended: Counter[tuple[str, str]] = Counter(
            {(JobKind.TRAIN.value, state): 0 for state in sorted(ENDINGS.values())})  # by kind and state
        self.job_seconds: dict[str, Histogram] = {}  # by kind
        self.failed_attempts: Counter[str] = Counter({JobKind.TRAIN.value: 0})  # by kind
        self.lost_workers: Counter[str] = Counter({JobKind.TRAIN.value: 0})  # by kind
        self.rows: Counter[str] = Counter(dict.fromkeys(ROW_VERDICTS, 0))
        self.refused_files = 0
        self.holds: Counter[str] = Counter({FAILURES: 0, MACHINE: 0})  # by cause
        self.effects: Counter[str] = Counter()  # by kind
        self.checkpoints = 0
        self.checkpoint_bytes = 0
        self.checkpoint_stall_seconds = Histogram(CHECKPOINT_BOUNDS)
        self.checkpoint_write_seconds = Histogram(CHECKPOINT_BOUNDS)
        self.damaged_checkpoints = 0
        self.removals: Counter[str] = Counter()  # by store
        self.removed_bytes: Counter[str] = Counter()  # by store
        self.freed_bytes = 0
        self.champion_moves: Counter[str] = Counter(dict.fromkeys((how.value for how in ChampionMove), 0))  # by how
        self.judged: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))  # by outcome
        self.regressions = 0
        self.level_moves: Counter[tuple[str, str]] = Counter()  # by generator and direction
        self.generated_files: Counter[str] = Counter()  # by generator
        self.generated_rows: Counter[str] = Counter()  # by generator
        # Train jobs whose first attempt began: their steps are all new.
        self.begun: list[str] = []
        # Job: since when it is leased (None: it is not), and for how long it was before.
        self._open: dict[str, tuple[float | None, float]] = {}

    def begin(self, running: Iterable[tuple[str, float]]) -> None:
        """Say which jobs run already, and since when (seconds since 1970)."""
        for job, since in running:
            self._set_open(job, since, 0.0)

    def take(self, event: EventView) -> None:
        """Count an event; each is to be given once, in order."""
        kind, body = _kind_of(event.job), event.body
        if event.type in ENDINGS:
            self._end(event, kind)
        match event.type:
            case "JobSubmitted":
                self.submitted[str(body.get("origin", ""))] += 1
            case "LeaseGranted":
                self._set_open(event.job, event.at, self._open.get(event.job, (None, 0.0))[1])
                if kind == JobKind.TRAIN and body.get("attempt") == 1:
                    self.begun.append(event.job)
            case "LeaseEnded" | "AttemptFailed":
                self._close(event)
                self.failed_attempts[kind] += event.type == "AttemptFailed"
                self.lost_workers[kind] += bool(body.get("died"))
            case "JobPrepared" | "JobRejected":
                self._count_rows(body.get("report"))
            case "FileRefused" | "CheckpointDamaged":
                self.refused_files += event.type == "FileRefused"
                self.damaged_checkpoints += event.type == "CheckpointDamaged"
            case "QueueHeld":
                self.holds[FAILURES if body.get("failures_in_a_row") else MACHINE] += 1
            case "EffectDecided":
                self.effects[str(body.get("kind", ""))] += 1
            case "CheckpointPublished":
                self._count_checkpoint(body)
            case "RemovalDecided":
                store = str(body.get("store", ""))
                self.removals[store] += 1
                self.removed_bytes[store] += _natural(body.get("size_bytes"))
            case _:
                self._count_learning(event.type, body)

    def take_begun(self) -> list[str]:
        """The train jobs whose first attempt began since the last call."""
        begun, self.begun = self.begun, []
        return begun

    def _end(self, event: EventView, kind: str) -> None:
        self.ended[kind, ENDINGS[event.type]] += 1
        self._close(event)
        _, seconds = self._open.pop(event.job, (None, 0.0))
        if seconds:
            self.job_seconds.setdefault(kind, Histogram(JOB_BOUNDS)).observe(seconds)
        result = event.body.get("result")
        facts = result.get("facts") if isinstance(result, dict) else None
        if not isinstance(facts, dict):
            return
        if kind == JobKind.RETENTION:
            self.freed_bytes += _natural(facts.get("freed_bytes"))
        elif kind == JobKind.GENERATE and "file" in facts:
            generator = str(facts.get("generator", ""))
            self.generated_files[generator] += 1
            self.generated_rows[generator] += _natural(facts.get("rows"))

    def _close(self, event: EventView) -> None:
        since, seconds = self._open.get(event.job, (None, 0.0))
        if since is not None:
            # A clock that was set back takes nothing away.
            self._set_open(event.job, None, seconds + max(0.0, event.at - since))

    def _set_open(self, job: str, since: float | None, seconds: float) -> None:
        self._open[job] = (since, seconds)
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]

    def _count_rows(self, report: Any) -> None:
        if isinstance(report, dict):
            for verdict in ROW_VERDICTS:
                self.rows[verdict] += _natural(report.get(verdict))

    def _count_learning(self, type_: str, body: dict[str, Any]) -> None:
        match type_:
            case "ChampionMoved":
                self.champion_moves[str(body.get("how", ""))] += 1
            case "CheckpointJudged":
                self.judged[str(body.get("outcome", ""))] += 1
                self.regressions += bool(body.get("regressed"))
            case "LevelJudged":
                # A look at a score that leaves the level as it is counts nothing.
                if moved := _natural(body.get("after")) - _natural(body.get("before")):
                    self.level_moves[str(body.get("generator", "")), "up" if moved > 0 else "down"] += 1

    def _count_checkpoint(self, body: dict[str, Any]) -> None:
        self.checkpoints += 1
        size_bytes = _natural(body.get("size_bytes"))
        if size_bytes:  # else it is one of which only the head was heard: what it took is not known
            self.checkpoint_bytes += size_bytes
            self.checkpoint_stall_seconds.observe(_seconds(body.get("stall_seconds")))
            self.checkpoint_write_seconds.observe(_seconds(body.get("write_seconds")))


def _kind_of(job: str) -> str:
    """The kind that an id like ``train-7`` says: a label must have few values, whatever the journal holds."""
    kind = job.rpartition("-")[0]
    return kind if kind in _KINDS else OTHER_KIND


def _natural(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0
