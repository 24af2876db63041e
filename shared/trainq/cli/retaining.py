"""``trainq retention``: what would go and why, do it, the trash, and what stays whatever the rules say."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, moment, size, table
from trainq.cli.tasking import add_pins, add_wait, ask, change_pin
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import Store
from trainq.messages import GetKept, GetUsedShards, Kept, RetentionTask, UndeleteTask, UsedShards
from trainq.retention import leftovers, rules, stock


def _configure(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    commands.add_parser("plan", help="what would stay and what would go, with the reasons; changes nothing")
    apply = commands.add_parser("apply", help="move to the trash what may go, and empty it of what is old")
    commands.add_parser("trash", help="what lies in the trash")
    undelete = commands.add_parser("undelete", help="bring one back from the trash")
    undelete.add_argument("removal", type=types.positive, metavar="NUMBER", help="as the trash lists it")
    add_wait(apply, undelete)
    add_pins(commands, "keep a checkpoint, whatever the rules say")
    for action in commands.choices.values():
        add_json(action)


def _run(arguments: Namespace, context: Context) -> int:
    match arguments.action:
        case "plan":
            return _plan(context)
        case "apply":
            return ask(context, RetentionTask(), wait=arguments.wait)
        case "trash":
            return _trash(context)
        case "undelete":
            return ask(context, UndeleteTask(removal=arguments.removal), wait=arguments.wait)
        case action:
            return change_pin(context, Store.CHECKPOINTS, arguments.name,
                              arguments.reason if action == "pin" else None)


def _kept(context: Context) -> Kept:
    with BrokerClient(context.home) as broker:
        return broker.call(GetKept(request_id=new_request_id()), Kept)


def _used(context: Context, names: tuple[str, ...]) -> set[str]:
    with BrokerClient(context.home) as broker:
        return set(broker.call(GetUsedShards(request_id=new_request_id(), shards=names), UsedShards).shards)


def _plan(context: Context) -> int:
    console, settings = context.console, context.configuration.settings.retention
    excess = stock.excess_bytes(context.home, settings)
    shards = leftovers.spare_shards(context.home, settings, time.time(), excess, lambda names: _used(context, names))
    shard_bytes = sum(shard.size_bytes for shard in shards)
    planned = rules.plan(stock.read(context.home, _kept(context), settings.best_metric), settings)
    verdicts = rules.fit(planned, max(0, excess - shard_bytes))
    freed = sum(verdict.item.size_bytes for verdict in verdicts if not verdict.keep)
    going = sum(not verdict.keep for verdict in verdicts)
    if console.json:
        console.emit({"copies": msgspec.to_builtins(verdicts), "going": going, "freed_bytes": freed,
                      "excess_bytes": excess, "shards": len(shards), "shard_bytes": shard_bytes})
        return 0
    columns = [Column(""), Column("store", spare=True), Column("name"), Column("made", spare=True),
               Column("frees", right=True, spare=True),
               Column("why", flexible=True)]
    rows = [["keep" if verdict.keep else "remove", verdict.item.store.value, verdict.item.name,
             moment(verdict.item.at), size(verdict.item.size_bytes),
             "; ".join((*verdict.reasons, *(f"marked: {mark}" for mark in verdict.item.marks)))]
            for verdict in verdicts]
    for line in table(columns, rows, console.width):
        console.line(line)
    console.say(f"{going} of {len(verdicts)} would go, {size(freed)}"
                + (f"; and {len(shards)} shards that no job needs, {size(shard_bytes)}" if shards else ""))
    return 0


def _trash(context: Context) -> int:
    console = context.console
    found = [removal for removal in _kept(context).removals if removal.state == "trash"]
    if console.json:
        documents: list[dict[str, Any]] = msgspec.to_builtins(found)
        console.emit({"trash": documents})
        return 0
    columns = [Column("number", right=True), Column("store", spare=True), Column("name"), Column("removed", spare=True),
               Column("size", right=True, spare=True), Column("why", flexible=True)]
    rows = [[str(each.removal), each.store.value, each.name, moment(each.at), size(each.size_bytes), each.reason]
            for each in found]
    for line in table(columns, rows, console.width):
        console.line(line)
    return 0


COMMANDS = {"retention": Command(_configure, _run)}
