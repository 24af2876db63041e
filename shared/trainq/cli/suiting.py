"""``trainq suites``: what the model is scored on, whether it is what it was, and to say that a change is meant."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import msgspec

from trainq import orders, suites
from trainq.cli import arguments as types
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.parsing import add_json
from trainq.cli.registry import Command
from trainq.cli.rendering import Column, table
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import Done, LockSuite


def _configure(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    commands.add_parser("list", help="all of them, and whether each is what it was when it was first scored")
    lock = commands.add_parser("lock", help="a suite that was changed is meant to be so: its scores begin anew")
    lock.add_argument("name", type=types.text, metavar="NAME", help="as the list has it")
    lock.add_argument("--reason", type=types.text, default="locked by a person", help="for people, later")
    for action in commands.choices.values():
        add_json(action)


def _run(arguments: Namespace, context: Context) -> int:
    return _lock(context, arguments.name, arguments.reason) if arguments.action == "lock" else _list(context)


def _lock(context: Context, name: str, reason: str) -> int:
    suite = suites.load(context.home.suites / name)
    request = LockSuite(request_id=new_request_id(), suite=suite.name, digest=suite.digest, reason=reason)
    with BrokerClient(context.home) as broker:
        changed = broker.call(request, Done).changed
    if context.console.json:
        context.console.emit({"suite": suite.name, "digest": suite.digest, "changed": changed})
    elif not changed:
        context.console.say("it was locked to this already")
    else:
        context.console.line(suite.digest)
    return 0


def _list(context: Context) -> int:
    with BrokerClient(context.home) as broker:
        locks = orders.learning_of(broker).locks
    found = suites.survey(context.home.suites, locks, context.configuration.settings.promotion)
    console = context.console
    if console.json:
        console.emit({"suites": msgspec.to_builtins(found)})
        return 0
    columns = [Column("suite"), Column("rows", right=True), Column("kind", spare=True), Column("limit", spare=True),
               Column("state"), Column("", flexible=True)]
    rows = [[each.suite, str(each.rows or ""), each.scorer or each.kind,
             "" if each.limit is None else f"{each.limit:g}", each.state,
             printable(each.error or each.warning or each.description)]
            for each in found]
    for line in table(columns, rows, console.width):
        console.line(line)
    return 0


COMMANDS = {"suites": Command(_configure, _run)}
