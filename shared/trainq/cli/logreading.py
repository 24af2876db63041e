"""``trainq logs``: the log lines of a service, of a job across all services, or of everything."""

from __future__ import annotations

import contextlib
import time
from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from trainq import logfiles
from trainq.cli import arguments as types
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.logfiles import LogLine, Tail, logs_in

DEFAULT_LINES = 50
_POLL_SECONDS = 0.3
_LEVEL_STYLES = {"error": "bad", "warning": "waiting", "debug": "faint"}
_HEAD = ("at", "level", "service", "pid", "event", "traceback")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", default="", metavar="SERVICE|JOB",
                        help="broker, trainer, ..., or train-7; none: all services")
    parser.add_argument("-n", "--lines", type=types.natural, default=DEFAULT_LINES, metavar="N",
                        help=f"the newest so many (default {DEFAULT_LINES})")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new ones as they come")


def _run(arguments: Namespace, context: Context) -> int:
    home, console = context.home, context.console
    choice = logfiles.of_everything() if not arguments.what else \
        logfiles.of_job(arguments.what) or logfiles.of_service(home, arguments.what)
    paths = logs_in(home.logs, choice.pattern)
    with contextlib.ExitStack() as closing:
        # The tails first: what is written from now on is theirs, what was written before is not.
        tails = {path: closing.enter_context(Tail(path, choice.wanted)) for path in paths}
        ends = {path: tail.position for path, tail in tails.items()}
        _write(logfiles.newest_of(home, choice, ends, arguments.lines), console)
        while arguments.follow:
            time.sleep(_POLL_SECONDS)
            for path in logs_in(home.logs, choice.pattern):
                if path not in tails:
                    tails[path] = closing.enter_context(Tail(path, choice.wanted, from_start=True))
            _write(sorted((line for tail in tails.values() for line in tail.read()), key=lambda line: line.at), console)
    return 0


def _write(lines: list[LogLine], console: Console) -> None:
    for line in lines:
        if console.json:
            console.emit(line.record if line.record is not None else {"at": line.at, "raw": line.raw})
        elif line.record is None:
            console.line(printable(line.raw))
        else:
            for text in record_lines(line.record, console):
                console.line(text)
    console.flush()


def record_lines(record: dict[str, Any], console: Console) -> list[str]:
    """A log record for people: time, level, service, event, facts; a traceback below it."""
    level = str(record.get("level", ""))
    told = " ".join(f"{name}={value}" for name, value in record.items() if name not in _HEAD)
    fields = [printable(field) for field in (_local(str(record.get("at", ""))), level, str(record.get("service", "")),
                                             str(record.get("event", "")), told) if field]
    lines = [console.paint("  ".join(fields), _LEVEL_STYLES.get(level, ""))]
    return lines + [f"    {printable(text)}" for text in str(record.get("traceback", "")).splitlines()]


def _local(at: str) -> str:
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    except ValueError:
        return at


COMMANDS = {"logs": Command(_configure, _run)}
