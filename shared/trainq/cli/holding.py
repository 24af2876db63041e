"""Which generations hold a file's content, and which of them saw a row: the other way of ``trainq lineage``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from trainq import ingest, manifests
from trainq.cli import children, copies, descending
from trainq.cli.context import Context
from trainq.cli.copies import Generation
from trainq.cli.descending import Line
from trainq.cli.picturing import ANSWER_SECONDS
from trainq.cli.rendering import facts
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, InputError, NotFoundError
from trainq.ids import is_id, new_request_id
from trainq.jobs import JobKind
from trainq.journal.lineage import Span, covers
from trainq.messages import (
    Events,
    EventView,
    Forks,
    GetForks,
    JobDetail,
    JobView,
    ListJobs,
    Replay,
    ShowJob,
)
from trainq.orders import all_jobs

_NAMES_SHOWN = 8


def ask_line(broker: BrokerClient) -> Line:
    """The model line as the journal knows it."""
    found: list[tuple[int, int]] = []
    while (page := broker.call(GetForks(request_id=new_request_id(), after=found[-1][0] if found else 0), Forks,
                               timeout_seconds=ANSWER_SECONDS)).forks:
        found += [(fork.first, fork.source) for fork in page.forks]
    return Line(page.generation, page.checkpoint, page.newest, found)


def ask_events(broker: BrokerClient, job: str) -> Iterator[EventView]:
    """All events of a job, in order."""
    after = 0
    while page := broker.call(Replay(request_id=new_request_id(), after_seq=after, job=job), Events).events:
        yield from page
        after = page[-1].seq


def trace_content(context: Context, file: str | None, digest: str | None, job: str | None) -> int:
    """Say which generations hold a file's content (the ``file`` itself, or by its ``digest``), or that of a ``job``."""
    if file is not None:
        digest = _digest_of(file)
    stock = copies.read(context.home)
    for reason in stock.unreadable:
        context.console.say(f"left out: {reason}")
    try:
        with BrokerClient(context.home) as broker:
            line = ask_line(broker)
            held = [_Held(broker, each, line, stock).document() for each in _jobs_of(broker, digest, job)]
    except BrokerUnavailableError:
        context.console.say("the broker does not answer; this is what the manifests of the copies know")
        return _from_manifests(context, digest, job, stock)
    if context.console.json:
        context.console.emit({"digest": held[0]["digest"], "source": "broker", "head": line.generation, "jobs": held})
        return 0
    for at, each in enumerate(held):
        for text in [*([""] if at else []), *facts(_pairs(each, line), context.console.width)]:
            context.console.line(text)
    return 0


def trace_row(context: Context, file: str, line_number: int) -> int:
    """Say what became of a row of a file, or of a job's file, and which generations saw it. Needs the broker."""
    by_job = is_id(file) and not Path(file).exists()
    digest = None if by_job else _digest_of(file)
    stock = copies.read(context.home)
    console, documents = context.console, []
    with BrokerClient(context.home) as broker:
        line = ask_line(broker)
        for job in _jobs_of(broker, digest, file if by_job else None):
            held = _Held(broker, job, line, stock)
            source = ingest.data_path(context.home, job.digest) if by_job else Path(file)
            if not source.is_file():
                raise NotFoundError(f"the file of {job.id} is no longer in data/", mend="name a file of this content")
            detail = broker.call(ShowJob(request_id=new_request_id(), job=job.id), JobDetail)
            documents.append(held.with_row(context, source, line_number, detail))
    if console.json:
        console.emit({"file": file, "line": line_number, "digest": documents[0]["digest"], "jobs": documents})
        return 0
    for at, each in enumerate(documents):
        for text in [*([""] if at else []), *facts([*_row_pairs(each["row"], line_number), *_pairs(each, line),
                                                    *_seen_pairs(each)], console.width)]:
            console.line(text)
    return 0


