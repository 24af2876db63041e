"""``trainq events``: what happened, from the journal, in order and without gaps."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import msgspec

from trainq.cli import arguments as types
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.rendering import cut, moment
from trainq.cli.waiting import POLL_SECONDS
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import Events, EventView, Replay

NEWEST_SHOWN = 50
# For machines; people look a file up by its job.
_HIDDEN = frozenset({"type", "job", "request_id", "request_digest", "digest", "shard_digest", "session"})


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--after", type=types.natural, metavar="SEQ",
                        help=f"those behind this number (default: the newest {NEWEST_SHOWN}; with --json or --job "
                             "all)")
    parser.add_argument("--job", type=types.job_id, metavar="JOB", help="only this job's")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new ones as they come")


def _run(arguments: Namespace, context: Context) -> int:
    if arguments.follow:
        with PatientClient(context.home, context.console) as patient:
            reader = _Reader(patient.ask, arguments.job or "", context.console)
            reader.start(arguments.after)
            while True:
                reader.read()
                time.sleep(POLL_SECONDS)
    with BrokerClient(context.home) as broker:
        reader = _Reader(broker.call, arguments.job or "", context.console)
        reader.start(arguments.after)
        reader.read()
    return 0


class _Reader:
    """A place in the journal that only moves on."""

    def __init__(self, ask: Callable[[Replay, type[Events]], Events], job: str, console: Console) -> None:
        self._ask = ask
        self._job = job
        self._console = console
        self._seq = 0
        self._journal_id = ""

    def start(self, after: int | None) -> None:
        """Begin behind ``after``; None: where the newest are, but for machines and for one job at the beginning."""
        self._seq = after or 0
        if after is None and not self._job and not self._console.json:
            head = self._ask(Replay(request_id=new_request_id(), after_seq=0, limit=1), Events)
            self._seq = max(0, head.head_seq - NEWEST_SHOWN)

    def read(self) -> None:
        """Write all events from here to the journal's present end."""
        while True:
            page = self._ask(Replay(request_id=new_request_id(), after_seq=self._seq, job=self._job), Events)
            if self._journal_id not in ("", page.journal_id):
                self._console.say(f"this is another journal now, {page.journal_id}; its events from the first")
                self._journal_id, self._seq = page.journal_id, 0
                continue
            self._journal_id = page.journal_id
            if not page.events:
                self._seq = max(self._seq, page.head_seq)
                break
            for event in page.events:
                self._write(event)
            self._seq = page.events[-1].seq
        self._console.flush()

    def _write(self, event: EventView) -> None:
        if self._console.json:
            self._console.emit(msgspec.to_builtins(event))
        else:
            line = event_line(event)
            self._console.line(line if self._console.width is None else cut(line, self._console.width))


def event_line(event: EventView) -> str:
    """An event for people; what has parts of its own (settings, reports) is left to ``--json``."""
    told = [f"{name}={value}" for name, value in event.body.items()
            if name not in _HIDDEN and value not in ("", None) and not isinstance(value, dict | list)]
    fields = (str(event.seq), moment(event.at), event.type, event.job, " ".join(told))
    return "  ".join(printable(field) for field in fields if field)


COMMANDS = {"events": Command(_configure, _run)}
