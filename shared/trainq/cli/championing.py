"""``trainq champion``, ``promote`` and ``rollback``: which checkpoint was found best, since when, and why."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

import msgspec

from trainq import words
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, facts, moment, table
from trainq.client import BrokerClient
from trainq.errors import NotFoundError
from trainq.ids import new_request_id
from trainq.jobs import ChampionView, JudgementView
from trainq.messages import Champions, Done, GetChampions, GetLearning, Learning, Promote, RollBack


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--history", action="store_true", help="all moves, newest first")
    parser.add_argument("--at", type=types.text, metavar="TIME",
                        help="who was champion then: 2026-07-30, '2026-07-30 14:05', or 3d (ago)")


def _configure_promote(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=types.generation, nargs="?", metavar="NAME",
                        help="g000042-s00001200 (default: the one that is proposed)")
    parser.add_argument("--reason", type=types.text, default="promoted by a person", help="for people, later")


def _configure_rollback(parser: ArgumentParser) -> None:
    parser.add_argument("--to", type=types.generation, metavar="NAME",
                        help="one that was champion (default: the one before)")
    parser.add_argument("--reason", type=types.text, default="rolled back by a person", help="for people, later")


def _run(arguments: Namespace, context: Context) -> int:
    if arguments.history or arguments.at:
        return _history(context, arguments.at)
    with BrokerClient(context.home) as broker:
        known = broker.call(GetLearning(request_id=new_request_id()), Learning)
    console = context.console
    if console.json:
        console.emit({"champion": msgspec.to_builtins(known.champion), "previous": known.previous,
                      "judgement": msgspec.to_builtins(known.judgement)})
        return 0
    pairs = _champion(known.champion) + (_judgement(known.judgement) if known.judgement else [])
    for line in facts(pairs, console.width):
        console.line(line)
    return 0


def _champion(champion: ChampionView | None) -> list[tuple[str, str]]:
    if champion is None:
        return [("champion", "none yet: the first checkpoint that is scored becomes it")]
    return [("champion", champion.checkpoint), ("since", moment(champion.at)), ("how", champion.how.value),
            ("why", champion.reason), ("by", champion.by), ("before it", champion.before or "nobody")]


def _judgement(judged: JudgementView) -> list[tuple[str, str]]:
    return [("judged last", judged.checkpoint), ("outcome", judged.outcome + (", worse" if judged.regressed else "")),
            *(("", reason) for reason in judged.reasons)]


def _history(context: Context, at: str | None) -> int:
    moves: list[ChampionView] = []
    until = None if at is None else words.moment(at, time.time())
    with BrokerClient(context.home) as broker:
        before: int | None = None
        while page := broker.call(GetChampions(request_id=new_request_id(), before_seq=before), Champions).champions:
            moves += page
            before = page[-1].seq
    if until is not None:
        moves = [move for move in moves if move.at <= until][:1]
        if not moves:
            raise NotFoundError("there was no champion then", mend="trainq champion --history shows since when")
    if context.console.json:
        context.console.emit({"champions": msgspec.to_builtins(moves)})
        return 0
    columns = [Column("since"), Column("champion"), Column("how", spare=True), Column("by", spare=True),
               Column("why", flexible=True)]
    rows = [[moment(move.at), move.checkpoint, move.how.value, move.by, printable(move.reason)] for move in moves]
    for line in table(columns, rows, context.console.width):
        context.console.line(line)
    return 0


def _promote(arguments: Namespace, context: Context) -> int:
    return _move(context, Promote(request_id=new_request_id(), checkpoint=arguments.checkpoint,
                                  reason=arguments.reason))


def _roll_back(arguments: Namespace, context: Context) -> int:
    return _move(context, RollBack(request_id=new_request_id(), to=arguments.to, reason=arguments.reason))


def _move(context: Context, request: Promote | RollBack) -> int:
    with BrokerClient(context.home) as broker:
        changed = broker.call(request, Done).changed
        champion = broker.call(GetLearning(request_id=new_request_id()), Learning).champion
    name = champion.checkpoint if champion is not None else ""
    if context.console.json:
        context.console.emit({"champion": name, "changed": changed})
    else:
        context.console.line(name)
        if not changed:
            context.console.say("it was champion already")
    return 0


COMMANDS = {"champion": Command(_configure, _run), "promote": Command(_configure_promote, _promote),
            "rollback": Command(_configure_rollback, _roll_back)}
