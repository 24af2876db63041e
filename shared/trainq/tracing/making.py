"""What made a generation: the files in it, and the chain of those before it, as documents for programs.

The journal knows which generation comes from which, and which jobs each holds; manifests know the rest of those of
which there is a copy. With the broker down the manifests are asked alone, and what they cannot know is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from trainq.checkpoints import CheckpointFacts, JobRecord
from trainq.client import BrokerClient
from trainq.errors import NotFoundError
from trainq.ids import new_request_id
from trainq.messages import GetHeldJobs, HeldJob, HeldJobs
from trainq.tracing import asking, descending
from trainq.tracing.copies import Stock
from trainq.tracing.descending import Line, Link


def from_journal(broker: BrokerClient, wanted: int | None, stock: Stock, most: int | None = None) -> dict[str, Any]:
    """What made the generation with the number ``wanted``; of None: the head. It names the newest ``most`` files.

    Raises:
        NotFoundError: there is none.
        BrokerUnavailableError: no answer.
    """
    line = asking.ask_line(broker)
    number = line.generation if wanted is None else wanted
    if not number:
        raise NotFoundError("there is no generation yet", mend="submit a file first: trainq submit FILE --wait")
    newest, count = deque[HeldJob](maxlen=most), 0
    for each in _ask_held(broker, number):
        newest.append(each)
        count += 1
    held = [_held_document(broker, each) for each in newest]
    return _document(number, stock, "broker", descending.chain(line, number, stock.generations), held, count, line)


def _ask_held(broker: BrokerClient, generation: int) -> Iterator[HeldJob]:
    after = 0
    while page := broker.call(GetHeldJobs(request_id=new_request_id(), generation=generation, after=after),
                              HeldJobs).jobs:
        yield from page
        after = page[-1].generation


def _held_document(broker: BrokerClient, held: HeldJob) -> dict[str, Any]:
    steps, at = held.steps, held.trained_at
    if at is None:  # it was trained again since, or taken out of the line
        success = next((each for each in asking.ask_events(broker, held.job) if each.type == "JobSucceeded"
                        and each.body["result"].get("generation") == held.generation), None)
        steps, at = (success.body["result"].get("steps_done"), success.at) if success else (None, None)
    return {"job": held.job, "name": held.name, "digest": held.digest, "rows": held.rows, "tokens": held.tokens,
            "steps": steps, "generation": held.generation, "trained_at": at}


def from_manifests(wanted: int | None, stock: Stock) -> dict[str, Any] | None:
    """As far as the copies' manifests know it; None if there is no copy.

    A copy names its newest jobs, and may hold more: ``job_count``, or null if that is not known.
    """
    number = number_in(wanted, stock)
    if number not in stock.generations:
        return None
    copy = stock.generations[number]
    held = [{"job": record.job, "name": record.name, "digest": record.digest, "rows": None, "tokens": None,
             "rows_seen": end.rows_seen - record.rows_seen, "tokens_seen": end.tokens_seen - record.tokens_seen,
             "steps": end.step - record.step, "generation": None, "trained_at": None}
            for record, end in _ended_records(copy.facts) if record.job != copy.half]
    counted = copy.facts.jobs[-1].number - bool(copy.half) if copy.facts.jobs else 0
    total = counted if counted or not copy.facts.cursor.job else None
    return _document(number, stock, "manifests", descending.chain_of_parents(copy, stock.generations), held, total,
                     None)


def number_in(wanted: int | None, stock: Stock) -> int:
    """The number that is meant; of None: the newest of which there is a copy."""
    return next(iter(stock.generations), 0) if wanted is None else wanted


def _ended_records(facts_: CheckpointFacts) -> list[tuple[JobRecord, JobRecord]]:
    """Each job of the facts with where the line stood at its end."""
    end = JobRecord(job="", step=facts_.step, rows_seen=facts_.rows_seen, tokens_seen=facts_.tokens_seen)
    return list(pairwise([*facts_.jobs, end]))


def _document(number: int, stock: Stock, source: str, chain: list[Link], held: list[dict[str, Any]],
              total: int | None, line: Line | None) -> dict[str, Any]:
    copy = stock.generations.get(number)
    half = None
    if copy is not None and copy.half:
        cursor = copy.facts.cursor
        half = {"job": cursor.job, "steps": cursor.job_step, "steps_planned": cursor.steps_planned}
    return {
        "generation": number, "name": copy.name if copy else None, "stores": list(copy.stores) if copy else [],
        "source": source, "head": line.generation if line else None,
        "rows_seen": copy.facts.rows_seen if copy else None, "tokens_seen": copy.facts.tokens_seen if copy else None,
        "chain": [_link_document(link) for link in chain], "jobs": held, "job_count": total, "in_the_middle_of": half}


def _link_document(link: Link) -> dict[str, Any]:
    if link.copy is None:
        return {"first": link.first, "last": link.last, "gone": True}
    facts_ = link.copy.facts
    return {"first": link.first, "last": link.last, "gone": False, "name": link.copy.name, "step": facts_.step,
            "reason": facts_.reason, "job": facts_.cursor.job, "job_step": facts_.cursor.job_step,
            "done": facts_.cursor.done, "parent": facts_.parent, "made_by": facts_.made_by,
            "restored_from": facts_.restored_from, "stores": list(link.copy.stores)}
