"""``trainq generate``: have a file made for the model to learn from."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trainq import orders
from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.tasking import add_wait, ask
from trainq.client import BrokerClient


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("name", type=types.text, metavar="NAME",
                        help="of [datagen.generators], or a generator: syllo, arithmetic, command, selfplay, a plug-in")
    parser.add_argument("--count", type=types.positive, metavar="N", help="rows (default: [datagen] rows)")
    parser.add_argument("--level", type=types.positive, metavar="L",
                        help="how hard, from 1 (default: that to which the evaluations have moved it)")
    parser.add_argument("--seed", type=types.natural, metavar="S",
                        help="the same seed makes the same rows (default: any; it is recorded)")
    add_wait(parser)


def _run(arguments: Namespace, context: Context) -> int:
    with BrokerClient(context.home) as broker:
        task = orders.generate_task(broker, context.configuration.settings.datagen, arguments.name,
                                    count=arguments.count, level=arguments.level, seed=arguments.seed)
    return ask(context, task, wait=arguments.wait)


COMMANDS = {"generate": Command(_configure, _run)}
