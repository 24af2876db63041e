"""Which jobs a command means: those named, or all that a filter finds; and the question before many are changed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from trainq.choosing import CAP, JobFilter, matching
from trainq.cli import arguments as types
from trainq.cli.context import Context
from trainq.cli.listing import job_lines
from trainq.cli.parsing import CommandLineError
from trainq.client import BrokerClient
from trainq.jobs import JobKind, JobState
from trainq.messages import JobView


class NobodyToAskError(CommandLineError):
    """Many jobs would be changed, nobody can be asked, and ``--yes`` was not said. ``jobs`` are those."""

    def __init__(self, verb: str, jobs: Sequence[JobView]) -> None:
        self.jobs = [job.id for job in jobs]
        super().__init__(f"it would {verb} {_several(jobs)}, and there is nobody to ask",
                         mend="the same command with --yes does it")


def add_choice(parser: ArgumentParser, states: tuple[JobState, ...], kinds: tuple[JobKind, ...]) -> None:
    """Declare the jobs to name, and the filters; ``states`` and ``kinds`` are those that the command can do it to."""
    parser.add_argument("jobs", type=types.job_id, nargs="*", metavar="JOB", help="train-7, or 7 for short")
    filters = parser.add_argument_group("in place of names, all jobs that")
    filters.add_argument("--state", action="append", default=[], choices=[state.value for state in states],
                         help="are in this state; may be repeated (default: any of these)")
    if len(kinds) > 1:
        filters.add_argument("--kind", choices=[*(kind.value for kind in kinds), "all"],
                             help=f"are of this kind (default: {kinds[0].value})")
    filters.add_argument("--name", type=types.text, metavar="GLOB", help="have a name like this: 'crawl-*.jsonl'")
    filters.add_argument("--failed", action="store_true", help="had a failed attempt, or were set aside")
    filters.add_argument("--older-than", type=types.age, metavar="TIME",
                         help="were submitted longer ago than this: 90s, 30m, 2h, 7d")
    filters.add_argument("--limit", type=types.positive, metavar="N",
                         help=f"at most so many, the oldest (default {CAP})")
    filters.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(choosable_states=states, choosable_kinds=kinds)


def chosen(arguments: Namespace, context: Context, broker: BrokerClient,
           verb: str) -> dict[str, JobState | None] | None:
    """The ids of the jobs meant; None if the person did not want it.

    Where a filter chose them they come oldest first, each with the state for which it was chosen.

    Raises:
        CommandLineError: neither or both were given.
        NobodyToAskError: a filter found some, and ``--yes`` was not said.
    """
    is_filtered = bool(arguments.state or getattr(arguments, "kind", None) or arguments.name is not None
                       or arguments.failed or arguments.older_than is not None)
    if arguments.jobs and is_filtered:
        raise CommandLineError("it names jobs, and gives filters as well", mend="name jobs, or choose them by filters")
    if not arguments.jobs and not is_filtered:
        raise CommandLineError("it says nothing of which jobs are meant",
                               mend=f"name some, or choose them: trainq {verb} --name 'crawl-*.jsonl'")
    if arguments.jobs:
        if arguments.limit is not None:
            raise CommandLineError("--limit goes with filters", mend="name fewer jobs")
        return dict.fromkeys(arguments.jobs)
    taken, there = matching(broker, _filter(arguments))
    if there > len(taken):
        context.console.say(f"{there} jobs match; these are the oldest {len(taken)} (--limit takes more at once)")
    if not taken:
        context.console.say("no such jobs")
        return {}
    return {job.id: job.state for job in taken} if arguments.yes or _is_wanted(taken, context, verb) else None


def _filter(arguments: Namespace) -> JobFilter:
    kind = getattr(arguments, "kind", None)
    kinds = arguments.choosable_kinds if kind == "all" else \
        (JobKind(kind),) if kind else arguments.choosable_kinds[:1]
    return JobFilter(kinds=kinds, states=tuple(map(JobState, arguments.state)) or arguments.choosable_states,
                     name=arguments.name, failed=arguments.failed, older_than=arguments.older_than,
                     limit=arguments.limit or CAP)


def _several(jobs: Sequence[JobView]) -> str:
    return f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"


def _is_wanted(jobs: Sequence[JobView], context: Context, verb: str) -> bool:
    """Show what would be done, and ask.

    Raises:
        NobodyToAskError: there is nobody to ask.
    """
    console = context.console
    if not console.json:
        for line in job_lines(list(jobs), console):
            console.line(line)
    if not console.can_ask:
        raise NobodyToAskError(verb, jobs)
    if console.ask(f"{verb} {_several(jobs)}?"):
        return True
    console.say("nothing was done")
    return False
