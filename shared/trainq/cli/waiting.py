"""``trainq wait``: until jobs have ended, whatever is restarted meanwhile.

A round asks for the overview; only when the journal has grown are the new events asked for, and only jobs named in
them are looked at, so that waiting for a thousand jobs costs no more than for one. Where the journal is another one all
of a sudden (a backup was restored), all jobs are looked at anew, and each must still be the one that was meant.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from trainq.cli import arguments as types
from trainq.cli import picturing, wording
from trainq.cli.console import Console, printable
from trainq.cli.context import Context
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.rendering import cut
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import AnotherJournalError, NotFoundError, UsageError
from trainq.events import Reader
from trainq.ids import new_request_id
from trainq.jobs import ENDED, JobKind, JobState
from trainq.messages import GetOverview, JobDetail, JobView, ListJobs, Overview, ShowJob
from trainq.orders import all_jobs
from trainq.suffixes import is_unfinished_name

EXIT_NOT_SUCCEEDED = 1
POLL_SECONDS = 0.3


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", type=types.job_id, metavar="JOB",
                        help="train-7, or 7 for short; none: all that have not ended")
    parser.add_argument("--idle", action="store_true",
                        help="until there is nothing to do: no file, job or task waits or is at work")


def _run(arguments: Namespace, context: Context) -> int:
    if arguments.idle:
        if arguments.jobs:
            raise UsageError("--idle waits for all of them", mend="name jobs, or --idle")
        return _wait_until_idle(context)
    jobs = list(dict.fromkeys(arguments.jobs)) or _unfinished(context)
    if not jobs:
        context.console.say("there is nothing to wait for")
    ended, code = wait_for(jobs, context)
    if context.console.json:
        context.console.emit({"jobs": ended})
    return code


def _wait_until_idle(context: Context) -> int:
    """Until nothing is to be done. What is held or set aside waits for a person, and is not waited for."""
    console = context.console
    with PatientClient(context.home, console) as broker:
        while True:
            # What the watcher takes from there is a job before it is gone.
            waits = _in_inbox(context.home)
            overview = broker.ask(GetOverview(request_id=new_request_id()), Overview)
            open_jobs = sum(overview.counts.get(kind.value, {}).get(state.value, 0)
                            for kind in JobKind for state in (JobState.QUEUED, JobState.RUNNING))
            if not waits and not open_jobs:
                break
            if console.lively:
                why = picturing.fold(context, overview).why
                text = f"waiting until there is nothing to do: {open_jobs} open, {waits} in the inbox; {why}"
                console.show(cut(printable(text), console.talk_width))
            time.sleep(POLL_SECONDS)
    console.clear()
    if console.json:
        console.emit({"idle": True})
    else:
        console.line("idle")
    return 0


def _in_inbox(home: Home) -> int:
    """How many files lie there, claimed ones too; those that the watcher never takes (hidden, half copied) left out."""
    found = 0
    for _, folders, names in os.walk(home.inbox):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += sum(not name.startswith(".") and not is_unfinished_name(name) for name in names)
    return found + (sum(1 for _ in home.claimed.iterdir()) if home.claimed.is_dir() else 0)


def _unfinished(context: Context) -> list[str]:
    states = tuple(state for state in JobState if state not in ENDED and state is not JobState.HELD)
    with BrokerClient(context.home) as broker:
        return [job.id for job in all_jobs(broker, ListJobs(request_id="", states=states))][::-1]


def wait_for(jobs: list[str], context: Context) -> tuple[list[dict[str, Any]], int]:
    """Wait until all ``jobs`` have ended, or are held; each as a document, and 0 or :data:`EXIT_NOT_SUCCEEDED`.

    Raises:
        NotFoundError: there is no such job.
        KeyboardInterrupt: after saying that the jobs go on.
    """
    with PatientClient(context.home, context.console) as broker:
        waiting = Waiting(jobs, broker, context)
        try:
            while waiting.open:
                waiting.turn()
        except KeyboardInterrupt:
            context.console.say(f"not waiting any longer; {', '.join(list(waiting.open)[:5])}"
                                f"{' ...' if len(waiting.open) > 5 else ''} goes on")
            raise
    context.console.clear()
    ended = [waiting.ended[job] for job in jobs]
    failed = any(job.state is not JobState.SUCCEEDED for job in ended)
    return msgspec.to_builtins(ended), EXIT_NOT_SUCCEEDED if failed else 0


class Waiting:
    """Which of the jobs are still ``open``, and how the others ``ended``."""

    def __init__(self, jobs: list[str], broker: PatientClient, context: Context) -> None:
        self.open = dict.fromkeys(jobs)
        self.ended: dict[str, JobView] = {}
        self._broker = broker
        self._context = context
        self._reader: Reader | None = None
        self._seen: dict[str, JobView] = {}

    def turn(self) -> None:
        """One round; it ends with a pause unless all jobs have ended."""
        overview = self._broker.ask(GetOverview(request_id=new_request_id()), Overview)
        touched = self._touched(overview)
        for job in [job for job in self.open if job in touched]:
            self._look(job)
        if self.open:
            self._show(overview)
            time.sleep(POLL_SECONDS)

    def _touched(self, overview: Overview) -> set[str]:
        """The jobs of which something may have changed since the last round; at first all."""
        reader = self._reader
        try:
            if reader is not None:
                if (overview.seq, overview.journal_id) == (reader.seq, reader.journal_id):
                    return set()
                return {event.job for event in reader.read()}
        except AnotherJournalError as error:
            self._context.console.say(f"{error.message}; looking at all jobs anew")
        self._reader = Reader(self._broker.ask, since=overview.seq, journal_id=overview.journal_id)
        return set(self.open)

    def _look(self, job: str) -> None:
        view = self._broker.ask(ShowJob(request_id=new_request_id(), job=job), JobDetail).job
        check_same(self._seen.setdefault(job, view), view)
        # What is held waits for a person: nobody knows how long.
        if view.state in ENDED or view.state is JobState.HELD:
            del self.open[job]
            self.ended[job] = view
            if not self._context.console.json:
                self._context.console.line(ending_line(view, self._context.console))

    def _show(self, overview: Overview) -> None:
        console = self._context.console
        if console.lively:
            why = picturing.fold(self._context, overview).why
            text = f"waiting for {len(self.open)} job{'s' if len(self.open) > 1 else ''}: {why}"
            console.show(cut(printable(text), console.talk_width))


def check_same(before: JobView, now: JobView) -> None:
    """Make sure that two views show one job.

    Raises:
        NotFoundError: a journal that was put back, or another one, has another job under the id.
    """
    if (before.submitted_at, before.digest) != (now.submitted_at, now.digest):
        raise NotFoundError(f"{now.id} is another job now ({now.name}): the journal is another one, or was put back",
                            mend="trainq list shows the jobs that it has")


def ending_line(job: JobView, console: Console) -> str:
    """How a job ended, in a line of stdout."""
    id_, state, *rest = (printable(field) for field in wording.ending(job))
    return "  ".join([id_, console.paint(state, wording.STATE_STYLES[job.state.value]), *rest])


COMMANDS = {"wait": Command(_configure, _run)}
