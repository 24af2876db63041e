"""What the events say of each job, folded by other rules than trainq's own: ends, leases, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainq_checker.reading import Event, number_of

_ENDS = {"JobSucceeded": "succeeded", "JobRejected": "rejected", "JobCancelled": "cancelled", "JobFailed": "failed",
         "JobQuarantined": "quarantined"}
# What brings an ended job back, and from which ends.
_REOPENS = {"PreparationReopened": {"succeeded"}, "JobUncovered": {"succeeded"},
            "JobRetried": {"quarantined", "cancelled", "failed"}}
# A restore takes trained jobs out of the weights, or brings back what they hold: from an end, or open, to an end.
_REWRITES = {"JobTakenOut": "cancelled", "JobReinstated": "succeeded"}
_ENDS_A_LEASE = {"LeaseEnded", "AttemptFailed", *_ENDS}
_WAITS = {"HoldPlaced": "held", "HoldLifted": "queued"}


@dataclass(slots=True)
class Job:
    """One job. ``end`` and ``end_seq`` are of its last end, empty while it is open; ``lease_seq`` of an open lease.

    ``effects`` have what makes its steps others than planned, (kind, step) each; those of a success are kept with it.

    ``trained_seq`` is of the success that brought it into the weights as they are, ``successes`` has the number of each
    by its generation.
    """

    id: str
    kind: str
    submitted: dict[str, Any]
    prepared: dict[str, Any] = field(default_factory=dict)
    end: str = ""
    end_seq: int = 0
    trained_seq: int = 0
    successes: dict[int, int] = field(default_factory=dict)
    effects: set[tuple[str, int]] = field(default_factory=set)
    effects_of: dict[int, frozenset[tuple[str, int]]] = field(default_factory=dict)
    lease_seq: int = 0
    waits: str = "queued"

    @property
    def state(self) -> str:
        """As the journal's table names it."""
        return self.end or ("running" if self.lease_seq else self.waits)


