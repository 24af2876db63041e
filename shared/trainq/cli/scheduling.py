"""``trainq schedule``: what the broker asks for by itself, and when; and to ask for one of it now."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import msgspec

from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, moment, table
from trainq.cli.tasking import add_wait, ask
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import GetSchedules, Schedules, ScheduleView
from trainq.orders import rule_task


def _configure(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    commands.add_parser("list", help="each rule: when next, and what came of the last time")
    run = commands.add_parser("run", help="ask for what a rule asks for, now")
    run.add_argument("name", type=types.text, metavar="NAME", help="as the list has it")
    add_wait(run)
    for action in commands.choices.values():
        add_json(action)


def _run(arguments: Namespace, context: Context) -> int:
    if arguments.action == "list":
        return _list(context)
    task = rule_task(context.configuration.settings.schedule, arguments.name)
    return ask(context, task, wait=arguments.wait, cause=f"schedule {arguments.name}, run by a person")


def _list(context: Context) -> int:
    console = context.console
    with BrokerClient(context.home) as broker:
        found = broker.call(GetSchedules(request_id=new_request_id()), Schedules)
    if console.json:
        console.emit(msgspec.to_builtins(found))
        return 0
    columns = [Column("name"), Column("task", spare=True), Column("when", spare=True), Column("next"),
               Column("last", spare=True), Column("job", spare=True),
               Column("", flexible=True)]
    rows = [[view.name, view.task, view.when, _slot(view, view.next_at) if view.enabled else "off",
             _slot(view, view.last_slot), f"{view.last_job} {view.last_state}".strip(), view.reason]
            for view in found.schedules]
    for line in table(columns, rows, console.width):
        console.line(line)
    if not found.enabled:
        console.say("[schedule] enabled is false: nothing is asked for by itself")
    return 0


def _slot(view: ScheduleView, slot: int | None) -> str:
    if slot is None:
        return ""
    return f"{slot} files" if view.when.startswith("after") else moment(float(slot))


COMMANDS = {"schedule": Command(_configure, _run)}
