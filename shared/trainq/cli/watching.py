"""``trainq watch``: the whole picture on one screen, as it changes, whatever is restarted meanwhile.

Without a terminal there is no screen: then the same is printed again and again, as text or as JSON.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace

from trainq.cli import arguments as types
from trainq.cli.console import terminal_columns
from trainq.cli.context import Context
from trainq.cli.registry import Command

DEFAULT_SECONDS = 5.0
# Without a terminal nothing is cut off at the bottom.
_ALL_LINES = 60
# How often what has come is looked at, where nothing is shown of it.
_TURN_SECONDS = 0.2


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--every", type=types.duration, default=DEFAULT_SECONDS, metavar="TIME",
                        help=f"without a terminal, or with --json: how often it is printed (default "
                             f"{DEFAULT_SECONDS:.0f}s)")


def _run(arguments: Namespace, context: Context) -> int:
    if context.console.width is not None and context.console.lively:
        from trainq.cli.live import watch

        return watch(context)
    return _print(context, arguments.every)


def _print(context: Context, every_seconds: float) -> int:
    from trainq.cli.feeding import QUIET_SECONDS, Feed
    from trainq.cli.screen import plain, screen

    console = context.console
    with Feed(context) as feed:
        # The first one when something is known, or when all sources have had their time.
        show_at, is_first = time.monotonic() + 2 * QUIET_SECONDS, True
        while True:
            feed.poller.wait(_TURN_SECONDS)
            view = feed.view()
            if time.monotonic() < show_at and not (is_first and view.picture is not None):
                continue
            show_at, is_first = time.monotonic() + every_seconds, False
            if console.json:
                console.emit(feed.document(view))
                continue
            for line in screen(view, terminal_columns(sys.stdout, context.environment), _ALL_LINES):
                console.line(plain(line))
            console.line()
            console.flush()


COMMANDS = {"watch": Command(_configure, _run)}
