"""``trainq submit``: contents are stored first, durable; then the broker accepts them, many in one message."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trainq import files, ingest, orders
from trainq.cli import arguments as types
from trainq.cli.console import Console, error_document, printable
from trainq.cli.context import Context
from trainq.cli.expanding import STDIN, Source, expand
from trainq.cli.parsing import CommandLineError
from trainq.cli.registry import Command
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import (
    BrokerUnavailableError,
    InputError,
    SendAgainError,
    StorageError,
    StorageFullError,
    TrainqError,
    UsageError,
)
from trainq.ids import new_request_id
from trainq.jobs import Priority
from trainq.messages import MAX_MESSAGE_BYTES, Overrides, Receipt, Submit, SubmitItem, Submitted, encode
from trainq.orders import receipt_error

MAX_ITEMS = 1000
MAX_AFTER = 100  # as the protocol has it
# A full message of items is one transaction, in which the broker looks for each file's content.
ANSWER_SECONDS = 15.0
# Between two tries with content that retention is just letting go of, which takes it milliseconds.
AGAIN_SECONDS = (0.2, 0.8, 2.0, 4.0, 8.0)
_ALREADY = {"succeeded": "already trained", "running": "already training"}


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE",
                        help="a file, a folder (all .jsonl, .jsonl.gz and .jsonl.zst below it), a pattern, or - for "
                             "stdin")
    parser.add_argument("--priority", choices=[priority.name.lower() for priority in Priority], default="normal")
    parser.add_argument("--after", action="append", default=[], type=types.job_id, metavar="JOB",
                        help="train only when this job has succeeded; may be repeated")
    parser.add_argument("--after-any", action="store_true", help="with --after: however that job ends")
    parser.add_argument("--epochs", type=types.epochs, metavar="N", help="go through the rows so many times")
    parser.add_argument("--set", action="append", default=[], type=types.override, metavar="NAME=VALUE", dest="wishes",
                        help="a setting of [train] for these files alone: learning_rate=1e-4; may be repeated")
    parser.add_argument("--map", type=types.column_map, metavar="FIELD=COLUMN,...",
                        help="which column holds which field: prompt=question,completion=answer")
    parser.add_argument("--wait", action="store_true", help="return when all of them have ended")
    parser.add_argument("--check", action="store_true",
                        help="submit nothing: judge the files, and say what training them would take")
    parser.add_argument("--force", action="store_true", help="train again what was trained already")


class Submission:
    """One run of ``submit``: what is stored and not yet sent, and what became of every file so far."""

    def __init__(self, arguments: Namespace, console: Console, home: Home, broker: BrokerClient) -> None:
        self._arguments = arguments
        self._console = console
        self._home = home
        self._broker = broker
        self._items: list[tuple[Source, SubmitItem]] = []
        self._bytes = 0
        self.outcomes: list[dict[str, Any]] = []
        self.jobs: list[str] = []
        self.codes: set[int] = set()
        self._overrides = overrides_of(arguments)

    def take(self, source: Source | InputError) -> None:
        """Store one file; what is wrong with it is its own affair.

        Raises:
            StorageError: the disk, not the file, is at fault: there is no use in going on.
        """
        try:
            if isinstance(source, InputError):
                raise source
        except InputError as error:
            self._failed(error.file or STDIN, error)
            return
        self._show(source)
        item = self._stored(source)
        if item is None:
            return
        self._items.append((source, item))
        self._bytes += len(encode(item))
        if len(self._items) == MAX_ITEMS or self._bytes > MAX_MESSAGE_BYTES // 2:
            self.send()

    def _show(self, source: Source) -> None:
        if self._console.lively:
            from trainq.cli.rendering import cut

            self._console.show(cut(printable(f"storing {source.name}"), self._console.talk_width))

    def send(self) -> None:
        """Hand in what is stored; the receipts are printed as they come.

        Raises:
            BrokerUnavailableError: with what to do then.
        """
        items, self._items, self._bytes = self._items, [], 0
        for pause in (*AGAIN_SECONDS, 0.0):
            if not items:
                return
            try:
                reply = self._broker.call(Submit(request_id=new_request_id(), items=[item for _, item in items]),
                                          Submitted, timeout_seconds=ANSWER_SECONDS)
            except BrokerUnavailableError as error:
                raise BrokerUnavailableError(error.message, mend=self._advice()) from error
            again = []
            for (source, item), receipt in zip(items, reply.receipts, strict=True):
                if receipt.error_code == SendAgainError.code and source.path is not None and pause:
                    again.append(source)  # retention is just letting go of this content
                else:
                    self._received(str(source.path or STDIN), item.name, receipt)
            if again:
                time.sleep(pause)
            items = [(source, stored) for source in again if (stored := self._stored(source)) is not None]

    def _stored(self, source: Source) -> SubmitItem | None:
        """Store it; None, once it is said, where the file is at fault."""
        try:
            return self._store(source)
        except InputError as error:
            self._failed(error.file or STDIN, error)
            return None

    def _store(self, source: Source) -> SubmitItem:
        if source.path is None:
            stored = ingest.store_stream(self._home, sys.stdin.buffer, "stdin")
        else:
            stored = ingest.store_file(self._home, source.path)
        wanted = self._arguments
        return SubmitItem(
            request_id=new_request_id(), name=source.name, digest=stored.digest, size_bytes=stored.size_bytes,
            priority=Priority[wanted.priority.upper()], after=tuple(dict.fromkeys(wanted.after)),
            after_any=wanted.after_any, force=wanted.force, overrides=self._overrides)

    def _received(self, file: str, name: str, receipt: Receipt) -> None:
        if (error := receipt_error(receipt)) is not None:
            self._failed(file, error)
            return
        self.outcomes.append({"file": file, "name": name, "job": receipt.job, "state": receipt.state,
                              "duplicate": receipt.duplicate})
        self.jobs.append(receipt.job)
        if not self._console.json:
            said = f"{receipt.state}" if not receipt.duplicate else \
                f"{_ALREADY.get(receipt.state, f'already {receipt.state}')} (duplicate)"
            self._console.line(f"{receipt.job}  {said}  {printable(name)}")

    def _failed(self, file: str, error: TrainqError) -> None:
        self.codes.add(error.exit_code)
        self.outcomes.append({"file": file, "error": error_document(error)})
        self._console.say(str(error) if isinstance(error, InputError) else f"{file}: {error}")

    def _advice(self) -> str:
        if self._arguments.force:
            return "is it running? supervisorctl status; look with trainq list before submitting with --force again"
        return ("is it running? supervisorctl status; the same command may be given again, "
                "the same content is the same job")

    @property
    def exit_code(self) -> int:
        """0, or the code of the files that failed; for different reasons that of unacceptable input."""
        return max(self.codes, default=0) if len(self.codes) < 2 else InputError.exit_code


def overrides_of(arguments: Namespace) -> Overrides:
    """What these files are to have otherwise than the configuration says.

    Raises:
        CommandLineError: it says two things of one setting.
    """
    try:
        return orders.overrides_of(arguments.epochs, arguments.map, arguments.wishes)
    except UsageError as error:
        raise CommandLineError(error.message, mend=error.mend) from error


def _run(arguments: Namespace, context: Context) -> int:
    if len(arguments.after) > MAX_AFTER:
        raise CommandLineError(f"--after names more than {MAX_AFTER} jobs", mend="wait for the last of them")
    if arguments.check:
        from trainq.cli.validating import judge

        return judge(arguments, context)
    os.umask(0o077)
    console, home = context.console, context.home
    for folder in home.folders():
        files.make_directory(folder)
    document: dict[str, Any] = {}
    try:
        with BrokerClient(home) as broker:
            submission = Submission(arguments, console, home, broker)
            document["receipts"] = submission.outcomes
            _submit_all(submission, expand(arguments.files))
            code = submission.exit_code
        jobs = list(dict.fromkeys(submission.jobs))
        if arguments.wait and jobs:
            from trainq.cli.waiting import wait_for

            ended, waited = wait_for(jobs, context)
            document["jobs"] = ended
            code = code or waited
        elif jobs and not console.json:
            _hint(jobs, context)
    except TrainqError as error:
        console.fail(error, **document)
        return error.exit_code
    except KeyboardInterrupt:
        if console.json:
            console.emit(document)
        raise
    if console.json:
        console.emit(document)
    return code


def _submit_all(submission: Submission, sources: Iterator[Source | InputError]) -> None:
    try:
        for source in sources:
            submission.take(source)
    except (StorageError, StorageFullError):
        submission.send()  # what was stored before the disk gave up is as good as any
        raise
    submission.send()


def _hint(jobs: list[str], context: Context) -> None:
    """What to do next; and for a person at a terminal, where the first of them stands and why."""
    console = context.console
    if len(jobs) == 1:
        console.say(f"watch it: trainq follow {jobs[0]}")
    else:
        console.say("watch them: trainq watch, trainq follow; wait for all: trainq wait")
    if console.lively:
        from trainq.cli.standing import say_standing

        say_standing(jobs[0], context)


COMMANDS = {"submit": Command(_configure, _run)}
