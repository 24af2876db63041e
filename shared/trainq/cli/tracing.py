"""``trainq lineage``: what made a generation; and the other way, which generations hold a file, or saw a row.

The journal knows which generation comes from which, and which jobs each holds; manifests know the rest of those of
which there is a copy. With the broker down the manifests are asked alone, and what they cannot know is said.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from trainq.cli import arguments as types
from trainq.cli import holding
from trainq.cli.console import Console
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, facts, moment, table
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError
from trainq.tracing import copies, making

SHOWN = 20


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", type=types.generation_number, metavar="NAME",
                        help="a checkpoint, a snapshot, a generation's number, or head (the default): what made it")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--file", type=types.text, metavar="FILE", help="who holds the content of this file")
    others.add_argument("--digest", type=types.digest, metavar="BLAKE3", help="... of this digest")
    others.add_argument("--job", type=types.job_id, metavar="JOB", help="... of this job")
    others.add_argument("--row", type=_row, metavar="FILE:LINE", help="who saw that row; also JOB:LINE")
    parser.add_argument("--all", action="store_true", help=f"show all, not only the newest {SHOWN}")


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
            document = making.from_journal(broker, arguments.name, stock)
    except BrokerUnavailableError as error:
        document = _from_manifests(context, arguments.name, stock, error)
    if context.console.json:
        context.console.emit(document)
    else:
        _show(document, context.console, None if arguments.all else SHOWN)
    return 0


def _from_manifests(context: Context, wanted: int | None, stock: copies.Stock,
                    error: BrokerUnavailableError) -> dict[str, Any]:
    document, say = making.from_manifests(wanted, stock), context.console.say
    if document is None:
        say(f"there is no copy of generation {making.number_in(wanted, stock)}, and the broker, which may know it, "
            "is down")
        raise error
    say("the broker does not answer; this is what the manifests of the copies know")
    named, total = len(document["jobs"]), document["job_count"]
    if total != named:
        say(f"it names the newest {named} of {total if total is not None else 'an unknown number of'} files; the "
            "broker knows all")
    return document


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
