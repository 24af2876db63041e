"""``trainq lineage``: what made a generation; and the other way, which generations hold a file, or saw a row.

The journal knows which generation comes from which, and which jobs each holds; manifests know the rest of those of
which there is a copy. With the broker down the manifests are asked alone, and what they cannot know is said.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from trainq.checkpoints import CheckpointFacts, JobRecord
from trainq.cli import arguments as types
from trainq.cli import copies, descending, holding
from trainq.cli.console import Console
from trainq.cli.context import Context
from trainq.cli.descending import Line, Link
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, facts, moment, table
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, NotFoundError
from trainq.ids import is_digest, new_request_id
from trainq.messages import GetHeldJobs, HeldJob, HeldJobs

HEAD = "head"
SHOWN = 20
_NUMBER = re.compile(r"g?(\d{1,18})(-s\d{8,18})?", re.ASCII)


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", type=_name, metavar="NAME",
                        help="a checkpoint, a snapshot, a generation's number, or head (the default): what made it")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--file", type=types.text, metavar="FILE", help="who holds the content of this file")
    others.add_argument("--digest", type=_digest, metavar="BLAKE3", help="... of this digest")
    others.add_argument("--job", type=types.job_id, metavar="JOB", help="... of this job")
    others.add_argument("--row", type=_row, metavar="FILE:LINE", help="who saw that row; also JOB:LINE")
    parser.add_argument("--all", action="store_true", help=f"show all, not only the newest {SHOWN}")


def _name(word: str) -> int | None:
    """The number of a generation; None for the head."""
    if word == HEAD:
        return None
    match = _NUMBER.fullmatch(word)
    if match is None:
        raise ArgumentTypeError(f"{word!r} is no generation; they look like g000042-s00001200, 42, or {HEAD}")
    return int(match[1])


def _digest(word: str) -> str:
    if not is_digest(word):
        raise ArgumentTypeError(f"{word!r} is no digest: 64 lower-case hexadecimal digits")
    return word


def _row(word: str) -> tuple[str, int]:
    file, _, line = types.text(word).rpartition(":")
    if not file:
        raise ArgumentTypeError(f"{word!r} names no line; write FILE:LINE")
    return file, types.positive(line)


def _run(arguments: Namespace, context: Context) -> int:
    if arguments.row is not None:
        return holding.trace_row(context, *arguments.row)
    wanted = (arguments.file, arguments.digest, arguments.job)
    if any(each is not None for each in wanted):
        return holding.trace_content(context, *wanted)
    stock = copies.read(context.home)
    for reason in stock.unreadable:
        context.console.say(f"left out: {reason}")
    try:
        with BrokerClient(context.home) as broker:
            document = _from_journal(broker, arguments.name, stock)
    except BrokerUnavailableError as error:
        document = _from_manifests(context, arguments.name, stock, error)
    if context.console.json:
        context.console.emit(document)
    else:
        _show(document, context.console, None if arguments.all else SHOWN)
    return 0


# ------------------------------------------------------------------------------------------------------- what is known


def _from_journal(broker: BrokerClient, wanted: int | None, stock: copies.Stock) -> dict[str, Any]:
    line = holding.ask_line(broker)
    number = line.generation if wanted is None else wanted
    if not number:
        raise NotFoundError("there is no generation yet", mend="submit a file first: trainq submit FILE --wait")
    held = [_held_document(broker, each) for each in _ask_held(broker, number)]
    return _document(number, stock, "broker", descending.chain(line, number, stock.generations), held, len(held), line)


def _ask_held(broker: BrokerClient, generation: int) -> Iterator[HeldJob]:
    after = 0
    while page := broker.call(GetHeldJobs(request_id=new_request_id(), generation=generation, after=after),
                              HeldJobs).jobs:
        yield from page
        after = page[-1].generation


def _held_document(broker: BrokerClient, held: HeldJob) -> dict[str, Any]:
    steps, at = held.steps, held.trained_at
    if at is None:  # it was trained again since, or taken out of the line
        success = next((each for each in holding.ask_events(broker, held.job) if each.type == "JobSucceeded"
                        and each.body["result"].get("generation") == held.generation), None)
        steps, at = (success.body["result"].get("steps_done"), success.at) if success else (None, None)
    return {"job": held.job, "name": held.name, "digest": held.digest, "rows": held.rows, "tokens": held.tokens,
            "steps": steps, "generation": held.generation, "trained_at": at}


def _from_manifests(context: Context, wanted: int | None, stock: copies.Stock,
                    error: BrokerUnavailableError) -> dict[str, Any]:
    number = next(iter(stock.generations), 0) if wanted is None else wanted
    if number not in stock.generations:
        context.console.say(f"there is no copy of generation {number}, and the broker, which may know it, is down")
        raise error
    context.console.say("the broker does not answer; this is what the manifests of the copies know")
    copy = stock.generations[number]
    held = [{"job": record.job, "name": record.name, "digest": record.digest, "rows": None, "tokens": None,
             "rows_seen": end.rows_seen - record.rows_seen, "tokens_seen": end.tokens_seen - record.tokens_seen,
             "steps": end.step - record.step, "generation": None, "trained_at": None}
            for record, end in _ended_records(copy.facts) if record.job != copy.half]
    counted = copy.facts.jobs[-1].number - bool(copy.half) if copy.facts.jobs else 0
    total = counted if counted or not copy.facts.cursor.job else None
    if total != len(held):
        context.console.say(f"it names the newest {len(held)} of "
                            f"{total if total is not None else 'an unknown number of'} files; the broker knows all")
    return _document(number, stock, "manifests", descending.chain_of_parents(copy, stock.generations), held, total,
                     None)


def _ended_records(facts_: CheckpointFacts) -> list[tuple[JobRecord, JobRecord]]:
    """Each job of the facts with where the line stood at its end."""
    end = JobRecord(job="", step=facts_.step, rows_seen=facts_.rows_seen, tokens_seen=facts_.tokens_seen)
    return list(pairwise([*facts_.jobs, end]))


def _document(number: int, stock: copies.Stock, source: str, chain: list[Link], held: list[dict[str, Any]],
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


# --------------------------------------------------------------------------------------------------------- for people


def _show(document: dict[str, Any], console: Console, shown: int | None) -> None:
    half, jobs, chain = document["in_the_middle_of"], document["jobs"], document["chain"]
    name = document["name"] or f"generation {document['generation']}, of which there is no copy any more"
    pairs = [
        ("generation", name), ("lies in", ", ".join(document["stores"])),
        ("rows seen", str(document["rows_seen"] or "")), ("tokens seen", str(document["tokens_seen"] or "")),
        ("files", str(document["job_count"]) if document["job_count"] is not None else "not counted"),
        ("in the middle of", f"{half['job']}, {half['steps']} of its {half['steps_planned']} steps" if half else "")]
    lines = facts(pairs, console.width)
    if jobs:
        lines += ["", *_cut_said("files", len(jobs), shown), *_job_lines(jobs[-shown:] if shown else jobs, console)]
    if chain:
        lines += ["", *_cut_said("generations", len(chain), shown), *_chain_lines(chain[:shown], console)]
    for each in lines:
        console.line(each)


def _cut_said(what: str, there: int, shown: int | None) -> list[str]:
    return [f"the newest {shown} of {there} {what} (--all shows all):"] if shown and there > shown else []


def _job_lines(jobs: list[dict[str, Any]], console: Console) -> list[str]:
    columns = [Column("job"), Column("file", flexible=True), Column("BLAKE3", spare=True),
               Column("rows", right=True), Column("tokens", right=True, spare=True),
               Column("rows seen", right=True, spare=True), Column("steps", right=True, spare=True),
               Column("in", right=True, spare=True), Column("trained", spare=True)]
    return table(columns, [[each["job"], each["name"], each["digest"][:16], _number(each["rows"]),
                            _number(each["tokens"]), _number(each.get("rows_seen")), _number(each["steps"]),
                            _number(each["generation"]), moment(each["trained_at"])] for each in jobs], console.width)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _chain_lines(chain: list[dict[str, Any]], console: Console) -> list[str]:
    columns = [Column("generation"), Column("because", spare=True), Column("job"),
               Column("steps", right=True, spare=True),
               Column("lies in", flexible=True)]
    return table(columns, [_chain_cells(link) for link in chain], console.width)


def _chain_cells(link: dict[str, Any]) -> list[str]:
    if link["gone"]:
        span = f"{link['first']} to {link['last']}" if link["first"] != link["last"] else f"{link['first']}"
        return [span, "", "", "", "nowhere any more"]
    because = link["reason"]
    if link["made_by"]:
        because += f" by {link['made_by']}"
    if link["restored_from"]:
        because += f" of {link['restored_from']}"
    return [link["name"], because, link["job"], str(link["job_step"]) if link["job"] else "", ", ".join(link["stores"])]


COMMANDS = {"lineage": Command(_configure, _run)}
