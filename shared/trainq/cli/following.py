"""``trainq follow``: one job with a progress bar until it has ended, whatever is restarted meanwhile."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace

import msgspec

from trainq.cli import arguments as types
from trainq.cli import picturing, wording
from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.pacing import progress_line
from trainq.cli.patience import PatientClient
from trainq.cli.registry import Command
from trainq.cli.rendering import cut
from trainq.cli.waiting import EXIT_NOT_SUCCEEDED, POLL_SECONDS, check_same, ending_line
from trainq.forecasting import Pace
from trainq.ids import new_request_id
from trainq.jobs import ENDED, JobKind, JobState
from trainq.messages import GetOverview, JobDetail, JobView, Overview, ShowJob

# Where stderr is no terminal there is no moving line; a file of progress wants few ones.
_PLAIN_SECONDS = 10.0


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("job", nargs="?", type=types.job_id, metavar="JOB",
                        help="train-7, or 7 for short; none: the one that runs, or the next one")


def _run(arguments: Namespace, context: Context) -> int:
    with PatientClient(context.home, context.console) as broker:
        job = arguments.job or _present(broker)
        if not job:
            context.console.say("there is nothing to follow: no job runs or waits")
            return 0
        try:
            view = Following(job, broker, context).to_the_end()
        except KeyboardInterrupt:
            context.console.say(f"not following any longer; {job} goes on")
            raise
    if not context.console.json:
        context.console.line(ending_line(view, context.console))
    return 0 if view.state is JobState.SUCCEEDED else EXIT_NOT_SUCCEEDED


def _present(broker: PatientClient) -> str:
    overview = broker.ask(GetOverview(request_id=new_request_id()), Overview)
    for job in (*overview.running, *overview.waiting):
        if job.kind is JobKind.TRAIN:
            return job.id
    return ""


class Following:
    """One job being watched."""

    def __init__(self, job: str, broker: PatientClient, context: Context) -> None:
        self._job = job
        self._broker = broker
        self._context = context
        self._pace = Pace()
        self._emitted: dict[str, object] = {}
        self._told = ""
        self._told_at = -_PLAIN_SECONDS

    def to_the_end(self) -> JobView:
        """Show the job until it has ended; its last view."""
        first: JobView | None = None
        while True:
            view = self._ask(self._job)
            check_same(first := first or view, view)
            preparation = self._ask(f"prepare-{view.number}") if _is_being_prepared(view) else None
            if self._context.console.json:
                self._emit(view, preparation)
            if view.state in ENDED:
                self._context.console.clear()
                return view
            if not self._context.console.json:
                self._tell(*self._words(view, preparation))
            time.sleep(POLL_SECONDS)

    def _ask(self, job: str) -> JobView:
        return self._broker.ask(ShowJob(request_id=new_request_id(), job=job), JobDetail).job

    def _emit(self, view: JobView, preparation: JobView | None) -> None:
        """One line of JSON for each change."""
        document = {"job": msgspec.to_builtins(view),
                    "preparation": None if preparation is None else msgspec.to_builtins(preparation)}
        if document != self._emitted:
            self._emitted = document
            self._context.console.emit(document)

    def _words(self, view: JobView, preparation: JobView | None) -> tuple[str, str]:
        """(what the job is at, the whole line); a plain log gets a line at once when the former changes."""
        now, width = time.monotonic(), self._context.console.talk_width
        label = printable(f"{view.id} {cut(view.name, 30)}")
        if view.state is JobState.RUNNING:
            if view.cancel_reason is not None:
                return "cancelling", cut(f"{label} {printable(wording.standing(view))}", width)
            progress = view.progress
            if progress is None or not progress.steps:
                return "starting", cut(f"{label} starting", width)
            self._pace.note(progress.step, now)
            return "running", progress_line(label, progress, self._pace.seconds_left(progress, now), width)
        if preparation is not None and preparation.state is JobState.RUNNING and preparation.progress is not None \
                and preparation.progress.steps:
            progress = preparation.progress
            return "being prepared", progress_line(f"{label} being prepared", progress, progress.seconds_left, width)
        overview = self._broker.ask(GetOverview(request_id=new_request_id()), Overview)
        why = picturing.fold(self._context, overview).why
        standing = wording.standing(view)
        line = printable(f"{label} {view.state.value} ({standing}): {why}")
        return f"{view.state.value} {standing}", cut(line, width)

    def _tell(self, at: str, line: str) -> None:
        console, now = self._context.console, time.monotonic()
        if console.lively:
            console.show(line)
        elif at != self._told or now - self._told_at >= _PLAIN_SECONDS:
            console.say(line)
            self._told, self._told_at = at, now


def _is_being_prepared(view: JobView) -> bool:
    return view.kind is JobKind.TRAIN and not view.prepared and view.state not in ENDED


COMMANDS = {"follow": Command(_configure, _run)}
