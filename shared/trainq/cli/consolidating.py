"""``trainq consolidate``: merge the adapter into the weights under it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.tasking import add_wait, ask
from trainq.messages import ConsolidateTask


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="before the files that wait, and not when none does")
    add_wait(parser)


def _run(arguments: Namespace, context: Context) -> int:
    return ask(context, ConsolidateTask(now=arguments.now), wait=arguments.wait)


COMMANDS = {"consolidate": Command(_configure, _run)}
