"""``trainq logs``: the log lines of a service, of a job across all services, or of everything."""

from __future__ import annotations

import contextlib
import glob
import re
import time
from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from trainq.cli import arguments as types
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.logfiles import LogLine, Tail, Wanted, logs_in, newest
from trainq.cli.registry import Command
from trainq.config import Home
from trainq.errors import NotFoundError
from trainq.logs import JOBS_FOLDER

DEFAULT_LINES = 50
_POLL_SECONDS = 0.3
_JOB = re.compile(r"^(?:([a-z]+)-)?(\d+)$")
# A train job and its preparation have one number, and one story.
_SUBMITTED = ("train", "prepare")
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
    job = _JOB.match(arguments.what)
    pattern = "*.log" if job or not arguments.what else f"{glob.escape(arguments.what)}.log"
    kinds = _SUBMITTED if job is None or job[1] in (None, *_SUBMITTED) else (job[1],)
    wanted = _about(kinds, job[2]) if job else _everything
    paths = logs_in(home.logs, pattern)
    if arguments.what and not job and not paths:
        raise _no_such_log(home, arguments.what)
    with contextlib.ExitStack() as closing:
        # The tails first: what is written from now on is theirs, what was written before is not.
        tails = {path: closing.enter_context(Tail(path, wanted)) for path in paths}
        found = newest({path: tail.position for path, tail in tails.items()}, arguments.lines, wanted)
        if job:
            found = _with_kept(home, [f"{kind}-{job[2]}" for kind in kinds], found, arguments.lines)
        _write(found, console)
        while arguments.follow:
            time.sleep(_POLL_SECONDS)
            for path in logs_in(home.logs, pattern):
                if path not in tails:
                    tails[path] = closing.enter_context(Tail(path, wanted, from_start=True))
            _write(sorted((line for tail in tails.values() for line in tail.read()), key=lambda line: line.at), console)
    return 0


def _everything(_line: bytes) -> bool:
    return True


def _with_kept(home: Home, jobs: list[str], found: list[LogLine], lines: int) -> list[LogLine]:
    """With what was kept of the jobs' attempts, which may be older than all logs; no line twice."""
    paths = [path for job in jobs for path in logs_in(home.logs / JOBS_FOLDER, f"{job}.*.log")]
    kept = newest({path: path.stat().st_size for path in paths}, lines, _everything)
    known = {line.raw for line in found}
    both = sorted([*(line for line in kept if line.raw not in known), *found], key=lambda line: line.at)
    return both[-lines:] if lines else []


def _about(kinds: tuple[str, ...], number: str) -> Wanted:
    """Lines that name a job of this number and one of the kinds, whatever the field is called."""
    named = re.compile(rb'"(?:%b)-%b"' % ("|".join(kinds).encode(), number.encode()))
    return lambda line: named.search(line) is not None


def _no_such_log(home: Home, name: str) -> NotFoundError:
    known = ", ".join(path.stem for path in logs_in(home.logs, "*.log")) or "none yet"
    return NotFoundError(f"there is no log of {name!r} in {home.logs}", mend=f"there are: {known}")


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