@dataclass(slots=True)
class History:
    """``violations`` are of ends, ``lease_violations`` of leases; ``requests`` has each use of a request id.

    ``removals`` has the generations that retention has removed, by the events' numbers; ``purged`` those that are
    deleted for good.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    lease_violations: list[str] = field(default_factory=list)
    requests: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    published: dict[int, set[str]] = field(default_factory=dict)
    removals: dict[int, int] = field(default_factory=dict)
    purged: set[int] = field(default_factory=set)
    fingerprint_changes: int = 0
    leases: int = 0

    def kind(self, kind: str) -> list[Job]:
        """All jobs of one kind, in the order of their submits."""
        return [job for job in self.jobs.values() if job.kind == kind]

    def succeeded(self) -> list[Job]:
        """The train jobs whose last end is success, in the order in which they came into the weights."""
        return sorted((job for job in self.kind("train") if job.end == "succeeded"),
                      key=lambda job: job.trained_seq)


def fold(events: Sequence[Event]) -> History:
    """Fold all events; what may not be is collected, not raised."""
    history = History()
    for event in events:
        fields = event.fields
        if event.type in ("JobSubmitted", "TaskSubmitted", "DuplicateSubmitted", "FileRefused", "UserNoted"):
            history.requests.setdefault(fields["request_id"], []).append((event.seq, fields.get("job", "")))
        if event.type == "JobSubmitted":
            for id_, kind in ((fields["job"], "train"), (fields["prepare"], "prepare")):
                if id_ in history.jobs:
                    history.violations.append(f"{id_} was submitted again (event {event.seq})")
                history.jobs[id_] = Job(id=id_, kind=kind, submitted=fields)
        elif event.type == "TaskSubmitted":
            if fields["job"] in history.jobs:
                history.violations.append(f"{fields['job']} was asked for again (event {event.seq})")
            history.jobs[fields["job"]] = Job(id=fields["job"], kind=fields["kind"], submitted=fields)
        elif event.type in ("RemovalDecided", "RemovalPurged"):
            _fold_removal(history, event, fields)
        elif event.type == "FingerprintChanged":
            history.fingerprint_changes += 1
        elif event.type in ("CheckpointPublished", "LineRestored"):
            history.published.setdefault(fields["generation"], set()).add(fields["name"])
        elif "job" in fields:
            _fold_job(history, event, fields)
    return history


def _fold_removal(history: History, event: Event, fields: dict[str, Any]) -> None:
    if event.type == "RemovalDecided" and fields["store"] == "checkpoints":
        history.removals[event.seq] = number_of(fields["name"])
    elif event.type == "RemovalPurged" and fields["removal"] in history.removals:
        history.purged.add(history.removals[fields["removal"]])


def _fold_job(history: History, event: Event, fields: dict[str, Any]) -> None:
    job = history.jobs.get(fields["job"])
    if job is None:
        history.violations.append(f"{event.type} of {fields['job']}, which was never submitted (event {event.seq})")
        return
    _fold_effects(job, event, fields)
    if event.type in _ENDS:
        _end(history, job, event, fields)
    elif event.type in _REWRITES:
        _rewrite(history, job, event, fields["generation"])
    elif event.type in _REOPENS:
        if job.end not in _REOPENS[event.type] and not _is_gone_on_with(job, event, fields):
            history.violations.append(f"{event.type} of {job.id}, which is {job.state} (event {event.seq})")
        job.end, job.end_seq, job.waits = "", 0, "queued"
    elif event.type == "JobPrepared":
        job.prepared = fields
    elif event.type in _WAITS:
        job.waits = _WAITS[event.type]
    elif event.type == "LeaseGranted":
        history.leases += 1
        if job.end or job.lease_seq:
            history.lease_violations.append(f"{job.id} was leased (event {event.seq}) while it was {job.state}")
        job.lease_seq = event.seq
    if event.type in _ENDS_A_LEASE:
        job.lease_seq = 0


def _is_gone_on_with(job: Job, event: Event, fields: dict[str, Any]) -> bool:
    """Whether the line was put into the middle of a job, whatever that was, and it goes on there."""
    return event.type == "JobUncovered" and fields["generation"] == 0 and not job.lease_seq and (
        job.end in ("", "cancelled", "quarantined"))


def _fold_effects(job: Job, event: Event, fields: dict[str, Any]) -> None:
    if event.type == "EffectDecided":
        job.effects.add((fields["kind"], fields["effective_step"]))
    elif event.type in ("AttemptFailed", "JobRetried") or fields.get("anew"):
        job.effects.clear()
    elif event.type == "JobUncovered" and not fields["generation"]:
        job.effects = {(effect["kind"], effect["step"]) for effect in fields.get("effects", ())}
    elif event.type == "JobSucceeded":
        job.effects_of[event.seq] = frozenset(job.effects)


def _end(history: History, job: Job, event: Event, fields: dict[str, Any]) -> None:
    if job.end:
        history.violations.append(f"{job.id} ended twice: {job.end} (event {job.end_seq}), then "
                                  f"{_ENDS[event.type]} (event {event.seq})")
    job.end, job.end_seq = _ENDS[event.type], event.seq
    if event.type == "JobSucceeded":
        job.trained_seq = job.successes[fields["result"].get("generation", 0)] = event.seq


def _rewrite(history: History, job: Job, event: Event, generation: int) -> None:
    if job.lease_seq or (event.type == "JobTakenOut" and job.end != "succeeded"):
        history.violations.append(f"{event.type} of {job.id}, which is {job.state} (event {event.seq})")
    if event.type == "JobReinstated":
        if generation not in job.successes:
            history.violations.append(f"{job.id} was reinstated (event {event.seq}), and was never trained in "
                                      f"generation {generation}")
        job.trained_seq = job.successes.get(generation, 0)
    job.end, job.end_seq = _REWRITES[event.type], event.seq
