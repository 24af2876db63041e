"""``trainq events``: what happened, from the journal, in order and without gaps."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

import msgspec

from trainq.cli import arguments as types
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.rendering import cut, moment
from trainq.cli.waiting import POLL_SECONDS
from trainq.client import BrokerClient
from trainq.errors import AnotherJournalError
from trainq.events import Ask, Reader
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
            printer = _Printer(patient.ask, arguments.job or "", context.console)
            printer.start(arguments.after)
            while True:
                printer.read()
                time.sleep(POLL_SECONDS)
    with BrokerClient(context.home) as broker:
        printer = _Printer(broker.call, arguments.job or "", context.console)
        printer.start(arguments.after)
        printer.read()
    return 0


class _Printer:
    """Writes events from a place in the journal that only moves on."""

    def __init__(self, ask: Ask, job: str, console: Console) -> None:
        self._ask = ask
        self._job = job
        self._console = console
        self._reader = Reader(ask, since=0, job=job)

    def start(self, after: int | None) -> None:
        """Begin behind ``after``; None: where the newest are, but for machines and for one job at the beginning."""
        if after is None and (self._job or self._console.json):
            return
        head_seq = self._ask(Replay(request_id=new_request_id(), after_seq=0, limit=1), Events).head_seq
        if after is not None and after > head_seq:
            self._console.say(f"the journal ends at event {head_seq}")
        since = max(0, head_seq - NEWEST_SHOWN) if after is None else min(after, head_seq)
        self._reader = Reader(self._ask, since=since, job=self._job)

    def read(self) -> None:
        """Write all events from here to the journal's present end; of another journal all, of one put back new ones."""
        try:
            for event in self._reader.read():
                self._write(event)
        except AnotherJournalError as error:
            is_other = error.found_id != error.journal_id
            told = "its events from the first" if is_other else "what happens from now"
            self._console.say(f"{error.message}; {told}")
            self._reader = Reader(self._ask, since=0 if is_other else error.head_seq, job=self._job)
        self._console.flush()

    def _write(self, event: EventView) -> None:
        if self._console.json:
            self._console.emit(msgspec.to_builtins(event))
        else:
            line = event_line(event)
            self._console.line(line if self._console.width is None else cut(line, self._console.width))


def event_line(event: EventView) -> str:
    """An event for people; what has parts of its own (settings, reports) is left to ``--json``."""
    # Those of a user's own event lie one deeper.
    fields = {**event.body, **event.body.get("fields", {})} if event.type == "UserNoted" else event.body
    told = [f"{name}={value}" for name, value in fields.items()
            if name not in _HIDDEN and value not in ("", None) and not isinstance(value, dict | list)]
    parts = (str(event.seq), moment(event.at), event.type, event.job, " ".join(told))
    return "  ".join(printable(part) for part in parts if part)


COMMANDS = {"events": Command(_configure, _run)}
