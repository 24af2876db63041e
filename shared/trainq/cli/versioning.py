"""``trainq version``."""

from __future__ import annotations

import platform
from argparse import ArgumentParser, Namespace

from trainq import __version__
from trainq.cli.context import Context
from trainq.cli.registry import Command


def _configure(_parser: ArgumentParser) -> None:
    pass


def _run(_arguments: Namespace, context: Context) -> int:
    if context.console.json:
        context.console.emit({"version": __version__, "python": platform.python_version()})
    else:
        context.console.line(f"trainq {__version__}")
    return 0


COMMANDS = {"version": Command(_configure, _run)}
