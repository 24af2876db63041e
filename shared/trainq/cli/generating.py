"""``trainq generate``: have a file made for the model to learn from."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.tasking import add_wait, ask
from trainq.client import BrokerClient
from trainq.config import GeneratorSettings
from trainq.errors import UsageError
from trainq.generating import selfplay
from trainq.ids import new_request_id
from trainq.messages import GenerateTask, GetLearning, Learning

_SEED_BYTES = 7


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
    settings = context.configuration.settings.datagen
    known = settings.generators.get(arguments.name, GeneratorSettings())
    generator = known.use or arguments.name
    at_level = selfplay.source_of(known.options) if generator == selfplay.NAME else arguments.name
    level = arguments.level or _level(context, at_level, known.level)
    seed = int.from_bytes(os.urandom(_SEED_BYTES), "big") if arguments.seed is None else arguments.seed
    wish: dict[str, Any] = {"type": "GenerateTask", "generator": generator, "name": arguments.name,
                            "count": arguments.count or settings.rows, "level": level, "seed": seed,
                            "options": known.options}
    try:
        task = msgspec.convert(wish, GenerateTask)
    except msgspec.ValidationError as error:
        raise UsageError(f"no such file can be made: {error}", mend="trainq generate --help") from error
    return ask(context, task, wait=arguments.wait)


def _level(context: Context, name: str, first: int) -> int:
    with BrokerClient(context.home) as broker:
        learning = broker.call(GetLearning(request_id=new_request_id()), Learning)
    return next((level.level for level in learning.levels if level.generator == name), first)


COMMANDS = {"generate": Command(_configure, _run)}