def _digest_of(file: str) -> str:
    if not Path(file).is_file():
        raise InputError("it is not a file", file=file, mend="name one, or --digest, or --job")
    return manifests.digest_file(Path(file))


def _jobs_of(broker: BrokerClient, digest: str | None, job: str | None) -> list[JobView]:
    """The train jobs that carry the content, oldest first."""
    if job is not None:
        found = broker.call(ShowJob(request_id=new_request_id(), job=job), JobDetail).job
        if found.kind is not JobKind.TRAIN:
            raise NotFoundError(f"{job} carries no file to train", mend="trainq list shows those that do")
        return [found]
    jobs = list(all_jobs(broker, ListJobs(request_id="", digest=digest), ANSWER_SECONDS))[::-1]
    if not jobs:
        raise NotFoundError(f"no job has ever carried this content (BLAKE3 {digest})",
                            mend="one changed byte makes another content")
    return jobs


class _Held:
    """What is known of one job: in which generations it was trained to its end, and which hold it."""

    def __init__(self, broker: BrokerClient, job: JobView, line: Line, stock: copies.Stock) -> None:
        self._job, self._kept, self._line = job, stock.generations, line
        events = list(ask_events(broker, job.id))
        self._prepared = next((each.body for each in reversed(events) if each.type == "JobPrepared"), {})
        self._trained = sorted({int(each.body["result"].get("generation", 0)) for each in events
                                if each.type == "JobSucceeded"})
        newest = max([line.newest, *self._kept])
        self._spans = descending.holders(line, self._trained, newest)
        # Published, and not reported yet: the journal will say so.
        self._holders = [copy for copy in self._kept.values() if covers(self._spans, copy.number)
                         or (copy.facts.cursor.job == job.id and copy.facts.cursor.done)]
        self._halves = [copy for copy in self._kept.values() if copy.half == job.id]
        self._gone_halves = sorted({int(each.body["generation"]) for each in events
                                    if each.type == "CheckpointPublished" and each.body["job_step"]
                                    and not each.body["done"]} - self._kept.keys())

    def document(self) -> dict[str, Any]:
        """For programs: who holds the job whole or half, and which of those are in no copy any more."""
        job = self._job
        return {
            "job": job.id, "name": job.name, "digest": job.digest, "state": job.state.value, "reason": job.reason,
            "rows": job.rows, "tokens": job.tokens, "trained_in": self._trained,
            "in_head": covers(self._spans, self._line.generation),
            "held_by": [_copy_document(copy) for copy in self._holders],
            "held_by_gone": [[link.first, link.last] for span in self._spans
                             for link in reversed(descending.cut(span, self._kept)) if link.copy is None],
            "half_in": [{**_copy_document(copy), "steps": copy.facts.cursor.job_step,
                         "steps_planned": copy.facts.cursor.steps_planned} for copy in self._halves],
            "half_in_gone": self._gone_halves}

    def with_row(self, context: Context, source: Path, line_number: int, detail: JobDetail) -> dict[str, Any]:
        """The same, with what became of a row and how often each generation of which there is a copy has seen it."""
        spec = detail.spec
        assert spec is not None  # only tasks have none
        last_ones = [copy for copy in (*self._holders, *self._halves) if copy.facts.cursor.job == self._job.id]
        shard = self._prepared.get("shard", "")
        row = children.ask("trainq.ml.rowtracing", {
            "source": str(source.absolute()), "line": line_number, "model": spec.model,
            "data": msgspec.to_builtins(spec.data), "train": msgspec.to_builtins(spec.train),
            "shard": str(context.home.cache / shard) if shard else "",
            "shard_digest": self._prepared.get("shard_digest", ""),
            "effects": [{"kind": effect.kind, "step": effect.step, "value": effect.value}
                        for effect in detail.effects],
            "ledgers": {copy.name: str(copy.ledger) for copy in last_ones if copy.ledger is not None}},
            "the process that looks at the row")
        entered = row.pop("entered")
        # Of a job that others followed the ledger is in its last generation; all of its steps were done.
        seen = [{**_copy_document(copy), "times": len(entered.get(copy.name, row["steps"])),
                 "proven": copy.name in entered} for copy in self._holders]
        seen += [{**_copy_document(copy), "times": len(entered[copy.name]), "proven": True}
                 for copy in self._halves if copy.name in entered]
        return {**self.document(), "row": row, "seen_by": [each for each in seen if each["times"]],
                "not_seen_by": [each for each in seen if not each["times"]],
                "unknown": [_copy_document(copy) for copy in self._halves if copy.name not in entered]}


