"""Which generations hold a file's content, and which of them saw a row: the other way of ``trainq lineage``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from trainq import ingest, manifests
from trainq.cli import children
from trainq.cli.context import Context
from trainq.cli.rendering import facts
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, InputError, NotFoundError
from trainq.ids import is_id, new_request_id
from trainq.journal.lineage import Span
from trainq.messages import JobDetail, ShowJob
from trainq.tracing import asking, copies, holding
from trainq.tracing.holding import Held, copy_document

_NAMES_SHOWN = 8


def trace_content(context: Context, file: str | None, digest: str | None, job: str | None) -> int:
    """Say which generations hold a file's content (the ``file`` itself, or by its ``digest``), or that of a ``job``."""
    if file is not None:
        digest = _digest_of(file)
    stock = copies.read(context.home)
    for reason in stock.unreadable:
        context.console.say(f"left out: {reason}")
    try:
        with BrokerClient(context.home) as broker:
            document = holding.from_journal(broker, digest, job, stock)
    except BrokerUnavailableError:
        context.console.say("the broker does not answer; this is what the manifests of the copies know")
        document = holding.from_manifests(digest, job, stock)
    if context.console.json:
        context.console.emit(document)
        return 0
    if document["source"] == "manifests":
        for text in facts(_manifest_pairs(document), context.console.width):
            context.console.line(text)
        return 0
    for at, each in enumerate(document["jobs"]):
        for text in [*([""] if at else []), *facts(_pairs(each, document["head"]), context.console.width)]:
            context.console.line(text)
    return 0


def trace_row(context: Context, file: str, line_number: int) -> int:
    """Say what became of a row of a file, or of a job's file, and which generations saw it. Needs the broker."""
    by_job = is_id(file) and not Path(file).exists()
    digest = None if by_job else _digest_of(file)
    stock = copies.read(context.home)
    console, documents = context.console, []
    with BrokerClient(context.home) as broker:
        line = asking.ask_line(broker)
        for job in asking.jobs_of(broker, digest, file if by_job else None):
            held = Held(broker, job, line, stock)
            source = ingest.data_path(context.home, job.digest) if by_job else Path(file)
            if not source.is_file():
                raise NotFoundError(f"the file of {job.id} is no longer in data/", mend="name a file of this content")
            detail = broker.call(ShowJob(request_id=new_request_id(), job=job.id), JobDetail)
            documents.append(_with_row(held, context, source, line_number, detail))
    if console.json:
        console.emit({"file": file, "line": line_number, "digest": documents[0]["digest"], "jobs": documents})
        return 0
    for at, each in enumerate(documents):
        pairs = [*_row_pairs(each["row"], line_number), *_pairs(each, line.generation), *_seen_pairs(each)]
        for text in [*([""] if at else []), *facts(pairs, console.width)]:
            console.line(text)
    return 0


def _digest_of(file: str) -> str:
    if not Path(file).is_file():
        raise InputError("it is not a file", file=file, mend="name one, or --digest, or --job")
    return manifests.digest_file(Path(file))


def _with_row(held: Held, context: Context, source: Path, line_number: int, detail: JobDetail) -> dict[str, Any]:
    """The same, with what became of a row and how often each generation of which there is a copy has seen it."""
    spec = detail.spec
    assert spec is not None  # only tasks have none
    last_ones = [copy for copy in (*held.holders, *held.halves) if copy.facts.cursor.job == held.job.id]
    shard = held.prepared.get("shard", "")
    row = children.ask("trainq.ml.rowtracing", {
        "source": str(source.absolute()), "line": line_number, "model": spec.model,
        "data": msgspec.to_builtins(spec.data), "train": msgspec.to_builtins(spec.train),
        "shard": str(context.home.cache / shard) if shard else "",
        "shard_digest": held.prepared.get("shard_digest", ""),
        "effects": [{"kind": effect.kind, "step": effect.step, "value": effect.value}
                    for effect in detail.effects],
        "home": str(context.home.root.absolute()), "gate": msgspec.to_builtins(spec.gate),
        "enclosed": msgspec.to_builtins(detail.enclosed),
        "ledgers": {copy.name: str(copy.ledger) for copy in last_ones if copy.ledger is not None}},
        "the process that looks at the row")
    entered = row.pop("entered")
    # Of a job that others followed the ledger is in its last generation; all of its steps were done.
    seen = [{**copy_document(copy), "times": len(entered.get(copy.name, row["steps"])),
             "proven": copy.name in entered} for copy in held.holders]
    seen += [{**copy_document(copy), "times": len(entered[copy.name]), "proven": True}
             for copy in held.halves if copy.name in entered]
    return {**held.document(), "row": row, "seen_by": [each for each in seen if each["times"]],
            "not_seen_by": [each for each in seen if not each["times"]],
            "unknown": [copy_document(copy) for copy in held.halves if copy.name not in entered]}


# --------------------------------------------------------------------------------------------------------- for people


def _manifest_pairs(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [("held by", _names(each["name"] for each in document["held_by"]) or "no copy that says so"),
            ("half in", _names(each["name"] for each in document["half_in"])),
            ("not known", _names(each["name"] for each in document["unknown"]))]


def _pairs(document: dict[str, Any], head: int) -> list[tuple[str, str]]:
    trained = document["trained_in"]
    return [
        ("job", f"{document['job']}, {document['state']}{': ' if document['reason'] else ''}{document['reason']}"),
        ("file", document["name"]), ("digest", document["digest"]),
        ("rows", f"{document['rows']} ({document['tokens']} tokens)" if document["rows"] else ""),
        ("trained to its end in", ", ".join(map(str, trained)) or "no generation"),
        ("in the head", f"{'yes' if document['in_head'] else 'no'} (generation {head})"),
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
