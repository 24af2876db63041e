"""Which generations hold a file's content: the other way of lineage, as documents for programs."""

from __future__ import annotations

from typing import Any

from trainq.client import BrokerClient
from trainq.journal.lineage import covers
from trainq.messages import JobView
from trainq.tracing import asking, descending
from trainq.tracing.copies import Generation, Stock
from trainq.tracing.descending import Line


def from_journal(broker: BrokerClient, digest: str | None, job: str | None, stock: Stock) -> dict[str, Any]:
    """Who holds the content with this ``digest``, or that of a ``job``, job by job, the oldest first.

    Raises:
        NotFoundError: no job has ever carried it.
        BrokerUnavailableError: no answer.
    """
    line = asking.ask_line(broker)
    held = [Held(broker, each, line, stock).document() for each in asking.jobs_of(broker, digest, job)]
    return {"digest": held[0]["digest"], "source": "broker", "head": line.generation, "jobs": held}


def from_manifests(digest: str | None, job: str | None, stock: Stock) -> dict[str, Any]:
    """Each copy names its newest jobs, and says how many there are: so of many it can be told, of the others not."""
    holders: list[Generation] = []
    halves: list[Generation] = []
    unknown: list[Generation] = []
    for copy in stock.generations.values():
        records = copy.facts.jobs
        found = {record.job for record in records if job in (None, record.job) and digest in (None, record.digest)}
        if found - {copy.half}:
            holders.append(copy)
        elif found:
            halves.append(copy)
        elif (records and records[0].number != 1) or (not records and copy.facts.cursor.job):
            unknown.append(copy)
    return {"digest": digest, "job": job, "source": "manifests", "held_by": list(map(copy_document, holders)),
            "half_in": list(map(copy_document, halves)), "unknown": list(map(copy_document, unknown))}


class Held:
    """What is known of one job: in which generations it was trained to its end, and which hold it."""

    def __init__(self, broker: BrokerClient, job: JobView, line: Line, stock: Stock) -> None:
        self.job, self._kept, self._line = job, stock.generations, line
        events = list(asking.ask_events(broker, job.id))
        self.prepared = next((each.body for each in reversed(events) if each.type == "JobPrepared"), {})
        self._trained = sorted({int(each.body["result"].get("generation", 0)) for each in events
                                if each.type == "JobSucceeded"})
        newest = max([line.newest, *self._kept])
        self._spans = descending.holders(line, self._trained, newest)
        # Published, and not reported yet: the journal will say so.
        self.holders = [copy for copy in self._kept.values() if covers(self._spans, copy.number)
                         or (copy.facts.cursor.job == job.id and copy.facts.cursor.done)]
        self.halves = [copy for copy in self._kept.values() if copy.half == job.id]
        self._gone_halves = sorted({int(each.body["generation"]) for each in events
                                    if each.type == "CheckpointPublished" and each.body["job_step"]
                                    and not each.body["done"]} - self._kept.keys())

    def document(self) -> dict[str, Any]:
        """For programs: who holds the job whole or half, and which of those are in no copy any more."""
        job = self.job
        return {
            "job": job.id, "name": job.name, "digest": job.digest, "state": job.state.value, "reason": job.reason,
            "rows": job.rows, "tokens": job.tokens, "trained_in": self._trained,
            "in_head": covers(self._spans, self._line.generation),
            "held_by": [copy_document(copy) for copy in self.holders],
            "held_by_gone": [[link.first, link.last] for span in self._spans
                             for link in reversed(descending.cut(span, self._kept)) if link.copy is None],
            "half_in": [{**copy_document(copy), "steps": copy.facts.cursor.job_step,
                         "steps_planned": copy.facts.cursor.steps_planned} for copy in self.halves],
            "half_in_gone": self._gone_halves}


def copy_document(copy: Generation) -> dict[str, Any]:
    """A copy, by number, name, and where it lies."""
    return {"generation": copy.number, "name": copy.name, "stores": list(copy.stores)}
