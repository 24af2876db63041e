"""``trainq champion``, ``promote`` and ``rollback``: which checkpoint was found best, since when, and why."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from trainq import orders, words
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, facts, moment, table
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import ChampionView, JobKind, JudgementView
from trainq.messages import (
    JobList,
    JobView,
    ListJobs,
    Promote,
)

_DELIVERIES = 100


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--history", action="store_true", help="all moves, newest first")
    parser.add_argument("--at", type=types.text, metavar="TIME",
                        help="who was champion then: 2026-07-30, '2026-07-30 14:05', or 3d (ago)")
    parser.add_argument("--deliveries", action="store_true",
                        help=f"the newest {_DELIVERIES} that were to be put elsewhere, and what became of each")
    parser.add_argument("--deliver", action="store_true",
                        help="put the champion to each place of [promotion] publish_to, and prove it there, once more")


def _configure_promote(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=types.generation, nargs="?", metavar="NAME",
                        help="g000042-s00001200 (default: the one that is proposed)")
    parser.add_argument("--reason", type=types.text, default="promoted by a person", help="for people, later")


def _configure_rollback(parser: ArgumentParser) -> None:
    parser.add_argument("--to", type=types.generation, metavar="NAME",
                        help="one that was champion (default: the one before that was not rolled back from)")
    parser.add_argument("--reason", type=types.text, default="rolled back by a person", help="for people, later")


def _run(arguments: Namespace, context: Context) -> int:
    if arguments.history or arguments.at:
        return _history(context, arguments.at)
    if arguments.deliveries:
        return _deliveries(context)
    if arguments.deliver:
        return _deliver(context)
    with BrokerClient(context.home) as broker:
        known = orders.learning_of(broker)
    console = context.console
    if console.json:
        console.emit({"champion": msgspec.to_builtins(known.champion), "previous": known.previous,
                      "judgement": msgspec.to_builtins(known.judgement), "proposal": known.proposal})
        return 0
    pairs = _champion(known.champion) + (_judgement(known.judgement) if known.judgement else [])
    if known.proposal:
        pairs.append(("proposed", f"{known.proposal}: trainq promote makes it champion"))
    for line in facts(pairs, console.width):
        console.line(line)
    return 0


def _champion(champion: ChampionView | None) -> list[tuple[str, str]]:
    if champion is None:
        return [("champion", "none yet ([promotion] mode says who becomes it)")]
    return [("champion", champion.checkpoint), ("since", moment(champion.at)), ("how", champion.how.value),
            ("why", champion.reason), ("by", champion.by), ("before it", champion.before or "nobody")]


def _judgement(judged: JudgementView) -> list[tuple[str, str]]:
    return [("judged last", judged.checkpoint), ("outcome", judged.outcome + (", worse" if judged.regressed else "")),
            *(("", reason) for reason in judged.reasons)]


def _history(context: Context, at: str | None) -> int:
    with BrokerClient(context.home) as broker:
        moves = (list(orders.champion_moves(broker)) if at is None
                 else [orders.champion_at(broker, words.moment(at, time.time()))])
    if context.console.json:
        context.console.emit({"champions": msgspec.to_builtins(moves)})
        return 0
    columns = [Column("since"), Column("champion"), Column("how", spare=True), Column("by", spare=True),
               Column("why", flexible=True)]
    rows = [[moment(move.at), move.checkpoint, move.how.value, move.by, printable(move.reason)] for move in moves]
    for line in table(columns, rows, context.console.width):
        context.console.line(line)
    return 0


def _deliveries(context: Context) -> int:
    with BrokerClient(context.home) as broker:
        jobs = broker.call(ListJobs(request_id=new_request_id(), kinds=(JobKind.PUBLISH,), limit=_DELIVERIES),
                           JobList).jobs
    told = [_delivery(job) for job in jobs]
    if context.console.json:
        context.console.emit({"deliveries": told})
        return 0
    columns = [Column("job"), Column("state"), Column("ended", spare=True), Column("what", flexible=True)]
    rows = [[job.id, job.state.value, moment(job.ended_at) if job.ended_at is not None else "",
             printable(each["summary"] or each["reason"] or job.name)] for job, each in zip(jobs, told, strict=True)]
    for line in table(columns, rows, context.console.width):
        context.console.line(line)
    return 0


def _delivery(job: JobView) -> dict[str, Any]:
    result = job.result or {}
    return {"job": job.id, "state": job.state.value, "submitted_at": job.submitted_at, "ended_at": job.ended_at,
            "name": job.name, "reason": job.reason, "summary": str(result.get("summary", "")),
            **result.get("facts", {})}


def _deliver(context: Context) -> int:
    with BrokerClient(context.home) as broker:
        accepted = orders.deliver_champion(broker, context.configuration.settings.promotion.publish_to)
    if context.console.json:
        context.console.emit({"jobs": accepted})
        return 0
    for job in accepted:
        context.console.line(job)
    return 0


def _promote(arguments: Namespace, context: Context) -> int:
    request = Promote(request_id=new_request_id(), checkpoint=arguments.checkpoint, reason=arguments.reason)
    with BrokerClient(context.home) as broker:
        return _say(context, orders.move_champion(broker, request))


def _roll_back(arguments: Namespace, context: Context) -> int:
    with BrokerClient(context.home) as broker:
        return _say(context, orders.roll_back(broker, arguments.to, arguments.reason))


def _say(context: Context, moved: orders.Moved) -> int:
    if context.console.json:
        context.console.emit(msgspec.to_builtins(moved))
    else:
        context.console.line(moved.champion)
        if not moved.changed:
            context.console.say("it was champion already")
    return 0


COMMANDS = {"champion": Command(_configure, _run), "promote": Command(_configure_promote, _promote),
            "rollback": Command(_configure_rollback, _roll_back)}
