"""``trainq retention``: what would go and why, do it, the trash, and what stays whatever the rules say."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from trainq import planning
from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, moment, size, table
from trainq.cli.tasking import add_pins, add_wait, ask, change_pin
from trainq.client import BrokerClient
from trainq.jobs import Store
from trainq.messages import RetentionTask, UndeleteTask


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


def _plan(context: Context) -> int:
    console, settings = context.console, context.configuration.settings.retention
    with BrokerClient(context.home) as broker:
        plan = planning.retention_plan(broker, context.home, settings)
    if console.json:
        console.emit(msgspec.to_builtins(plan))
        return 0
    columns = [Column(""), Column("store", spare=True), Column("name"), Column("made", spare=True),
               Column("frees", right=True, spare=True),
               Column("why", flexible=True)]
    rows = [["keep" if verdict.keep else "remove", verdict.item.store.value, verdict.item.name,
             moment(verdict.item.at), size(verdict.item.size_bytes),
             "; ".join((*verdict.reasons, *(f"marked: {mark}" for mark in verdict.item.marks)))]
            for verdict in plan.copies]
    for line in table(columns, rows, console.width):
        console.line(line)
    console.say(f"{plan.going} of {len(plan.copies)} would go, {size(plan.freed_bytes)}"
                + (f"; and {plan.shards} shards that no job needs, {size(plan.shard_bytes)}" if plan.shards else ""))
    return 0


def _trash(context: Context) -> int:
    console = context.console
    with BrokerClient(context.home) as broker:
        found = planning.trash(broker)
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
