"""``trainq consolidate``: merge the adapter into the weights under it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from trainq.cli.context import Context
from trainq.cli.registry import Command
from trainq.cli.tasking import add_wait, ask
from trainq.cli.waiting import wait_for
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import JobKind, JobState
from trainq.messages import ConsolidateTask, JobList, ListJobs


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="before the files that wait, and not when none does")
    add_wait(parser)


def _run(arguments: Namespace, context: Context) -> int:
    code = ask(context, ConsolidateTask(now=arguments.now), wait=arguments.wait)
    if not arguments.wait or code or context.console.json:
        return code
    # The line goes on from it in a job of its own.
    with BrokerClient(context.home) as broker:
        request = ListJobs(request_id=new_request_id(), kinds=(JobKind.REBASE,), states=(JobState.QUEUED,
                                                                                         JobState.RUNNING))
        rebases = [job.id for job in broker.call(request, JobList).jobs]
    return wait_for(rebases, context)[1] if rebases else code


COMMANDS = {"consolidate": Command(_configure, _run)}