def _copy_document(copy: Generation) -> dict[str, Any]:
    return {"generation": copy.number, "name": copy.name, "stores": list(copy.stores)}


# ------------------------------------------------------------------------------------------------------ without broker


def _from_manifests(context: Context, digest: str | None, job: str | None, stock: copies.Stock) -> int:
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
    if context.console.json:
        context.console.emit({
            "digest": digest, "job": job, "source": "manifests", "held_by": list(map(_copy_document, holders)),
            "half_in": list(map(_copy_document, halves)), "unknown": list(map(_copy_document, unknown))})
        return 0
    for text in facts([
            ("held by", _names(each.name for each in holders) or "no copy that says so"),
            ("half in", _names(each.name for each in halves)),
            ("not known", _names(each.name for each in unknown))], context.console.width):
        context.console.line(text)
    return 0


# --------------------------------------------------------------------------------------------------------- for people


def _pairs(document: dict[str, Any], line: Line) -> list[tuple[str, str]]:
    trained = document["trained_in"]
    return [
        ("job", f"{document['job']}, {document['state']}{': ' if document['reason'] else ''}{document['reason']}"),
        ("file", document["name"]), ("digest", document["digest"]),
        ("rows", f"{document['rows']} ({document['tokens']} tokens)" if document["rows"] else ""),
        ("trained to its end in", ", ".join(map(str, trained)) or "no generation"),
        ("in the head", f"{'yes' if document['in_head'] else 'no'} (generation {line.generation})"),
        ("held by", _copies(document["held_by"])),
        ("held by, and gone", _spans(Span(*each) for each in document["held_by_gone"])),
        ("half in", _names(f"{each['name']} ({each['steps']} of {each['steps_planned']} steps)"
                           for each in document["half_in"])),
        ("half in, and gone", _names(map(str, document["half_in_gone"])))]


def _row_pairs(row: dict[str, Any], asked: int) -> list[tuple[str, str]]:
    fate = {"trained": "good: it is trained", "held_out": "held out: never trained", "rejected": "rejected",
            "dropped_long": "too long: dropped"}[row["fate"]]
    first = f"a duplicate of line {row['line']}, which is " if row["is_duplicate"] else ""
    steps = _names(f"{step} (epoch {epoch})" for step, epoch in row["steps"])
    return [(f"line {asked}", first + fate + (f": {row['reason']}" if row["reason"] else "")),
            ("mend", row["mend"]), ("in the job's steps", steps)]


def _seen_pairs(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [("seen by", _names(f"{each['name']} ({each['times']} times)" for each in document["seen_by"]) or "no copy"),
            ("not yet seen by", _names(each["name"] for each in document["not_seen_by"])),
            ("not known", _names(f"{each['name']} (it has no ledger)" for each in document["unknown"]))]


def _copies(documents: list[dict[str, Any]]) -> str:
    return _names(f"{each['name']} ({', '.join(each['stores'])})" for each in documents) or "no copy"


def _spans(spans: Iterable[Span]) -> str:
    return _names(f"{span.first} to {span.last}" if span.first != span.last else f"{span.first}" for span in spans)


def _names(words: Iterable[str]) -> str:
    every = list(words)
    more = f" and {len(every) - _NAMES_SHOWN} more (--json has all)" if len(every) > _NAMES_SHOWN else ""
    return ", ".join(every[:_NAMES_SHOWN]) + more
